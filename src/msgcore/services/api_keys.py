"""API keys of a project: made, listed, rolled and revoked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock, to_iso
from msgcore.core.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import ApiScope, Principal
from msgcore.security.api_keys import make_api_key
from msgcore.services.authenticator import Authenticator
from msgcore.services.ended_invites import end_invites
from msgcore.services.most import refuse_another
from msgcore.store import api_keys as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.members import shorten_invites
from msgcore.store.projects import hold_project

_SCOPES = frozenset(ApiScope)

OVERLAP = timedelta(hours=24)
"""How long a rolled key goes on working beside its successor."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key that was just made, with the secret that is shown this once."""

    id: str
    secret: str = field(repr=False)
    name: str
    prefix: str
    scopes: list[str]
    expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key as lists show it."""

    row: Any
    scopes: list[str]


class ApiKeyService:
    """Everything about the API keys of projects."""

    def __init__(self, *, database: Database, authenticator: Authenticator, clock: Clock) -> None:
        self._database = database
        self._authenticator = authenticator
        self._clock = clock

    async def create(
        self, principal: Principal, project_id: str, *, name: str, scopes: Sequence[str], expires_in: timedelta | None
    ) -> IssuedKey:
        """Make a key; one that a key makes ends with it, unless `expires_in` is less.

        Raises InvalidInputError for unknown scopes, ForbiddenError for more, or for longer, than the caller has.
        Raises ConflictError where the project has too many.
        """
        wanted = _checked_scopes(scopes)
        _may_grant(principal, wanted)
        expires_at = _end_of_new(principal, expires_in, self._clock.now())
        async with self._database.write() as connection:
            return await self._issue(connection, principal, project_id, name, wanted, expires_at)

    async def list(self, project_id: str) -> list[ListedKey]:
        """The keys that are not revoked, rolled ones included while they still work."""
        async with self._database.read() as connection:
            rows = await store.list_keys(connection, project_id, self._clock.now())
            scopes = await store.scopes_of_keys(connection, [row.id for row in rows])
        return [ListedKey(row, scopes.get(row.id, [])) for row in rows]

    async def revoke(self, principal: Principal, project_id: str, key_id: str) -> bool:
        """End a key now, also one that was rolled, and revoke the invitations that it made.

        Returns False if it was revoked before. Raises NotFoundError.
        """
        now = self._clock.now()
        async with self._database.write() as connection:
            row = await _lock(connection, project_id, key_id)
            if row.revoked_at is not None and row.revoked_at <= now:
                return False
            await store.revoke_key(connection, row.id, now)
            await end_invites(connection, principal, project_id, row.id, now)
            await record_audit(connection, principal, "api_key.revoked", row.id, project_id=project_id, now=now)
        self._authenticator.forget_key(row.id)
        return True

    async def roll(self, principal: Principal, project_id: str, key_id: str) -> tuple[IssuedKey, datetime]:
        """A successor with the same name, scopes and expiry, and when the old key ends, with its invitations.

        Raises NotFoundError for a key that is revoked, was rolled or has expired, and ForbiddenError when the
        caller would get scopes that it does not have, or a key that lives longer than it does.
        """
        async with self._database.write() as connection:
            old = await _lock(connection, project_id, key_id)
            if old.revoked_at is not None:
                raise NotFoundError(f"API key {key_id} is revoked or was rolled before: make a new one")
            scopes = (await store.scopes_of_keys(connection, [old.id])).get(old.id, [])
            _may_grant(principal, scopes)
            _may_roll(principal, old.expires_at)
            now = self._clock.now()
            if old.expires_at is not None and old.expires_at <= now:
                raise NotFoundError(f"API key {key_id} has expired: make a new one")
            ends_at = min(now + OVERLAP, old.expires_at or now + OVERLAP)
            await store.revoke_key(connection, old.id, ends_at)
            await shorten_invites(connection, old.id, ends_at)
            told, now = {"revoked_at": ends_at}, self._clock.now()
            await record_audit(
                connection, principal, "api_key.rolled", old.id, project_id=project_id, now=now, after=told
            )
            issued = await self._issue(connection, principal, project_id, old.name, scopes, old.expires_at, old.id)
        self._authenticator.forget_key(old.id)
        return issued, ends_at

    async def _issue(
        self,
        connection: AsyncConnection,
        principal: Principal,
        project_id: str,
        name: str,
        scopes: list[str],
        expires_at: datetime | None,
        rolled_from: str | None = None,
    ) -> IssuedKey:
        project = await hold_project(connection, project_id)
        if project is None:
            raise NotFoundError(f"Project '{project_id}' not found")
        refuse_another("keys", await store.count_unrevoked_keys(connection, project_id))
        made, now = make_api_key(project.environment), self._clock.now()
        key_id = new_id()
        row = {
            "id": key_id,
            "project_id": project_id,
            "key_hash": made.digest,
            "key_prefix": made.prefix,
            "key_suffix": made.suffix,
            "name": name,
            "expires_at": expires_at,
            "created_by": await _person_behind(connection, principal),
            "created_at": now,
        }
        await store.insert_key(connection, row, scopes)
        told = {"name": name, "scopes": scopes, "expires_at": expires_at, "rolled_from": rolled_from}
        await record_audit(connection, principal, "api_key.created", key_id, project_id=project_id, now=now, after=told)
        return IssuedKey(key_id, made.secret, name, made.prefix, scopes, expires_at, now)


async def _person_behind(connection: AsyncConnection, principal: Principal) -> str | None:
    """Who makes a key; if a key does, then who made that. None if they are no more."""
    if principal.kind == "jwt":
        return principal.id
    maker = await store.find_maker(connection, principal.id)
    return None if maker is None else str(maker.id)


async def _lock(connection: AsyncConnection, project_id: str, key_id: str) -> Any:
    """A key that is about to end: only one request ends it, and none that came late prolongs it."""
    canonical = canonical_id(key_id)
    row = None if canonical is None else await store.lock_key(connection, project_id, canonical)
    if row is None:
        raise NotFoundError(f"API key '{key_id[:64]}' not found")
    return row


def _checked_scopes(scopes: Sequence[str]) -> list[str]:
    """The scopes, sorted and each once. Raises InvalidInputError with every unknown one."""
    allowed = ", ".join(ApiScope)
    errors = [
        FieldError(f"/scopes/{index}", f"scopes[{index}] {scope[:64]!r} is no scope; use any of {allowed}")
        for index, scope in enumerate(scopes)
        if scope not in _SCOPES
    ]
    if errors:
        raise InvalidInputError.of(errors)
    return sorted(set(scopes))


def _may_grant(principal: Principal, scopes: Sequence[str]) -> None:
    """A key hands on no more than it has; what users may do is settled by their role."""
    missing = [scope for scope in scopes if scope not in principal.scopes]
    if principal.kind == "api-key" and missing:
        raise ForbiddenError(f"This API key cannot grant scopes that it does not have: {', '.join(missing)}")


def _end_of_new(principal: Principal, expires_in: timedelta | None, now: datetime) -> datetime | None:
    """When a new key ends. Else whoever has a key for a while could make one that stays."""
    most = principal.ends_at
    if expires_in is None:
        return most
    if most is not None and now + expires_in > most:
        days = (most - now).days
        shorter = f"use at most {days}, or " if days else ""
        message = (
            f"expiresInDays is {expires_in.days}, and this API key itself works until {to_iso(most)} only: "
            f"{shorter}leave it out, and the new key ends when this one does"
        )
        raise ForbiddenError(message, errors=[FieldError("/expiresInDays", message)])
    return now + expires_in


def _may_roll(principal: Principal, expires_at: datetime | None) -> None:
    """A successor ends when the old key would have, so a key may roll itself, and others that end no later."""
    most = principal.ends_at
    if most is not None and (expires_at is None or expires_at > most):
        raise ForbiddenError(
            f"This API key works until {to_iso(most)} only, and cannot roll one that works longer: "
            "roll it with a key that does, or as a person"
        )

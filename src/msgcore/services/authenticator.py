"""Who is calling, and what they may do: asked for every request, so answered for API keys from memory.

What was read about a key is kept for a few seconds. A change made by this process takes effect at once (the
services call `forget_*`), and so does one made by another, of which the database tells (`store.key_news`): while it
cannot, nothing is kept. People and their roles are read for each request: they make few, and what they may do has to
end at once in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cachetools import TTLCache
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import FieldError, ForbiddenError, NotFoundError, UnauthenticatedError
from msgcore.core.scopes import MINIMUM_ROLE, ApiScope, Principal, Role
from msgcore.security.api_keys import may_be_api_key
from msgcore.security.digests import digest
from msgcore.security.oidc_tokens import read_header
from msgcore.security.tokens import LOCAL_ALGORITHM, Tokens
from msgcore.services.account_rules import refuse_ended
from msgcore.services.key_usage import KeyUsage
from msgcore.services.oidc_users import OidcUsers
from msgcore.services.standing import role_in_project
from msgcore.store.api_keys import end_of, find_key_by_digest, scopes_of_keys
from msgcore.store.database import Database
from msgcore.store.key_news import KeyNews
from msgcore.store.projects import find_role
from msgcore.store.users import find_user

KEPT_SECONDS = 5.0
KEPT_ENTRIES = 10_000
_LONGEST_PROJECT_ID = 64


@dataclass(frozen=True, slots=True)
class _KnownKey:
    principal: Principal
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class KnownLogin:
    """Whose a token is, until when it is valid, and from when on those of its user are."""

    principal: Principal
    expires_at: datetime
    valid_from: datetime | None


class Authenticator:
    """Authenticates callers and checks what they may do."""

    def __init__(self, database: Database, tokens: Tokens, clock: Clock, oidc_users: OidcUsers | None = None) -> None:
        """`oidc_users` finds people who sign in elsewhere."""
        self._database = database
        self._tokens = tokens
        self._oidc_users = oidc_users
        self._clock = clock
        self._usage = KeyUsage(database)
        self._keys: TTLCache[str, _KnownKey] = self._cache()
        # Apart from the keys, so that a flood of guesses does not push them out.
        self._unknown_keys: TTLCache[str, bool] = self._cache()
        self._changes = 0
        self._keeps = False
        self._news = KeyNews(
            database, on_key=self.forget_key, on_project=self.forget_project, on_hearing=self._hear_changes
        )

    def start(self) -> None:
        """Begin to hear of changes that other processes make."""
        self._news.start()

    # --- who

    def recall(self, api_key: str) -> Principal | None:
        """The caller behind an API key if it was seen a moment ago and still works; no I/O."""
        known = self._keys.get(digest(api_key))
        if known is None:
            return None
        now = self._clock.now()
        if _is_over(known.revoked_at, now) or _is_over(known.expires_at, now):
            return None
        self._usage.note(known.principal.id, now)
        return known.principal

    async def authenticate(self, api_key: str | None, bearer: str | None) -> Principal:
        """The caller behind these credentials; an API key wins over a token.

        Raises UnauthenticatedError that says what is wrong with them.
        """
        if api_key:
            return self.recall(api_key) or await self._check_key(api_key)
        if bearer:
            return (await self.check_login(bearer)).principal
        raise UnauthenticatedError(
            "Authentication is required: send X-API-Key: <key>, Authorization: Bearer <token>, "
            "or the cookie that POST /api/v1/auth/session answers"
        )

    # --- what

    async def authorize(self, principal: Principal, *, project_id: str | None, scope: ApiScope) -> None:
        """Check that the caller may do this (in this project, if it is about one).

        Raises NotFoundError for a project that is not the caller's, exactly as for one that does not
        exist, and ForbiddenError that names the missing scope or role.
        """
        if principal.kind == "api-key":
            if project_id is not None and project_id != principal.project_id:
                raise _no_project(project_id)
            if scope not in principal.scopes:
                raise ForbiddenError(
                    f"This API key lacks the scope {scope.value}: let somebody who has it make a key with it "
                    f"(POST /api/v1/projects/{principal.project_id}/keys)"
                )
        elif project_id is not None:
            role = await self.role_of(principal, project_id)
            if role is None:
                raise _no_project(project_id)
            if role < MINIMUM_ROLE[scope]:
                needed = MINIMUM_ROLE[scope].label
                raise ForbiddenError(
                    f"This needs the role {needed} in the project; yours is {role.label}: let an admin or owner of it "
                    f"change that (PATCH /api/v1/projects/{project_id}/members/{principal.id})"
                )

    async def allows(self, principal: Principal, *, project_id: str, scope: ApiScope) -> bool:
        """Whether the caller may do this in a project of theirs."""
        try:
            await self.authorize(principal, project_id=project_id, scope=scope)
        except ForbiddenError:
            return False
        return True

    async def role_of(self, principal: Principal, project_id: str) -> Role | None:
        """A user's role in a project; None if it is not theirs, or there is none. Administrators own all."""
        if len(project_id) > _LONGEST_PROJECT_ID or "\0" in project_id:
            return None
        async with self._database.read() as connection:
            return role_in_project(principal, await find_role(connection, project_id, principal.id))

    # --- changes

    def forget_key(self, key_id: str) -> None:
        """A key was revoked, rolled or changed."""
        self._drop(lambda principal: principal.id == key_id)

    def forget_project(self, project_id: str) -> None:
        """A project was deleted."""
        self._drop(lambda principal: principal.project_id == project_id)

    async def close(self) -> None:
        """Write down which keys were used, and hear nothing more."""
        await self._news.stop()
        await self._usage.close()
        if self._oidc_users is not None:
            await self._oidc_users.close()

    # --- keys and logins

    async def _check_key(self, api_key: str) -> Principal:
        key_hash = digest(api_key)
        if not may_be_api_key(api_key) or key_hash in self._unknown_keys:
            raise _no_key()
        before = self._changes
        async with self._database.read() as connection:
            known = await _load_key(connection, key_hash)
        if known is None:
            self._unknown_keys[key_hash] = True
            raise _no_key()
        if self._keeps and self._changes == before:  # else it may have been read too early
            self._keys[key_hash] = known
        now = self._clock.now()
        if _is_over(known.revoked_at, now):
            raise UnauthenticatedError("This API key is revoked: make a new one")
        if _is_over(known.expires_at, now):
            raise UnauthenticatedError("This API key has expired: make a new one")
        self._usage.note(known.principal.id, now)
        return known.principal

    async def check_login(self, token: str) -> KnownLogin:
        """Who sends this token. Raises UnauthenticatedError that says what is wrong with it."""
        if self._oidc_users is not None and read_header(token).get("alg") != LOCAL_ALGORITHM:
            row, login = await self._oidc_users.find(token)
        else:
            login = self._tokens.read(token)
            async with self._database.read() as connection:
                row = await find_user(connection, login.user_id)
            if row is None:
                raise UnauthenticatedError("The user of this token no longer exists: sign in again")
        refuse_ended(row, token, login.issued_at)
        return KnownLogin(person(row), login.expires_at, row.tokens_valid_from)

    # --- memory

    def _cache(self) -> TTLCache[Any, Any]:
        return TTLCache(KEPT_ENTRIES, KEPT_SECONDS, timer=self._clock.monotonic)

    def _hear_changes(self, hears: bool) -> None:  # noqa: FBT001 - it is what there is to tell
        """Whether what other processes change is heard from now on; what was read before may have changed unheard."""
        self._drop(lambda _: True)
        self._keeps = hears

    def _drop(self, concerns: Callable[[Principal], bool]) -> None:
        self._changes += 1
        for key_hash, known in list(self._keys.items()):
            if concerns(known.principal):
                self._keys.pop(key_hash, None)


async def _load_key(connection: AsyncConnection, key_hash: str) -> _KnownKey | None:
    row = await find_key_by_digest(connection, key_hash)
    if row is None:
        return None
    scopes = await scopes_of_keys(connection, [row.id])
    principal = Principal(
        "api-key",
        row.id,
        name=row.name,
        project_id=row.project_id,
        scopes=frozenset(scopes.get(row.id, ())),
        ends_at=end_of(row),
    )
    return _KnownKey(principal, row.expires_at, row.revoked_at)


def person(row: Any) -> Principal:
    """The caller that a user is, by their row."""
    return Principal("jwt", row.id, name=row.name, email=row.email, is_admin=row.is_admin)


def _is_over(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment <= now


def _no_key() -> UnauthenticatedError:
    remedy = (
        "X-API-Key is no key of this server: check that it was copied whole, from where it was shown when it was made, "
        "and that its project still exists; POST /api/v1/projects/:project/keys makes another one"
    )
    return UnauthenticatedError("Invalid API key", errors=[FieldError("/header/X-API-Key", remedy)])


def _no_project(project_id: str) -> NotFoundError:
    return NotFoundError(f"Project '{project_id[:_LONGEST_PROJECT_ID]}' not found")

"""Identities: people, and the accounts that are theirs on a project's platforms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store import identities as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.linking import MOST_ALIASES

_LINK_TRIES = 3


@dataclass(frozen=True, slots=True)
class NewAlias:
    """An account on a platform to link. `index` is its place in the request's `aliases`, if it has any."""

    platform_id: str
    provider_user_id: str
    provider_user_display: str | None = None
    index: int | None = None

    def error(self, name: str, problem: str) -> FieldError:
        """What is wrong with one of its fields."""
        if self.index is None:
            return FieldError(f"/{name}", f"{name} {problem}")
        return FieldError(f"/aliases/{self.index}/{name}", f"aliases[{self.index}].{name} {problem}")


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """What an identity is made from."""

    display_name: str | None = None
    email: str | None = None
    metadata: dict[str, Any] | None = None
    preferred_platform_id: str | None = None
    aliases: Sequence[NewAlias] = field(default=())


@dataclass(frozen=True, slots=True)
class IdentityView:
    """An identity as it is shown: its row, and the rows of its aliases, oldest first."""

    row: Any
    aliases: Sequence[Any]


class AliasTakenError(ConflictError):
    """An account on a platform is linked to an identity already."""


class IdentityService:
    """Makes, finds, changes and deletes identities, and links accounts to them."""

    def __init__(self, *, database: Database, registry: PlatformRegistry, clock: Clock) -> None:
        self._database = database
        self._ignoring_case = registry.ignoring_case()
        self._clock = clock

    # --- finding

    async def list(self, project_id: str, *, limit: int, offset: int) -> list[IdentityView]:
        """A page of a project's identities, newest first."""
        async with self._database.read() as connection:
            rows = await store.list_identities(connection, project_id, limit=limit, offset=offset)
            return await self._views(connection, rows)

    async def search(self, project_id: str, text: str, *, limit: int, offset: int) -> list[IdentityView]:
        """A page of those with this text in a name or the e-mail address, or with this id on a platform."""
        async with self._database.read() as connection:
            rows = await store.search_identities(connection, project_id, text, limit=limit, offset=offset)
            return await self._views(connection, rows)

    async def get(self, project_id: str, identity_id: str) -> IdentityView:
        """One identity. Raises NotFoundError."""
        async with self._database.read() as connection:
            row = await _find(connection, project_id, identity_id)
            return await self._view(connection, row)

    async def look_up(self, project_id: str, platform_id: str, provider_user_id: str) -> IdentityView:
        """The identity that an account on a platform is linked to. Raises NotFoundError."""
        found = await self._linked(project_id, platform_id, provider_user_id)
        if found is None:
            raise NotFoundError(f"No identity found for user '{provider_user_id}' on platform '{platform_id[:64]}'")
        return found

    async def messages(self, project_id: str, identity_id: str, *, limit: int, offset: int) -> Sequence[Any]:
        """A page of what came from an identity's accounts, newest first. Raises NotFoundError."""
        async with self._database.read() as connection:
            row = await _find(connection, project_id, identity_id)
            return await store.list_messages_of(connection, row.id, limit=limit, offset=offset)

    async def reactions(self, project_id: str, identity_id: str, *, limit: int, offset: int) -> Sequence[Any]:
        """A page of the reactions of an identity's accounts, newest first. Raises NotFoundError."""
        async with self._database.read() as connection:
            row = await _find(connection, project_id, identity_id)
            return await store.list_reactions_of(connection, row.id, limit=limit, offset=offset)

    # --- changing

    async def create(self, principal: Principal, project_id: str, new: NewIdentity) -> IdentityView:
        """Make an identity with all its aliases, or nothing.

        Raises InvalidInputError for platforms that are not the project's, the preferred one too, and for an account
        named twice, and AliasTakenError for accounts of others.
        """
        identity_id, now = new_id(), self._clock.now()
        row = {
            "id": identity_id,
            "project_id": project_id,
            "display_name": new.display_name,
            "email": new.email,
            "metadata": new.metadata,
            "preferred_platform_id": canonical_id(new.preferred_platform_id or ""),
            "created_at": now,
            "updated_at": now,
        }
        async with self._database.write() as connection:
            await _check_preferred(connection, project_id, new.preferred_platform_id)
            await store.insert_identity(connection, row)
            await self._link(connection, project_id, identity_id, new.aliases)
            await self._record(connection, principal, "created", project_id, identity_id, aliases=len(new.aliases))
        return await self.get(project_id, identity_id)

    async def quick_link(self, principal: Principal, project_id: str, new: NewIdentity) -> IdentityView:
        """The identity of the one account in `new`, unchanged; or, if it has none, a new one. Safe to repeat.

        Raises InvalidInputError for a platform that is not the project's.
        """
        alias = new.aliases[0]
        for _ in range(_LINK_TRIES):
            found = await self._linked(project_id, alias.platform_id, alias.provider_user_id)
            if found is not None:
                return found
            try:
                return await self.create(principal, project_id, new)
            except AliasTakenError:
                continue  # somebody linked it since we looked
        raise ConflictError("The account is being linked and unlinked by others: try again")

    async def update(
        self, principal: Principal, project_id: str, identity_id: str, changes: dict[str, Any]
    ) -> IdentityView:
        """Change columns; `metadata` is replaced as a whole.

        Raises NotFoundError, and InvalidInputError for a preferred platform that is not the project's.
        """
        async with self._database.write() as connection:
            row = await _lock(connection, project_id, identity_id)
            if changes:
                preferred = changes.get("preferred_platform_id")
                await _check_preferred(connection, project_id, preferred)
                if preferred is not None:
                    changes |= {"preferred_platform_id": canonical_id(preferred)}
                await store.update_identity(connection, row.id, changes | {"updated_at": self._clock.now()})
                # Which fields, but not what was in them: personal data goes with the identity.
                await self._record(connection, principal, "updated", project_id, row.id, fields=sorted(changes))
        return await self.get(project_id, identity_id)

    async def delete(self, principal: Principal, project_id: str, identity_id: str) -> None:
        """Remove an identity with its aliases; messages stay. Raises NotFoundError."""
        canonical = canonical_id(identity_id)
        async with self._database.write() as connection:
            if canonical is None or not await store.delete_identity(connection, project_id, canonical):
                raise _no_identity(identity_id)
            await self._record(connection, principal, "deleted", project_id, canonical)

    async def add_alias(self, principal: Principal, project_id: str, identity_id: str, alias: NewAlias) -> Any:
        """Link one more account; the new alias.

        Raises NotFoundError, InvalidInputError for a platform that is not the project's, and ConflictError for an
        account that is linked already or when there are MOST_ALIASES.
        """
        async with self._database.write() as connection:
            row = await _lock(connection, project_id, identity_id)
            if await store.count_aliases(connection, row.id) >= MOST_ALIASES:
                raise ConflictError(f"Identity '{row.id}' has {MOST_ALIASES} aliases, the most possible: remove one")
            [alias_id] = await self._link(connection, project_id, row.id, [alias])
            await self._record(connection, principal, "alias_added", project_id, row.id, alias_id=alias_id)
            aliases = await store.list_aliases(connection, [row.id], self._ignoring_case)
        return next(added for added in aliases if added.id == alias_id)

    async def remove_alias(self, principal: Principal, project_id: str, identity_id: str, alias_id: str) -> None:
        """Unlink an account. Raises NotFoundError, and InvalidInputError for the last one of an identity."""
        async with self._database.write() as connection:
            row = await _lock(connection, project_id, identity_id)
            canonical = canonical_id(alias_id)
            if canonical is None or not await store.delete_alias(connection, row.id, canonical):
                raise NotFoundError(f"Alias '{alias_id[:64]}' not found for identity '{row.id}'")
            if not await store.count_aliases(connection, row.id):
                raise InvalidInputError("The last alias of an identity cannot be removed: delete the identity instead")
            await self._record(connection, principal, "alias_removed", project_id, row.id, alias_id=canonical)

    # --- within a transaction

    async def _link(
        self, connection: AsyncConnection, project_id: str, identity_id: str, aliases: Sequence[NewAlias]
    ) -> Sequence[str]:
        """Add aliases; their ids."""
        if not aliases:
            return []
        canonical = [canonical_id(alias.platform_id) for alias in aliases]
        platforms = await store.hold_platforms(connection, project_id, filter(None, canonical))
        _check(aliases, canonical, platforms)
        now = self._clock.now()
        rows = [
            {
                "id": new_id(),
                "identity_id": identity_id,
                "project_id": project_id,
                "platform_id": platform_id,
                "platform": platforms[platform_id or ""],
                "provider_user_id": alias.provider_user_id,
                "provider_user_display": alias.provider_user_display,
                "link_method": "manual",
                "linked_at": now,
            }
            for alias, platform_id in zip(aliases, canonical, strict=True)
        ]
        taken = await store.insert_aliases(connection, rows)
        if taken:
            owners = {(row.platform_id, row.provider_user_id): row.identity_id for row in taken}
            raise _taken(aliases, [owners.get((row["platform_id"], row["provider_user_id"])) for row in rows])
        return [str(row["id"]) for row in rows]

    async def _linked(self, project_id: str, platform_id: str, provider_user_id: str) -> IdentityView | None:
        canonical = canonical_id(platform_id)
        if canonical is None:
            return None
        async with self._database.read() as connection:
            row = await store.find_linked(connection, project_id, canonical, provider_user_id)
            return None if row is None else await self._view(connection, row)

    async def _view(self, connection: AsyncConnection, row: Any) -> IdentityView:
        [view] = await self._views(connection, [row])
        return view

    async def _views(self, connection: AsyncConnection, rows: Sequence[Any]) -> list[IdentityView]:
        aliases: defaultdict[str, list[Any]] = defaultdict(list)
        for alias in await store.list_aliases(connection, [row.id for row in rows], self._ignoring_case):
            aliases[alias.identity_id].append(alias)
        return [IdentityView(row, aliases[row.id]) for row in rows]

    async def _record(
        self,
        connection: AsyncConnection,
        principal: Principal,
        verb: str,
        project_id: str,
        identity_id: str,
        **after: Any,
    ) -> None:
        await record_audit(
            connection,
            principal,
            f"identity.{verb}",
            identity_id,
            project_id=project_id,
            now=self._clock.now(),
            after=after or None,
        )


def _check(aliases: Sequence[NewAlias], canonical: Sequence[str | None], platforms: dict[str, str]) -> None:
    """Raise InvalidInputError for every alias on a platform that is not the project's, or named twice."""
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for alias, platform_id in zip(aliases, canonical, strict=True):
        if platform_id is None or platform_id not in platforms:
            problem = f"'{alias.platform_id[:64]}' is not a platform of this project"
            errors.append(alias.error("platformId", problem))
        elif (platform_id, alias.provider_user_id) in seen:
            errors.append(alias.error("providerUserId", "is in this request twice for the same platform: leave one"))
        else:
            seen.add((platform_id, alias.provider_user_id))
    if errors:
        raise InvalidInputError.of(errors)


def _taken(aliases: Sequence[NewAlias], owners: Sequence[str | None]) -> AliasTakenError:
    errors = [
        alias.error("providerUserId", f"'{alias.provider_user_id}' is already linked to identity '{owner}'")
        for alias, owner in zip(aliases, owners, strict=True)
        if owner is not None
    ]
    return AliasTakenError(errors[0].message, errors=errors)


async def _check_preferred(connection: AsyncConnection, project_id: str, platform_id: str | None) -> None:
    if platform_id is None:
        return
    canonical = canonical_id(platform_id)
    if canonical is None or not await store.hold_platforms(connection, project_id, [canonical]):
        problem = f"preferredPlatformId {platform_id[:64]!r} is not a platform of this project"
        raise InvalidInputError.of([FieldError("/preferredPlatformId", problem)])


async def _find(connection: AsyncConnection, project_id: str, identity_id: str) -> Any:
    canonical = canonical_id(identity_id)
    row = None if canonical is None else await store.find_identity(connection, project_id, canonical)
    if row is None:
        raise _no_identity(identity_id)
    return row


async def _lock(connection: AsyncConnection, project_id: str, identity_id: str) -> Any:
    canonical = canonical_id(identity_id)
    row = None if canonical is None else await store.lock_identity(connection, project_id, canonical)
    if row is None:
        raise _no_identity(identity_id)
    return row


def _no_identity(identity_id: str) -> NotFoundError:
    return NotFoundError(f"Identity '{identity_id[:64]}' not found")

"""Projects: the tenants of an installation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import (
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UnauthenticatedError,
)
from msgcore.core.ids import new_id
from msgcore.core.scopes import ApiScope, Principal, Role
from msgcore.services.authenticator import Authenticator
from msgcore.services.most import refuse_another
from msgcore.store import projects as store
from msgcore.store.api_keys import count_unrevoked_keys, find_maker, list_keys
from msgcore.store.audit import AuditEntry, AuditFilter, find_last, record_all, record_audit
from msgcore.store.database import Database
from msgcore.store.members import lock_members
from msgcore.store.pauses import lock_project
from msgcore.store.platforms import list_platforms
from msgcore.store.users import lock_user

PROJECT_ID = r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)"
_ID_RULE = "id must be 1 to 64 lower-case letters, digits, hyphens and underscores, and start with a letter or digit"


@dataclass(frozen=True, slots=True)
class NewProject:
    """What a project is made from; without an id, one is made from the name."""

    name: str
    id: str | None = None
    description: str | None = None
    environment: str = "development"
    is_default: bool = False
    settings: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project as it is shown: its row with owner and counts, its members, and its keys."""

    row: Any
    members: Sequence[Any] = field(default=())
    keys: Sequence[Any] = field(default=())


class ProjectService:
    """Makes, shows, changes and deletes projects."""

    def __init__(
        self,
        *,
        database: Database,
        authenticator: Authenticator,
        clock: Clock,
        on_platform_change: Callable[[str], Awaitable[None]],
        creators: Literal["everybody", "administrators"] = "everybody",
    ) -> None:
        """`creators` is who may make projects."""
        self._database = database
        self._authenticator = authenticator
        self._clock = clock
        self._on_platform_change = on_platform_change
        self._creators = creators

    async def create(self, principal: Principal, new: NewProject) -> ProjectView:
        """Make a project; its creator (for a key: the owner of the key's project) becomes its owner.

        Raises InvalidInputError for a bad id, ConflictError for one that is taken or where the owner has too many, and
        ForbiddenError where only administrators make projects.
        """
        project_id = _checked_id(new)
        try:
            async with self._database.write() as connection:
                await self._insert(connection, principal, project_id, new)
        except IntegrityError:
            raise ConflictError(f"Project '{project_id}' already exists: choose another id") from None
        return await self.get(project_id)

    async def _insert(
        self, connection: AsyncConnection, principal: Principal, project_id: str, new: NewProject
    ) -> None:
        owner = await self._lock_owner(connection, principal)
        if self._creators == "administrators":
            await _require_administrator(connection, principal, owner)
        refuse_another("projects", await store.count_owned(connection, owner.id))
        now = await self._beginning(connection, project_id)
        if new.is_default:
            await self._clear_default(connection, principal, owner.id, now)
        stamps = {"created_at": now, "updated_at": now}
        row = {
            "id": project_id,
            "name": new.name,
            "description": new.description,
            "environment": new.environment,
            "is_default": new.is_default,
            "settings": new.settings,
            "owner_id": owner.id,
        }
        member = {"id": new_id(), "project_id": project_id, "user_id": owner.id, "role": Role.OWNER.label}
        await store.insert_project(connection, row | stamps, member | stamps)
        await record_audit(
            connection, principal, "project.created", project_id, project_id=project_id, now=now, after=row
        )

    async def _beginning(self, connection: AsyncConnection, project_id: str) -> datetime:
        """When a project begins: later than all that the audit log has of an earlier one of the same id."""
        now = self._clock.now()
        last = await find_last(connection, AuditFilter(project_id=project_id, since=now))
        return now if last is None else last + timedelta(microseconds=1)

    async def _clear_default(
        self, connection: AsyncConnection, principal: Principal, owner_id: str, now: datetime
    ) -> None:
        """Let no project of an owner be the default one, and write that down for the one that was."""
        before, after = {"is_default": True}, {"is_default": False}
        gone = await store.clear_default(connection, owner_id)
        await record_all(
            connection,
            [AuditEntry(principal, "project.updated", id_, id_, now, before=before, after=after) for id_ in gone],
        )

    async def list(self, principal: Principal) -> list[ProjectView]:
        """The projects that a caller may see: a key's own, a user's, or all for an administrator.

        With the members for those who may list these: all people, and keys with the scope.
        """
        async with self._database.read() as connection:
            if principal.project_id is not None:
                row = await store.find_project(connection, principal.project_id)
                rows = [] if row is None else [row]
            else:
                rows = await store.list_projects(connection, user_id=None if principal.is_admin else principal.id)
            members: defaultdict[str, list[Any]] = defaultdict(list)
            if principal.kind == "jwt" or ApiScope.MEMBERS_READ in principal.scopes:
                for member in await store.list_members(connection, [row.id for row in rows]):
                    members[member.project_id].append(member)
        return [ProjectView(row, members=members[row.id]) for row in rows]

    async def show(self, principal: Principal, project_id: str) -> ProjectView:
        """A project with the keys that work, for those who may list these. Raises NotFoundError."""
        view = await self.get(project_id)
        may_list = await self._authenticator.allows(principal, project_id=project_id, scope=ApiScope.KEYS_READ)
        return view if may_list else replace(view, keys=())

    async def get(self, project_id: str) -> ProjectView:
        """A project with the keys that work. Raises NotFoundError."""
        async with self._database.read() as connection:
            row = await store.find_project(connection, project_id)
            if row is None:
                raise NotFoundError(f"Project '{project_id}' not found")
            return ProjectView(row, keys=await list_keys(connection, project_id, self._clock.now()))

    async def update(self, principal: Principal, project_id: str, changes: dict[str, Any]) -> ProjectView:
        """Change columns of a project. Its id stays: everything sent and stored refers to it."""
        if changes.pop("id", project_id) != project_id:
            raise InvalidInputError.of([FieldError("/id", "id cannot be changed: make a new project instead")])
        now = self._clock.now()
        async with self._database.write() as connection:
            owner_id = await store.find_owner(connection, project_id)
            if changes.get("is_default") and owner_id is not None:
                await lock_user(connection, owner_id)  # first, as where projects are made
            before = await lock_project(connection, project_id)
            if before is None:
                raise NotFoundError(f"Project '{project_id}' not found")
            if changes.get("is_default") and not before.is_default:
                await self._clear_default(connection, principal, before.owner_id, now)
            await store.update_project(connection, project_id, changes | {"updated_at": now})
            await record_audit(
                connection,
                principal,
                "project.updated",
                project_id,
                project_id=project_id,
                now=now,
                before={name: getattr(before, name) for name in changes},
                after=changes,
            )
        return await self.get(project_id)

    async def delete(self, principal: Principal, project_id: str) -> None:
        """Delete a project with everything in it.

        Raises ForbiddenError unless its owner or an administrator asks, NotFoundError, and ConflictError while it has
        keys that nobody revoked.
        """
        if principal.kind == "api-key":
            raise ForbiddenError(
                "API keys cannot delete a project: let its owner or an administrator sign in and do it"
            )
        if await self._authenticator.role_of(principal, project_id) != Role.OWNER:
            raise ForbiddenError("Only the project's owner or an administrator can delete it")
        async with self._database.write() as connection:
            # Events and logs of the project go on meanwhile: what writes them also writes those of others.
            if await lock_members(connection, project_id) is None:
                raise NotFoundError(f"Project '{project_id}' not found")
            platforms = await list_platforms(connection, project_id)
            active = await count_unrevoked_keys(connection, project_id)
            if active:
                raise ConflictError(f"Project '{project_id}' has {active} active API keys: revoke them first")
            await store.delete_project(connection, project_id)
            await record_audit(
                connection, principal, "project.deleted", project_id, project_id=project_id, now=self._clock.now()
            )
        self._authenticator.forget_project(project_id)
        for platform in platforms:
            await self._on_platform_change(platform.id)

    async def _lock_owner(self, connection: AsyncConnection, principal: Principal) -> Any:
        """Who is to own what a caller makes; others who make projects for them wait."""
        owner_id: str | None = principal.id
        if principal.project_id is not None:
            owner_id = await store.find_owner(connection, principal.project_id)
        if owner_id is None:
            raise UnauthenticatedError("The project of this API key no longer exists")
        owner = await lock_user(connection, owner_id)
        if owner is None:
            raise UnauthenticatedError("The user of this token no longer exists: sign in again")
        return owner


async def _require_administrator(connection: AsyncConnection, principal: Principal, owner: Any) -> None:
    """Check that an administrator asks, or made the key that asks: others make keys of an administrator's project too.

    Raises ForbiddenError.
    """
    person = owner if principal.kind == "jwt" else await find_maker(connection, principal.id)
    if person is None or not person.is_admin:
        raise ForbiddenError(
            "Only administrators make projects in this installation (MSGCORE_PROJECT_CREATION), by themselves or with "
            "keys that they made: ask one of them"
        )


def _checked_id(new: NewProject) -> str:
    project_id = new.id if new.id is not None else re.sub(r"[^a-z0-9]+", "-", new.name.lower()).strip("-")[:64]
    if re.fullmatch(PROJECT_ID, project_id):
        return project_id
    if new.id is None:
        raise InvalidInputError.of([FieldError("/id", f"no id can be made from this name, so give one: {_ID_RULE}")])
    raise InvalidInputError.of([FieldError("/id", _ID_RULE)])

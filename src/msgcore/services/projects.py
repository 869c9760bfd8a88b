"""Projects: the tenants of an installation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.exc import IntegrityError

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
from msgcore.store import projects as store
from msgcore.store.api_keys import count_unrevoked_keys, list_keys
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.members import lock_members
from msgcore.store.pauses import lock_project
from msgcore.store.platforms import list_platforms

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
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._clock = clock
        self._on_platform_change = on_platform_change

    async def create(self, principal: Principal, new: NewProject) -> ProjectView:
        """Make a project; its creator (for a key: the owner of the key's project) becomes its owner.

        Raises InvalidInputError for a bad id, and ConflictError for one that is taken.
        """
        project_id = _checked_id(new)
        now = self._clock.now()
        owner_id = await self._owner_of(principal)
        stamps = {"created_at": now, "updated_at": now}
        row = {
            "id": project_id,
            "name": new.name,
            "description": new.description,
            "environment": new.environment,
            "is_default": new.is_default,
            "settings": new.settings,
            "owner_id": owner_id,
        }
        member = {"id": new_id(), "project_id": project_id, "user_id": owner_id, "role": Role.OWNER.label}
        try:
            async with self._database.write() as connection:
                if new.is_default:
                    await store.clear_default(connection, owner_id)
                await store.insert_project(connection, row | stamps, member | stamps)
                await record_audit(
                    connection, principal, "project.created", project_id, project_id=project_id, now=now, after=row
                )
        except IntegrityError:
            raise ConflictError(f"Project '{project_id}' already exists: choose another id") from None
        return await self.get(project_id)

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
        try:
            await self._authenticator.authorize(principal, project_id=project_id, scope=ApiScope.KEYS_READ)
        except ForbiddenError:
            return replace(view, keys=())
        return view

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
            before = await lock_project(connection, project_id)
            if before is None:
                raise NotFoundError(f"Project '{project_id}' not found")
            if changes.get("is_default"):
                await store.clear_default(connection, before.owner_id)
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
        if principal.kind == "api-key" or await self._authenticator.role_of(principal, project_id) != Role.OWNER:
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

    async def _owner_of(self, principal: Principal) -> str:
        if principal.project_id is None:
            return principal.id
        async with self._database.read() as connection:
            row = await store.find_project(connection, principal.project_id)
        if row is None:
            raise UnauthenticatedError("The project of this API key no longer exists")
        return row.owner_id


def _checked_id(new: NewProject) -> str:
    project_id = new.id if new.id is not None else re.sub(r"[^a-z0-9]+", "-", new.name.lower()).strip("-")[:64]
    if re.fullmatch(PROJECT_ID, project_id):
        return project_id
    if new.id is None:
        raise InvalidInputError.of([FieldError("/id", f"no id can be made from this name, so give one: {_ID_RULE}")])
    raise InvalidInputError.of([FieldError("/id", _ID_RULE)])

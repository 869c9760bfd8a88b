"""The members of projects: added, given other roles, removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal, Role
from msgcore.services.account_rules import normal_email
from msgcore.services.standing import require_standing
from msgcore.store import members as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.projects import list_members
from msgcore.store.users import find_user_by_email


class MemberService:
    """Who is in a project. Nobody decides about a role above their own, and the project's owner stays."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def list(self, project_id: str) -> Sequence[Any]:
        """The members, oldest first, with `user_email` and `user_name`."""
        async with self._database.read() as connection:
            return await list_members(connection, [project_id])

    async def add(self, principal: Principal, project_id: str, email: str, role: Role) -> Any:
        """Make a user a member; one who is a member gets the role.

        Raises NotFoundError where nobody has this address, ForbiddenError for a role above the caller's, and
        InvalidInputError for the project's owner.
        """
        async with self._database.write() as connection:
            owner_id = await store.lock_members(connection, project_id)
            await require_standing(connection, principal, project_id, role)
            user = await find_user_by_email(connection, normal_email(email))
            if user is None:
                raise NotFoundError(f"There is no user with the address {email!r}: invite them")
            if owner_id != user.id and await store.find_member(connection, project_id, user.id) is None:
                await self.join(connection, principal, project_id, user.id, role)
            else:
                member = await _find(connection, principal, project_id, user.id, owner_id)
                await self._change(connection, principal, member, role)
            return await store.find_member(connection, project_id, user.id)

    async def change_role(self, principal: Principal, project_id: str, user_id: str, role: Role) -> Any:
        """Give a member another role.

        Raises NotFoundError, ForbiddenError for a role above the caller's (the new one or the present one), and
        InvalidInputError for the project's owner.
        """
        async with self._database.write() as connection:
            owner_id = await store.lock_members(connection, project_id)
            await require_standing(connection, principal, project_id, role)
            member = await _find(connection, principal, project_id, user_id, owner_id)
            await self._change(connection, principal, member, role)
            return await store.find_member(connection, project_id, member.user_id)

    async def remove(self, principal: Principal, project_id: str, user_id: str) -> None:
        """Remove a member, and revoke the invitations that they made. Raises as `change_role` does."""
        async with self._database.write() as connection:
            owner_id = await store.lock_members(connection, project_id)
            member = await _find(connection, principal, project_id, user_id, owner_id)
            await store.delete_member(connection, member.id)
            await store.delete_invites_above(connection, project_id, member.user_id, [role.label for role in Role])
            await record_audit(
                connection,
                principal,
                "member.removed",
                member.user_id,
                project_id=project_id,
                now=self._clock.now(),
                before={"role": member.role},
            )

    async def join(
        self, connection: AsyncConnection, principal: Principal, project_id: str, user_id: str, role: Role
    ) -> None:
        """Write a new member down. Raises IntegrityError for somebody who is one."""
        now = self._clock.now()
        row = {"id": new_id(), "project_id": project_id, "user_id": user_id, "role": role.label}
        await store.insert_member(connection, row | {"created_at": now, "updated_at": now})
        await record_audit(
            connection, principal, "member.added", user_id, project_id=project_id, now=now, after={"role": role.label}
        )

    async def _change(self, connection: AsyncConnection, principal: Principal, member: Any, role: Role) -> None:
        now, project_id = self._clock.now(), member.project_id
        await store.set_role(connection, member.id, role.label, now)
        above = [other.label for other in Role if other > role]
        await store.delete_invites_above(connection, project_id, member.user_id, above)
        await record_audit(
            connection,
            principal,
            "member.role_changed",
            member.user_id,
            project_id=project_id,
            now=now,
            before={"role": member.role},
            after={"role": role.label},
        )


async def _find(
    connection: AsyncConnection, principal: Principal, project_id: str, user_id: str, owner_id: str | None
) -> Any:
    """A member about whom the caller may decide."""
    canonical = canonical_id(user_id)
    if canonical is not None and canonical == owner_id:
        raise InvalidInputError("The owner of the project stays, and stays its owner")
    member = None if canonical is None else await store.find_member(connection, project_id, canonical)
    if member is None:
        raise NotFoundError(f"Member '{user_id[:64]}' not found")
    await require_standing(connection, principal, project_id, Role.parse(member.role))
    return member

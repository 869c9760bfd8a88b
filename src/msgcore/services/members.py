"""The members of projects: added, given other roles, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal, Role
from msgcore.services.account_rules import normal_email
from msgcore.services.ended_invites import end_invites
from msgcore.services.most import refuse_another
from msgcore.services.standing import require_standing
from msgcore.store import members as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.projects import list_members
from msgcore.store.users import find_user_by_email


@dataclass(frozen=True, slots=True)
class _Nobody:
    """Stands where there is no account."""

    id: str = str(UUID(int=0))
    oidc_issuer: None = None


_NOBODY: Final = _Nobody()


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
        """Make a user a member whom the caller knows; one who is a member gets the role.

        Raises NotFoundError where the caller knows nobody with this address, ForbiddenError for a role above the
        caller's, InvalidInputError for the project's owner, and ConflictError where there are too many members.
        """
        async with self._database.write() as connection:
            owner_id = await store.lock_members(connection, project_id)
            await require_standing(connection, principal, project_id, role)
            user = await find_user_by_email(connection, normal_email(email))
            is_member, known = await stands(connection, principal, project_id, user, owner_id)
            if user is not None and is_member:
                member = await _find(connection, principal, project_id, user.id, owner_id)
                await self._change(connection, principal, member, role)
            elif user is not None and known:
                await self.join(connection, principal, project_id, user.id, role)
            else:
                raise NotFoundError(
                    f"Nobody with the address {email!r} has come in by a link of yours before: invite them, and hand "
                    "over the link"
                )
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
            now, told = self._clock.now(), {"role": member.role}
            await store.delete_member(connection, member.id)
            await end_invites(connection, principal, project_id, member.user_id, now)
            await record_audit(
                connection, principal, "member.removed", member.user_id, project_id=project_id, now=now, before=told
            )

    async def join(
        self,
        connection: AsyncConnection,
        principal: Principal,
        project_id: str,
        user_id: str,
        role: Role,
        invited_by: str | None = None,
    ) -> None:
        """Write a new member down, with the project's members locked; `invited_by` made the link that they came by.

        Raises ConflictError where there are too many, and IntegrityError for somebody who is one.
        """
        now = self._clock.now()
        refuse_another("members", await store.count_members(connection, project_id))
        row = {"id": new_id(), "project_id": project_id, "user_id": user_id, "role": role.label}
        await store.insert_member(connection, row | {"created_at": now, "updated_at": now})
        told = {"role": role.label} | ({"invited_by": invited_by} if invited_by else {})
        await record_audit(connection, principal, "member.added", user_id, project_id=project_id, now=now, after=told)

    async def _change(self, connection: AsyncConnection, principal: Principal, member: Any, role: Role) -> None:
        now, project_id = self._clock.now(), member.project_id
        await store.set_role(connection, member.id, role.label, now)
        above = [other for other in Role if other > role]
        await end_invites(connection, principal, project_id, member.user_id, now, roles=above)
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


async def is_in(connection: AsyncConnection, project_id: str, user_id: str, owner_id: str | None) -> bool:
    """Whether somebody is in a project, whose owner is `owner_id`."""
    return user_id == owner_id or await store.find_member(connection, project_id, user_id) is not None


async def is_known(connection: AsyncConnection, principal: Principal, user: Any) -> bool:
    """Whether a caller has reason to believe that an account is the person whose address it has.

    An address in an account proves nothing: whoever made the invitation saw the link, and may have used it. What counts
    is that the account came in by a link that the caller made for this address, and handed over; or that an issuer
    verified it, to administrators, since others are not to learn who has an account.
    """
    has_met = await store.is_known(connection, user.id, principal.id)
    return has_met or (user.oidc_issuer is not None and principal.is_admin)


async def stands(
    connection: AsyncConnection, principal: Principal, project_id: str, user: Any, owner_id: str | None
) -> tuple[bool, bool]:
    """Whether the account of an address is in a project, and whether the caller knows it; neither if there is none.

    The database is asked the same in any case, so that the time does not tell who has an account.
    """
    asked = _NOBODY if user is None else user
    is_member = await is_in(connection, project_id, asked.id, owner_id)
    return is_member, await is_known(connection, principal, asked)


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

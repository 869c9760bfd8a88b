"""Invitations to projects: made, listed, revoked, accepted."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import (
    ConflictError,
    FieldError,
    InvalidInputError,
    NotFoundError,
    UnauthenticatedError,
)
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal, Role
from msgcore.security.digests import digest
from msgcore.security.passwords import Passwords
from msgcore.services.account_rules import email_errors, normal_email, password_errors
from msgcore.services.accounts import AccountService, SignedIn, User
from msgcore.services.ended_invites import note_ends
from msgcore.services.members import MemberService, is_in, stands
from msgcore.services.sign_in_guard import SignInGuard
from msgcore.services.standing import require_standing
from msgcore.store import members as store
from msgcore.store.api_keys import end_of, lock_key
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.users import find_user_by_email, insert_user

LIFETIME = timedelta(days=7)
"""How long an invitation can be accepted."""

TOKEN_BYTES = 32
"""Of a link's random part."""

MOST_OPEN = 1000
"""Invitations to a project that wait to be accepted."""

_INVALID = "The invitation is not valid: it was used or revoked, or has expired; ask for another one"


@dataclass(frozen=True, slots=True)
class Invited:
    """What became of an invitation: a link that is shown this once, or a member where the address is a user's."""

    email: str
    id: str | None = None
    link: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


class InviteService:
    """Lets people in whom the caller does not know yet. The link is for whoever has it, so only its digest is kept."""

    def __init__(
        self,
        *,
        database: Database,
        accounts: AccountService,
        members: MemberService,
        passwords: Passwords,
        guard: SignInGuard,
        clock: Clock,
        base_url: str,
    ) -> None:
        """`base_url` is where the pages are to which links lead."""
        self._database = database
        self._accounts = accounts
        self._members = members
        self._passwords = passwords
        self._guard = guard
        self._clock = clock
        self._base_url = base_url

    async def invite(self, principal: Principal, project_id: str, email: str, role: Role) -> Invited:
        """Invite an address; a user who has it and whom the caller knows becomes a member at once.

        An earlier invitation to the same address ends, and one that a key makes ends with the key. Raises
        InvalidInputError for a member, ForbiddenError for a role above the caller's, and ConflictError where too many
        wait.
        """
        email = normal_email(email)
        if errors := email_errors(email):
            raise InvalidInputError.of(errors)
        async with self._database.write() as connection:
            end = await _end_of_caller(connection, principal, project_id, self._clock.now())
            owner_id = await store.lock_members(connection, project_id)
            await require_standing(connection, principal, project_id, role)
            user = await find_user_by_email(connection, email)
            is_member, known = await stands(connection, principal, project_id, user, owner_id)
            if is_member:
                raise InvalidInputError.of([FieldError("/email", f"{email} is a member of this project already")])
            if user is None or not known:
                return await self._issue(connection, principal, project_id, email, role, end)
            await self._members.join(connection, principal, project_id, user.id, role)
            return Invited(email)

    async def list(self, project_id: str) -> Sequence[Any]:
        """The invitations that can be accepted, oldest first."""
        async with self._database.read() as connection:
            return await store.list_invites(connection, project_id, self._clock.now())

    async def revoke(self, principal: Principal, project_id: str, invite_id: str) -> None:
        """End an invitation. Raises NotFoundError for one that is not there or was accepted.

        Raises ForbiddenError for one with a role above the caller's.
        """
        canonical = canonical_id(invite_id)
        async with self._database.write() as connection:
            await store.lock_members(connection, project_id)
            gone = None if canonical is None else await store.delete_invite(connection, project_id, canonical)
            if gone is None:
                raise NotFoundError(f"Invitation '{invite_id[:64]}' not found")
            await require_standing(connection, principal, project_id, Role.parse(gone.role))
            await note_ends(connection, principal, project_id, [gone], self._clock.now())

    async def accept(self, token: str, name: str, password: str, *, address: str) -> SignedIn:
        """Make an account for whoever has the link, a member of the project from then on; works once.

        `address` is the client's. Raises InvalidInputError for a weak password, UnauthenticatedError for a link that
        is none or ended, ConflictError where the e-mail address has an account meanwhile, and TooManyAttemptsError.
        """
        if errors := password_errors("password", password):
            raise InvalidInputError.of(errors)
        attempt = await self._guard.begin(address)
        async with self._database.read() as connection:
            invite = await store.find_invite_by_digest(connection, digest(token), self._clock.now())
        if invite is None:
            raise UnauthenticatedError(_INVALID)
        password_hash = await self._passwords.hash(password)
        user = User(new_id(), invite.email, name, is_admin=False)
        try:
            async with self._database.write() as connection:
                await self._join(connection, invite, user, password_hash)
        except IntegrityError:
            raise ConflictError(
                f"There is an account with the address {invite.email} already. If it is yours, sign in and accept the "
                "invitation with POST /api/v1/auth/join; if not, tell who invited you"
            ) from None
        await self._guard.succeeded(attempt)
        return self._accounts.signed_in(user, self._clock.now())

    async def join(self, principal: Principal, token: str) -> tuple[str, str]:
        """Let who is signed in into the project that a link is for, whatever address it was made for; works once.

        The project and the role. Raises UnauthenticatedError for a link that is none or ended, and ConflictError for
        somebody who is in the project, whose link stays as it is, or where that has too many members.
        """
        async with self._database.write() as connection:
            invite = await store.find_invite_by_digest(connection, digest(token), self._clock.now())
            if invite is None:
                raise UnauthenticatedError(_INVALID)
            owner_id = await store.lock_members(connection, invite.project_id)
            if await is_in(connection, invite.project_id, principal.id, owner_id):
                raise ConflictError("You are in this project already: the invitation is for somebody else")
            if not await store.take_invite(connection, invite.id, self._clock.now()):
                raise UnauthenticatedError(_INVALID)
            await self._enter(connection, principal, invite)
            if principal.email == invite.email:
                await self._make_known(connection, invite, principal.id)
        return invite.project_id, invite.role

    async def _issue(
        self,
        connection: AsyncConnection,
        principal: Principal,
        project_id: str,
        email: str,
        role: Role,
        end: datetime | None,
    ) -> Invited:
        now = self._clock.now()
        replaced = await store.delete_stale_invites(connection, project_id, email, now)
        await note_ends(connection, principal, project_id, replaced, now)
        if await store.count_invites(connection, project_id, now) >= MOST_OPEN:
            raise ConflictError(f"{MOST_OPEN} invitations to this project wait to be accepted: revoke some first")
        token, expires_at = secrets.token_urlsafe(TOKEN_BYTES), min(now + LIFETIME, end or now + LIFETIME)
        invite_id = new_id()
        row = {
            "id": invite_id,
            "email": email,
            "project_id": project_id,
            "role": role.label,
            "invited_by": principal.id,
            "token_hash": digest(token),
            "expires_at": expires_at,
            "created_at": now,
        }
        await store.insert_invite(connection, row)
        told = {"role": role.label, "expires_at": expires_at}
        await record_audit(
            connection, principal, "invite.created", invite_id, project_id=project_id, now=now, after=told
        )
        return Invited(email, invite_id, f"{self._base_url}/invite/{token}", expires_at)

    async def _join(self, connection: AsyncConnection, invite: Any, user: User, password_hash: str) -> None:
        now, joined = self._clock.now(), Principal("jwt", user.id)
        await store.lock_members(connection, invite.project_id)
        if not await store.take_invite(connection, invite.id, now):
            raise UnauthenticatedError(_INVALID)
        row = {"id": user.id, "email": user.email, "name": user.name, "password_hash": password_hash}
        await insert_user(connection, row | {"is_admin": False, "created_at": now, "updated_at": now})
        await record_audit(connection, joined, "user.signed_up", user.id, project_id=None, now=now)
        await self._enter(connection, joined, invite)
        await self._make_known(connection, invite, user.id)

    async def _enter(self, connection: AsyncConnection, principal: Principal, invite: Any) -> None:
        role = Role.parse(invite.role)
        await self._members.join(connection, principal, invite.project_id, principal.id, role, invite.invited_by)

    async def _make_known(self, connection: AsyncConnection, invite: Any, user_id: str) -> None:
        """Let who made an invitation know the account of this very address that accepted it.

        One of another address says nothing: the person who got the link may have taken the address of somebody else.
        """
        if invite.invited_by is not None:
            await store.make_known(connection, user_id, invite.invited_by, self._clock.now())


async def _end_of_caller(
    connection: AsyncConnection, principal: Principal, project_id: str, now: datetime
) -> datetime | None:
    """Until when a key works, which nobody ends meanwhile; None for a person, or if it works on.

    Else whoever has a key for a while could come in later. Raises UnauthenticatedError for one that has just ended.
    """
    if principal.kind != "api-key":
        return None
    key = await lock_key(connection, project_id, principal.id)
    end = None if key is None else end_of(key)
    if key is None or (end is not None and end <= now):
        raise UnauthenticatedError("This API key has ended: make a new one")
    return end

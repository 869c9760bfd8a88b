"""Members of a project, and invitations to it."""

from __future__ import annotations

from typing import Any, Literal

from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, MessageAnswer, Timestamp
from msgcore.api.parameters import AccountEmail
from msgcore.api.projects import MemberAnswer, member_answer
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.private import private_repr
from msgcore.core.scopes import ApiScope, Role
from msgcore.services.invites import InviteService
from msgcore.services.members import MemberService

RoleName = Literal["owner", "admin", "member", "viewer"]


class AddMember(Wire):
    """Somebody whom the caller has let in before, and their role."""

    email: AccountEmail
    role: RoleName


class ChangeMember(Wire):
    """Another role."""

    role: RoleName


class Invite(Wire):
    """Somebody to hand a link to."""

    email: AccountEmail
    role: RoleName = "member"


class InvitedAnswer(Answer):
    """`inviteLink` is shown this once only: hand it to the person. Null for who became a member at once."""

    __repr__ = private_repr

    id: str | None
    email: str
    invite_link: str | None
    expires_at: Timestamp | None
    message: str


class InviteAnswer(Answer):
    """An invitation that waits to be accepted; `invitedBy` is the user or the API key that made it."""

    id: str
    email: str
    role: str
    invited_by: str | None
    expires_at: Timestamp
    created_at: Timestamp


class MembersController(Controller):
    """Who is in a project."""

    path = "/api/v1/projects/{project:str}/members"
    tags = ("Members",)

    @get(opt=requires(ApiScope.MEMBERS_READ), summary="List members")
    async def list_all(self, project: FromPath[str], members: Injected[MemberService]) -> list[MemberAnswer]:
        """Oldest first."""
        return [member_answer(row) for row in await members.list(project)]

    @post(opt=requires(ApiScope.MEMBERS_WRITE), summary="Add a member")
    async def add(
        self, request: ApiRequest, project: FromPath[str], data: JsonBody[AddMember], members: Injected[MemberService]
    ) -> MemberAnswer:
        """Who is a member gets the role; somebody who came in by a link of the caller before is added.

        So is who has an address that an issuer verified, if an administrator asks. 404 for all others, with an account
        or without.
        """
        return member_answer(await members.add(request.user, project, data.email, Role.parse(data.role)))

    @patch("/{user_id:str}", opt=requires(ApiScope.MEMBERS_WRITE), summary="Change a member's role")
    async def change(
        self,
        request: ApiRequest,
        project: FromPath[str],
        user_id: FromPath[str],
        data: JsonBody[ChangeMember],
        members: Injected[MemberService],
    ) -> MemberAnswer:
        """It holds from the next request on. The owner of the project stays its owner."""
        return member_answer(await members.change_role(request.user, project, user_id, Role.parse(data.role)))

    @delete("/{user_id:str}", opt=requires(ApiScope.MEMBERS_WRITE), status_code=200, summary="Remove a member")
    async def remove(
        self,
        request: ApiRequest,
        project: FromPath[str],
        user_id: FromPath[str],
        members: Injected[MemberService],
    ) -> MessageAnswer:
        """It holds from the next request on, and the invitations that they made end. The project's owner stays."""
        await members.remove(request.user, project, user_id)
        return MessageAnswer(message="Member removed successfully")

    @post("/invite", opt=requires(ApiScope.MEMBERS_WRITE), summary="Invite somebody")
    async def invite(
        self, request: ApiRequest, project: FromPath[str], data: JsonBody[Invite], invites: Injected[InviteService]
    ) -> InvitedAnswer:
        """A link that lets one person in, within seven days. Nothing is sent: pass it on by a way you trust.

        Whom `POST members` would add is added at once.
        """
        found = await invites.invite(request.user, project, data.email, Role.parse(data.role))
        done = "User added to project successfully" if found.link is None else "Invitation created successfully"
        return InvitedAnswer(
            id=found.id,
            email=found.email,
            invite_link=found.link,
            expires_at=found.expires_at and to_iso(found.expires_at),
            message=done,
        )

    @get("/invites", opt=requires(ApiScope.MEMBERS_READ), summary="List invitations")
    async def list_invites(self, project: FromPath[str], invites: Injected[InviteService]) -> list[InviteAnswer]:
        """Those that can be accepted, oldest first; never their links."""
        return [_invite(row) for row in await invites.list(project)]

    @delete(
        "/invites/{invite_id:str}",
        opt=requires(ApiScope.MEMBERS_WRITE),
        status_code=200,
        summary="Revoke an invitation",
    )
    async def revoke_invite(
        self,
        request: ApiRequest,
        project: FromPath[str],
        invite_id: FromPath[str],
        invites: Injected[InviteService],
    ) -> MessageAnswer:
        """Its link is of no use from now on."""
        await invites.revoke(request.user, project, invite_id)
        return MessageAnswer(message="Invitation revoked successfully")


def _invite(row: Any) -> InviteAnswer:
    return InviteAnswer(
        id=row.id,
        email=row.email,
        role=row.role,
        invited_by=row.invited_by,
        expires_at=to_iso(row.expires_at),
        created_at=to_iso(row.created_at),
    )

"""Signing up and in, and the caller's own data."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import Controller, get, patch, post

from msgcore.api.access import PUBLIC, SIGNED_IN, USERS_ONLY, AnyRequest, ApiRequest, Injected, JsonBody, bearer_token
from msgcore.api.answers import Answer, MessageAnswer
from msgcore.api.client_address import caller_group
from msgcore.api.documented import problems
from msgcore.api.page_guard import PageGuard
from msgcore.api.parameters import AccountEmail
from msgcore.api.session_guard import session_of
from msgcore.core.content import Wire
from msgcore.core.private import private_repr
from msgcore.core.scopes import ApiScope
from msgcore.services.accounts import AccountService, SignedIn
from msgcore.services.invites import InviteService

GivenPassword = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
NewPassword = Annotated[
    str,
    msgspec.Meta(
        min_length=8, max_length=1024, description="at least 8 characters with an uppercase letter and a digit"
    ),
]
PersonName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class SignUp(Wire):
    """The first administrator."""

    __repr__ = private_repr

    email: AccountEmail
    password: NewPassword
    name: PersonName | None = None


class SignIn(Wire):
    """An address and its password."""

    __repr__ = private_repr

    email: AccountEmail
    password: GivenPassword


class AcceptInvite(Wire):
    """The last part of an invitation's link, and the account that it makes."""

    __repr__ = private_repr

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    name: PersonName
    password: NewPassword


class JoinProject(Wire):
    """The last part of an invitation's link."""

    __repr__ = private_repr

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class JoinedAnswer(Answer):
    """The project that the caller is in from now on, and as what."""

    message: str
    project_id: str
    role: str


class PasswordChange(Wire):
    """The password so far, and the new one."""

    __repr__ = private_repr

    current_password: GivenPassword
    new_password: NewPassword


class ProfileChange(Wire):
    """What people may change about themselves."""

    name: PersonName | None = None


class SignedInUser(Answer):
    """A user, as sign-up and sign-in show it."""

    id: str
    email: str
    name: str | None
    is_admin: bool


class AuthAnswer(Answer):
    """A token for `Authorization: Bearer`, valid for seven days, and whose it is."""

    __repr__ = private_repr

    access_token: str
    user: SignedInUser


class ProfileUser(Answer):
    """A user, as the profile shows it."""

    id: str
    email: str
    name: str | None


class ProfileAnswer(Answer):
    """The profile after a change."""

    message: str
    user: ProfileUser


class WhoamiUser(Answer):
    """The user behind a token."""

    user_id: str
    email: str | None
    name: str | None
    is_admin: bool


class WhoamiProject(Answer):
    """The project of a key."""

    id: str
    name: str


class WhoamiKey(Answer):
    """The key that was used."""

    id: str
    name: str | None


class WhoamiAnswer(Answer, omit_defaults=True):
    """Who is calling: `user` for a token, `project` and `apiKey` for a key.

    `permissions` are a key's scopes; a user's are all scopes, because in a project the role decides.
    """

    auth_type: str
    permissions: list[str]
    user: WhoamiUser | None = None
    project: WhoamiProject | None = None
    api_key: WhoamiKey | None = None


class AuthController(Controller):
    """Accounts of people."""

    path = "/api/v1/auth"
    tags = ("Auth",)

    @post(
        "/signup",
        opt=PUBLIC,
        summary="Sign up the first administrator",
        responses=problems(HTTPStatus.FORBIDDEN),
    )
    async def sign_up(
        self,
        request: AnyRequest,
        data: JsonBody[SignUp],
        accounts: Injected[AccountService],
        page_guard: Injected[PageGuard],
    ) -> AuthAnswer:
        """Open until somebody has signed up; after that by invitation only."""
        page_guard.refuse_unproven(request.scope)
        return _auth_answer(
            await accounts.sign_up(data.email, data.password, data.name, address=caller_group(request.scope))
        )

    @post(
        "/login",
        opt=PUBLIC,
        summary="Sign in with e-mail address and password",
        responses=problems(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    )
    async def sign_in(
        self,
        request: AnyRequest,
        data: JsonBody[SignIn],
        accounts: Injected[AccountService],
        page_guard: Injected[PageGuard],
    ) -> AuthAnswer:
        """The token is valid for seven days."""
        page_guard.refuse_foreign(request.scope)
        return _auth_answer(await accounts.sign_in(data.email, data.password, address=caller_group(request.scope)))

    @post(
        "/accept-invite",
        opt=PUBLIC,
        summary="Accept an invitation",
        responses=problems(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    )
    async def accept_invite(
        self,
        request: AnyRequest,
        data: JsonBody[AcceptInvite],
        invites: Injected[InviteService],
        page_guard: Injected[PageGuard],
    ) -> AuthAnswer:
        """Makes an account that is a member of the project, and signs it in. Who has one signs in and joins instead."""
        page_guard.refuse_foreign(request.scope)
        return _auth_answer(
            await invites.accept(data.token, data.name, data.password, address=caller_group(request.scope))
        )

    @post("/join", opt=USERS_ONLY, summary="Accept an invitation as who is signed in")
    async def join(
        self, request: ApiRequest, data: JsonBody[JoinProject], invites: Injected[InviteService]
    ) -> JoinedAnswer:
        """The account need not have the address that was invited: the link is for whom it was handed to."""
        project, role = await invites.join(request.user, data.token)
        return JoinedAnswer(message="Project joined successfully", project_id=project, role=role)

    @get("/whoami", opt=SIGNED_IN, summary="Who is calling, and with which permissions")
    async def whoami(self, request: ApiRequest, accounts: Injected[AccountService]) -> WhoamiAnswer:
        """For API keys and for users."""
        caller = request.user
        if caller.kind == "jwt":
            user = WhoamiUser(user_id=caller.id, email=caller.email, name=caller.name, is_admin=caller.is_admin)
            return WhoamiAnswer(auth_type="jwt", permissions=list(ApiScope), user=user)
        project_id, project_name = await accounts.project_of_key(caller)
        return WhoamiAnswer(
            auth_type="api-key",
            permissions=sorted(caller.scopes),
            project=WhoamiProject(id=project_id, name=project_name),
            api_key=WhoamiKey(id=caller.id, name=caller.name),
        )

    @patch("/profile", opt=USERS_ONLY, summary="Change the own name")
    async def change_profile(
        self, request: ApiRequest, data: JsonBody[ProfileChange], accounts: Injected[AccountService]
    ) -> ProfileAnswer:
        """What is left out stays as it is."""
        user = await accounts.rename(request.user.id, data.name)
        return ProfileAnswer(
            message="Profile updated successfully", user=ProfileUser(id=user.id, email=user.email, name=user.name)
        )

    @patch("/password", opt=USERS_ONLY, summary="Change the own password")
    async def change_password(
        self,
        request: ApiRequest,
        data: JsonBody[PasswordChange],
        accounts: Injected[AccountService],
    ) -> MessageAnswer:
        """Needs the current password. All tokens and sessions of the user end at once, but for the one that asks."""
        session = session_of(request.scope)
        await accounts.change_password(
            request.user.id,
            data.current_password,
            data.new_password,
            address=caller_group(request.scope),
            spared=session.token if session else bearer_token(request.headers.get("authorization", "")) or "",
        )
        return MessageAnswer(message="Password updated successfully")

    @post("/logout-all", opt=USERS_ONLY, status_code=200, summary="Sign out everywhere")
    async def sign_out_everywhere(self, request: ApiRequest, accounts: Injected[AccountService]) -> MessageAnswer:
        """All tokens and sessions of the user end at once, the one that asks too."""
        await accounts.sign_out_everywhere(request.user.id)
        return MessageAnswer(message="Signed out everywhere")


def _auth_answer(signed_in: SignedIn) -> AuthAnswer:
    user = signed_in.user
    return AuthAnswer(
        access_token=signed_in.access_token,
        user=SignedInUser(id=user.id, email=user.email, name=user.name, is_admin=user.is_admin),
    )

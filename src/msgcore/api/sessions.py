"""Signing in and out with a cookie, for pages in a browser."""

from __future__ import annotations

from http import HTTPStatus

from litestar import Controller, Response, delete, get, post

from msgcore.api.access import PUBLIC, USERS_ONLY, AnyRequest, ApiRequest, Injected, JsonBody, bearer_token
from msgcore.api.answers import Answer, MessageAnswer, Timestamp
from msgcore.api.auth import SignedInUser, SignIn
from msgcore.api.client_address import caller_group
from msgcore.api.documented import problems
from msgcore.api.session_guard import PLACE, SessionGuard, session_of
from msgcore.core.clock import to_iso
from msgcore.core.errors import ForbiddenError, NotFoundError
from msgcore.core.private import private_repr
from msgcore.services.sessions import Session, SessionService


class SessionAnswer(Answer):
    """Whose session it is, when it ends at the latest, and what `X-CSRF-Token` has to say."""

    __repr__ = private_repr

    user: SignedInUser
    expires_at: Timestamp
    csrf_token: str


class SessionController(Controller):
    """Sessions of browsers."""

    path = PLACE
    tags = ("Auth",)

    @post(
        "/",
        opt=PUBLIC,
        summary="Sign in with a cookie",
        responses=problems(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    )
    async def sign_in(
        self,
        request: AnyRequest,
        data: JsonBody[SignIn],
        sessions: Injected[SessionService],
        session_guard: Injected[SessionGuard],
    ) -> Response[SessionAnswer]:
        """For pages in a browser: the cookie is out of scripts' reach. It ends after seven days, or 12 hours unused."""
        session_guard.refuse_foreign(request.scope)
        address = caller_group(request.scope)
        session = await sessions.sign_in(data.email, data.password, address=address)
        return Response(_answer(session), cookies=[session_guard.cookie(session)])

    @post("/exchange", opt=USERS_ONLY, summary="Exchange a token for a cookie")
    async def exchange(
        self, request: ApiRequest, sessions: Injected[SessionService], session_guard: Injected[SessionGuard]
    ) -> Response[SessionAnswer]:
        """For a token of a sign-in, here or elsewhere, as `Authorization`. The session ends no later than the token."""
        if session_of(request.scope) is not None:
            raise ForbiddenError("A session makes no further one: send Authorization: Bearer <token>")
        session_guard.refuse_foreign(request.scope)
        session = await sessions.exchange(bearer_token(request.headers["authorization"]) or "")
        return Response(_answer(session), cookies=[session_guard.cookie(session)])

    @get("/", opt=USERS_ONLY, summary="Whose session it is")
    async def show(self, request: ApiRequest) -> SessionAnswer:
        """For a page that was loaded anew: it has the CSRF token again."""
        return _answer(_required(request))

    @delete("/", opt=USERS_ONLY, status_code=200, summary="Sign out of the session")
    async def sign_out(
        self, request: ApiRequest, sessions: Injected[SessionService], session_guard: Injected[SessionGuard]
    ) -> Response[MessageAnswer]:
        """It ends at once, and the others of the user stay; `auth/logout-all` ends all."""
        await sessions.end(_required(request))
        return Response(MessageAnswer(message="Signed out"), cookies=[session_guard.no_cookie()])


def _required(request: ApiRequest) -> Session:
    session = session_of(request.scope)
    if session is None:
        raise NotFoundError(
            f"There is no session, the request is by a token: POST {PLACE} signs in with a password and begins one, "
            f"POST {PLACE}/exchange makes one of the token"
        )
    return session


def _answer(session: Session) -> SessionAnswer:
    caller = session.principal
    user = SignedInUser(id=caller.id, email=caller.email or "", name=caller.name, is_admin=caller.is_admin)
    return SessionAnswer(user=user, expires_at=to_iso(session.expires_at), csrf_token=session.csrf_token)

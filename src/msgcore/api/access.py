"""Who may call what, and the conventions of every controller.

A controller is a thin `litestar.Controller`: it names its access, takes its services by name, calls
one of them and shapes the answer.

* **Access**: each handler declares what it asks of its caller with `opt=requires(ApiScope.X)`,
  `opt=SIGNED_IN`, `opt=USERS_ONLY`, `opt=ADMINISTRATORS` or `opt=PUBLIC`. One middleware enforces it for
  the whole API before the body is read; a handler that declares nothing stops the server from starting.
* **Limits**: the same middleware counts each request (`rate_limit`), but for those to a `PROBED` handler.
* **Tenancy**: the path parameter of a project is always called `project`. It has been checked that
  the caller may use it; services still narrow every query to it.
* **Caller**: `request: ApiRequest` gives the `Principal` as `request.user` (a `PUBLIC` handler has none).
* **Services**: each field of `services.container.Services` is a dependency of the same name:
  `projects: Injected[ProjectService]`, `sending: Injected[SendService]`. Litestar resolves several
  dependencies of one handler in a task group, so a hot handler takes one.
* **Parameters**: `project: FromPath[str]`, `limit: Limit = 50`, other query parameters as
  `Annotated[..., QueryParameter(...)]` (see `parameters`).
* **Body**: `data: JsonBody[SomeStruct]`, a struct that forbids unknown fields (`core.content.Wire`).
  `body.BodyDto` decodes it strictly and answers 400 with every wrong field.
* **Answers** are typed structs (`answers.Answer`), so that OpenAPI is right. Times are
  `answers.Timestamp`, made by `core.clock.to_iso`. Creating answers 201, everything else 200.
* **Sessions**: a cookie counts where no header and no subprotocol has a credential. It makes the same kind of principal
  as a token does; `session_guard` keeps other sites from using it.
* **Errors**: raise a `ProblemError` of `core.errors`; `errors` shapes it.
* **WebSockets** declare access as requests do, and are refused before they open (`socket_entry`). They outlive
  what was checked then, so their handlers ask again with `socket.auth()`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import structlog
from litestar.connection import Request, WebSocket
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import RequestBody, SkipValidation
from litestar.types import ASGIApp, Receive, Scope, Send

from msgcore.api.errors import explain
from msgcore.api.origin import note_key, origin_of
from msgcore.api.parameters import refuse_nul
from msgcore.api.rate_limit import RateGate
from msgcore.api.request_id import request_id
from msgcore.api.session_guard import SessionGuard
from msgcore.api.socket_entry import offered_credentials, refuse_socket
from msgcore.core.errors import ForbiddenError, UnauthenticatedError
from msgcore.core.origin import set_origin
from msgcore.core.scopes import ApiScope, Principal
from msgcore.services.authenticator import Authenticator

T = TypeVar("T")


ApiRequest: TypeAlias = Request[Principal, None, State]
"""A request whose `user` is the authenticated principal."""

AnyRequest: TypeAlias = Request[Any, None, State]
"""A request to a public handler: nobody knows who calls."""

ApiSocket: TypeAlias = WebSocket[Principal, Callable[[], Awaitable[Principal]], State]
"""A WebSocket; `await socket.auth()` is the principal by now, or raises the ProblemError that says why no longer."""

Injected: TypeAlias = NamedDependency[SkipValidation[T]]
"""A service, injected by the parameter's name."""

JsonBody: TypeAlias = RequestBody[T]
"""The decoded request body; the parameter must be called `data`."""

ACCESS = "access"


@dataclass(frozen=True, slots=True)
class Access:
    """What a handler asks of its caller: the kinds of principal let in (none: everybody), and scopes.

    `administrators`: only those of the whole installation. `probed`: monitoring asks it as often as it wants to.
    """

    callers: frozenset[str] = frozenset()
    scopes: tuple[ApiScope, ...] = ()
    administrators: bool = False
    probed: bool = False


_ANYBODY_KNOWN = frozenset({"api-key", "jwt"})

PUBLIC: dict[str, Any] = {ACCESS: Access()}
"""Anybody, unauthenticated."""

PROBED: dict[str, Any] = {ACCESS: Access(probed=True)}
"""Anybody, and without a limit: what tells whether all is well."""

SIGNED_IN: dict[str, Any] = {ACCESS: Access(_ANYBODY_KNOWN)}
"""Any API key or user."""

USERS_ONLY: dict[str, Any] = {ACCESS: Access(frozenset({"jwt"}))}
"""Any signed-in user; API keys are refused."""

ADMINISTRATORS: dict[str, Any] = {ACCESS: Access(frozenset({"jwt"}), administrators=True)}
"""The administrators of the installation."""


def requires(*scopes: ApiScope) -> dict[str, Any]:
    """Callers with all these scopes: keys that have them, members whose role allows them, in the path's project."""
    return {ACCESS: Access(_ANYBODY_KNOWN, scopes)}


def declared_access(handler: BaseRouteHandler) -> Access | None:
    """What a handler declares, or None if it forgot to."""
    return cast("Access | None", handler.opt.get(ACCESS))


def is_preflight(handler: BaseRouteHandler) -> bool:
    """Whether Litestar made this handler to answer OPTIONS, which tells nothing but the methods."""
    return isinstance(handler, HTTPRouteHandler) and handler.http_methods == {"OPTIONS"}


_FAILURE = "msgcore.failure"


def fail_request(scope: Scope, error: Exception) -> None:
    """Let a request end with this error, answered in the shape of all errors, before its handler is called."""
    cast("dict[str, Any]", scope)[_FAILURE] = error


class _Credentials(NamedTuple):
    """What a request shows: a key, or else a bearer's token, or else a session's."""

    api_key: str | None
    authorization: str
    session: str | None = None


class AccessMiddleware:
    """Authenticates and authorizes every request before its body is read; leaves the principal in `request.user`.

    A middleware rather than one of Litestar's guards, for which Litestar copies the handler at each
    request: together with the plain look at the headers this saves a sixth of an accepting request.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, sessions: SessionGuard, gate: RateGate) -> None:
        self._app = app
        self._authenticator = authenticator
        self._sessions = sessions
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or raise the ProblemError that says why not; refuse the socket because of it."""
        structlog.contextvars.bind_contextvars(request_id=request_id(scope))
        set_origin(origin_of(scope))
        if scope["type"] == "http":
            await self._check(scope)
        else:
            try:
                await self._check(scope)
            except Exception as error:  # noqa: BLE001 - it is explained, or logged
                problem = explain(error, request_id(scope), path=scope["path"])
                await refuse_socket(scope, receive, send, problem)
                return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        failure: Exception | None = cast("dict[str, Any]", scope).get(_FAILURE)
        if failure is not None:
            raise failure
        refuse_nul(scope["path"], scope["query_string"])
        handler = scope["route_handler"]
        access = declared_access(handler)
        if access is None:
            if not is_preflight(handler):
                raise ForbiddenError(f"{scope['path']} declares no access")
        elif access.callers:
            shown = self._credentials(scope)
            project_id = scope["path_params"].get("project")
            # For answers without an end, which ask again every now and then.
            scope["auth"] = partial(self._admit, shown, access, project_id)
            with self._gate.guessing(scope, shown.api_key or shown.authorization or shown.session or ""):
                if shown.session is not None:
                    caller = await self._sessions.enter(scope, shown.session)
                else:
                    caller = await self._identify(shown)
            if caller.kind == "api-key":
                note_key(scope, caller.id)
            self._gate.count_caller(scope, access.scopes, caller)
            scope["user"] = await self._allow(caller, access, project_id)
            if project_id is not None:
                self._gate.count_person(scope, access.scopes, caller, project_id)
        elif not access.probed:
            self._gate.count_stranger(scope)

    def _credentials(self, scope: Scope) -> _Credentials:
        shown = _in_headers(scope)
        if not shown.api_key and not shown.authorization and scope["type"] == "websocket":
            shown = _Credentials(*offered_credentials(scope["subprotocols"]))
        if not shown.api_key and not shown.authorization:
            shown = shown._replace(session=self._sessions.offered(scope))
        return shown

    async def _admit(self, shown: _Credentials, access: Access, project_id: str | None) -> Principal:
        if shown.session is not None:
            return await self._allow(await self._sessions.ask_again(shown.session), access, project_id)
        return await self._allow(await self._identify(shown), access, project_id)

    async def _identify(self, shown: _Credentials) -> Principal:
        principal = self._authenticator.recall(shown.api_key) if shown.api_key else None
        if principal is None:
            principal = await self._authenticator.authenticate(shown.api_key, bearer_token(shown.authorization))
        return principal

    async def _allow(self, principal: Principal, access: Access, project_id: str | None) -> Principal:
        if principal.kind not in access.callers:
            raise ForbiddenError("API keys cannot do this: sign in as a user and send Authorization: Bearer <token>")
        if access.administrators and not principal.is_admin:
            raise ForbiddenError("Only administrators of this installation can do this")
        for needed in access.scopes:
            await self._authenticator.authorize(principal, project_id=project_id, scope=needed)
        return principal


def access_control(
    authenticator: Authenticator, sessions: SessionGuard, gate: RateGate
) -> Callable[[ASGIApp], ASGIApp]:
    """What Litestar wraps every route in."""
    return lambda app: AccessMiddleware(app, authenticator, sessions, gate)


def _in_headers(scope: Scope) -> _Credentials:
    """The headers `X-API-Key` and `Authorization`. Raises UnauthenticatedError for one that is there twice.

    What stands before the gateway may have looked at the other one.
    """
    api_key: str | None = None
    authorization: str | None = None
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            api_key = _only(api_key, value, "X-API-Key")
        elif name == b"authorization":
            authorization = _only(authorization, value, "Authorization")
    return _Credentials(api_key, authorization or "")


def _only(earlier: str | None, value: bytes, header: str) -> str:
    if earlier is not None:
        raise UnauthenticatedError(f"The request has several headers {header}: send one")
    return value.decode("latin-1")


def bearer_token(authorization: str) -> str | None:
    """The token of an `Authorization: Bearer` header, or None for another one."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None

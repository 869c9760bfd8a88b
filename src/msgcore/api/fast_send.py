"""The short way for the one request that MsgCore gets most: a key sends a message.

A framework's routing, injection and response objects cost more than everything MsgCore itself does
to accept a message. This application, around the whole API, therefore answers
`POST .../messages/send` directly when all is plain: a known key with the scope, one JSON body that
decodes, a message that is accepted. Whatever else it meets, errors included, it hands on untouched to
the API, whose handler `MessagesController.send` is the full description of the endpoint.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import msgspec
import structlog
from litestar.types import ASGIApp, Receive, Scope, Send

from msgcore.api.access import fail_request
from msgcore.api.messages import SEND_SUFFIX, send_answer
from msgcore.api.origin import note_key
from msgcore.api.rate_limit import RateGate, allowance_headers, refuse_request
from msgcore.api.request_id import request_id
from msgcore.core.content import SendRequest
from msgcore.core.errors import RateLimitedError
from msgcore.core.scopes import ApiScope, Principal
from msgcore.services.authenticator import Authenticator
from msgcore.services.send import SendService

_PREFIX: Final = "/api/v1/projects/"
_TEMPLATE: Final = f"{_PREFIX}{{project}}{SEND_SUFFIX}"
"""As Litestar's router writes the path, for who counts requests."""

_JSON: Final = frozenset((b"application/json", b"application/json; charset=utf-8"))
_UNUSUAL: Final = frozenset((b"origin", b"transfer-encoding", b"content-encoding", b"expect"))
"""Headers of requests that take the long way; CORS is the API's business."""


class FastSend:
    """An ASGI application that answers plain sends, and passes all else on to `api`."""

    def __init__(
        self, api: ASGIApp, authenticator: Authenticator, sending: SendService, gate: RateGate, *, largest: int
    ) -> None:
        """`largest` is how many bytes a body may have that is answered here."""
        self._api = api
        self._authenticator = authenticator
        self._sending = sending
        self._gate = gate
        self._largest = largest
        self._decoder = msgspec.json.Decoder(SendRequest)
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        project = _project_of_send(scope)
        if project is None:
            await self._api(scope, receive, send)
            return
        first = cast("dict[str, Any]", await receive())
        structlog.contextvars.bind_contextvars(request_id=request_id(scope))
        try:
            answer = await self._accept(scope, project, first)
        except RateLimitedError as problem:
            scope["path_template"] = _TEMPLATE
            await refuse_request(scope, send, problem)
            return
        if answer is None:
            await self._api(scope, replaying(first, receive), send)
            return
        scope["path_template"] = _TEMPLATE
        await send(
            {
                "type": "http.response.start",
                "status": 201,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(answer)),
                    (b"x-request-id", request_id(scope).encode()),
                    *allowance_headers(scope),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer, "more_body": False})

    async def _accept(self, scope: Scope, project: str, message: dict[str, Any]) -> bytes | None:
        """The answer to an accepted message; None for the API to do and to explain. Raises RateLimitedError."""
        body: bytes = message.get("body", b"")  # a disconnect has none
        plain = _plain_headers(scope, body)
        if plain is None or len(body) > self._largest or b"\\u0000" in body:
            return None
        principal = self._authenticator.recall(plain.api_key)
        if principal is not None:
            note_key(scope, principal.id)
        if principal is None or not _may_send(principal, project):
            return None
        self._gate.count_send(scope, principal)
        try:
            request = self._decoder.decode(body)
            new = await self._sending.prepare(principal, project, request, idempotency_key=plain.idempotency_key)
        except Exception:  # noqa: BLE001 - nothing is stored yet: the API meets the same, and answers for it
            return None
        try:
            accepted = await self._sending.accept(new)
        except Exception as error:  # noqa: BLE001 - it may be stored: the API must answer, and not accept again
            fail_request(scope, error)
            return None
        return self._encoder.encode(send_answer(accepted, request))


class _PlainHeaders(NamedTuple):
    api_key: str
    idempotency_key: str | None


def _plain_headers(scope: Scope, body: bytes) -> _PlainHeaders | None:
    """What the headers of a plain request say; None for one that is not plain, or whose body is not complete."""
    api_key = idempotency_key = None
    announced = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            if api_key is not None:
                return None
            api_key = value.decode("latin-1")
        elif name == b"content-length":
            announced = value
        elif name == b"idempotency-key":
            idempotency_key = value.decode("latin-1")
        elif name in _UNUSUAL or (name == b"content-type" and value.lower() not in _JSON):
            return None
    if api_key is None or announced != b"%d" % len(body):
        return None
    return _PlainHeaders(api_key, idempotency_key)


def _project_of_send(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path = scope["path"]
    if not path.startswith(_PREFIX) or not path.endswith(SEND_SUFFIX):
        return None
    return path[len(_PREFIX) : -len(SEND_SUFFIX)]


def _may_send(principal: Principal, project: str) -> bool:
    return principal.project_id == project and ApiScope.MESSAGES_WRITE in principal.scopes


def replaying(first: dict[str, Any], receive: Receive) -> Receive:
    """A `receive` that gives the message that was taken off the connection first."""
    taken = [first]

    async def replay() -> Any:
        return taken.pop() if taken else await receive()

    return replay

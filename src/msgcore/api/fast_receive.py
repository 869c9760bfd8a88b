"""The short way for what platforms post: see `fast_send` for why there is one.

This application, around the whole API, answers a request to a platform's webhook directly when it is plain: a
method that the platform uses, and one small body that is complete. Whatever else it meets it hands on untouched to the
API, whose handler `InboundWebhooksController.receive` is the full description; errors it leaves to the API to answer.
"""

from __future__ import annotations

from typing import Any, Final, cast

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from msgcore.api.access import fail_request
from msgcore.api.fast_send import replaying
from msgcore.api.rate_limit import RateGate, refuse_request
from msgcore.api.request_id import request_id
from msgcore.core.errors import RateLimitedError
from msgcore.inbound.receiver import Receiver
from msgcore.platforms.receiving import InboundAnswer, InboundRequest

_PREFIX: Final = "/api/v1/webhooks/"
_TEMPLATE: Final = f"{_PREFIX}{{platform}}/{{webhook_token}}"
_PARTS: Final = 2
_UNUSUAL: Final = frozenset((b"transfer-encoding", b"content-encoding", b"expect"))
"""Headers of requests of which nothing is read here: the API finds out first whether there is such an address."""


class FastReceive:
    """An ASGI application that takes plain requests of platforms, and passes all else on to `api`."""

    def __init__(self, api: ASGIApp, receiver: Receiver, gate: RateGate, *, largest: int) -> None:
        """`largest` is how many bytes a body may have that is read here, of whomever."""
        self._api = api
        self._receiver = receiver
        self._gate = gate
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        place = _place(scope)
        if place is None or cast("dict[str, Any]", scope)["method"] not in self._receiver.methods(place[0]):
            await self._api(scope, receive, send)
            return
        headers = self._plain_headers(scope)
        try:
            self._gate.count_platform(scope, place[1])
        except RateLimitedError as problem:
            scope["path_template"] = _TEMPLATE
            await refuse_request(scope, send, problem)
            return
        if headers is None:
            await self._api(scope, receive, self._noting(scope, place[1], send))
            return
        first = cast("dict[str, Any]", await receive())
        request = self._complete(scope, headers, first)
        answer = None if request is None else await self._take(scope, place, request)
        if answer is None:
            await self._api(scope, replaying(first, receive), self._noting(scope, place[1], send))
            return
        self._gate.note_platform(scope, place[1], answer.status)
        scope["path_template"] = _TEMPLATE
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"x-request-id", request_id(scope).encode()),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})

    def _noting(self, scope: Scope, token: str, send: Send) -> Send:
        """A `send` that tells the gate what the API answers."""

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._gate.note_platform(scope, token, message["status"])
            await send(message)

        return noting

    async def _take(self, scope: Scope, place: tuple[str, str], request: InboundRequest) -> InboundAnswer | None:
        structlog.contextvars.bind_contextvars(request_id=request_id(scope))
        try:
            return await self._receiver.receive(*place, request)
        except Exception as error:  # noqa: BLE001 - the API answers for it
            fail_request(scope, error)
            return None

    def _plain_headers(self, scope: Scope) -> dict[str, str] | None:
        """The headers of a request, or None for one that is not plain, or has a large body."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            if name in _UNUSUAL:
                return None
            headers[name.decode("latin-1")] = value.decode("latin-1")
        announced = headers.get("content-length", "0")
        return headers if announced.isdecimal() and int(announced) <= self._largest else None

    def _complete(self, scope: Scope, headers: dict[str, str], message: dict[str, Any]) -> InboundRequest | None:
        """The request, or None for one whose body is not complete."""
        body: bytes = message.get("body", b"")  # a disconnect has none
        if headers.get("content-length", "0") != str(len(body)):
            return None
        return InboundRequest(
            method=cast("dict[str, Any]", scope)["method"],
            headers=headers,
            query=scope["query_string"].decode("latin-1"),
            body=body,
            received_at=self._receiver.clock.now(),
        )


def _place(scope: Scope) -> tuple[str, str] | None:
    """The platform and the token of a webhook's address."""
    if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
        return None
    parts = scope["path"][len(_PREFIX) :].removesuffix("/").split("/")
    return (parts[0], parts[1]) if len(parts) == _PARTS and all(parts) else None

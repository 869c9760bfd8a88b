"""Bodies that do not come, and bodies that nobody reads.

An ASGI server lets `receive` wait for a body for as long as its connection is open, however little comes. And it
keeps a connection whose request was answered before its body had come, or closes it while the client still
writes: then the next request there waits for ever, or the client loses the answer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, cast

from litestar.types import ASGIApp, Receive, Scope, Send

LARGEST: Final = 1024 * 1024
"""Bytes that are read of a body that nobody wants. A connection with more to come is closed."""

REST_SECONDS: Final = 1.0
"""How long an answer waits for them."""

_LATE: Final = "msgcore.late_body"
_CLOSE: Final = (b"connection", b"close")


def allowed_seconds(scope: Scope) -> float | None:
    """How long the body of a request might have taken, for one that took longer; else None."""
    return cast("dict[str, Any]", scope).get(_LATE)


class WholeBodies:
    """An ASGI application around `api`, to which a body that comes too late is one whose client is gone.

    What is left of a body is read before the answer to it begins, or the answer closes the connection.
    """

    def __init__(self, api: ASGIApp, *, seconds: float) -> None:
        """`seconds` is how long a body may take."""
        self._api = api
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        body = _Body(scope, receive, send, self._seconds)
        await self._api(scope, body.receive, body.send)


class _Body:
    """The body of one request."""

    __slots__ = ("_deadline", "_has_ended", "_is_lost", "_receive", "_scope", "_seconds", "_send")

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._seconds = seconds
        self._deadline: float | None = None
        self._has_ended = False
        self._is_lost = False

    async def receive(self) -> Any:
        """The next piece, in time; after the last one whatever the server has to say."""
        if self._is_lost:
            return {"type": "http.disconnect"}
        if self._has_ended:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = cast("dict[str, Any]", await self._receive())
        except TimeoutError:
            self._is_lost = True
            cast("dict[str, Any]", self._scope)[_LATE] = self._seconds
            return {"type": "http.disconnect"}
        self._has_ended = not message.get("more_body")  # a disconnect has none
        return message

    def send(self, message: Any) -> Any:
        """Send a part of the answer; before the first one, read what is left."""
        if message["type"] == "http.response.start" and not self._has_ended:
            return self._begin_answer(message)
        return self._send(message)

    async def _begin_answer(self, message: Any) -> None:
        if _has_body(self._scope) and (self._is_lost or not await self._read_rest()):
            self._is_lost = True
            if self._scope["http_version"].startswith("1"):  # later versions have no such header
                message["headers"] = [*message["headers"], _CLOSE]
        await self._send(message)

    async def _read_rest(self) -> bool:
        """Whether a small body could be read to its end. One that the client asks for leave to send is not begun."""
        if _announced(self._scope) > LARGEST or (self._deadline is None and _asks_leave(self._scope)):
            return False
        left = LARGEST
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                while left >= 0:
                    message = cast("dict[str, Any]", await self._receive())
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        self._has_ended = True
                        return message["type"] == "http.request"
        return False


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _announced(scope: Scope) -> int:
    """The bytes of the body, as far as the request's head says."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), 0)


def _asks_leave(scope: Scope) -> bool:
    return any(name == b"expect" for name, _ in scope["headers"])

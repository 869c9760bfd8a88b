"""Letting go of clients that ask for a stream and read nothing of it.

An ASGI server lets `send` wait while a client takes nothing, however long that is. What waits there has a page of
events in memory and a subscription, or an open file.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.stdlib.get_logger(__name__)

TAKE_SECONDS = 30.0
"""How long a client may take nothing before it is let go. A WebSocket has as long."""


def letting_go(app: ASGIApp) -> ASGIApp:
    """A middleware for an endpoint that streams."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        client = _Client(receive, send)
        await app(scope, client.receive, client.send)

    return watched


class _Client:
    """Who takes nothing for too long counts as gone.

    The application is told that it is, and ends. Without the end of the answer the server breaks the connection
    off, by which the client, if it reads again, sees that it did not get all.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._listening: asyncio.Future[Any] | None = None
        self._is_gone = False

    async def send(self, message: Message) -> None:
        """Send in time, or not at all."""
        if self._is_gone:
            return
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                await self._send(message)
        except TimeoutError:
            log.info("stream_stalled", seconds=TAKE_SECONDS)
            self._is_gone = True
            if self._listening is not None:
                self._listening.cancel()

    async def receive(self) -> Any:
        """What the client says, or that it is gone."""
        if not self._is_gone:
            listening: asyncio.Future[Any] = asyncio.ensure_future(self._receive())
            self._listening = listening
            try:
                return await listening
            except asyncio.CancelledError:
                if not self._is_gone:
                    raise
        return {"type": "http.disconnect"}

"""Slack's end of Socket Mode, for one app (https://docs.slack.dev/apis/events-api/using-socket-mode).

Each address is for one connection; an app has ten at most; an envelope goes to any of them. What is not acknowledged
until its connection ends is told again if it is an event, as the Events API does, and is lost otherwise.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import WSMsgType, web

from servers.http_sink import HttpSink
from servers.patience import PATIENCE

MOST_CONNECTIONS = 10
WITHOUT_RETRY = frozenset(("interactive", "slash_commands"))


@dataclass
class Envelope:
    """Something to be told, until it is acknowledged."""

    kind: str
    payload: Any
    attempt: int = 0
    id: str = field(default_factory=lambda: str(uuid4()))

    def encoded(self) -> str:
        more = {"retry_attempt": self.attempt, "retry_reason": ""} if self.kind == "events_api" else {}
        about = {"envelope_id": self.id, "type": self.kind, "accepts_response_payload": self.kind in WITHOUT_RETRY}
        return msgspec.json.encode({"payload": self.payload, **about, **more}).decode()


@dataclass(eq=False)
class Connection:
    """An open WebSocket, and what was told over it."""

    socket: web.WebSocketResponse
    unacknowledged: dict[str, Envelope] = field(default_factory=dict)
    pings: int = 0


class SocketMode:
    """Answers at `sink`."""

    def __init__(self, sink: HttpSink, token: str) -> None:
        self.open: list[Connection] = []
        self.waiting: list[Envelope] = []
        self.acknowledged: list[str] = []
        self.lost: list[Envelope] = []
        self.opened = 0
        self.refusal: Any = None
        """What apps.connections.open answers instead: a body, or a status."""
        self.greets = True
        self._sink = sink
        self._token = token
        self._tickets: set[str] = set()
        sink.answer = self._answer

    async def tell(self, kind: str, payload: Any) -> str:
        """Tell something over the connection that has been open the longest, or as soon as there is one."""
        envelope = Envelope(kind, payload)
        await self._tell(envelope)
        return envelope.id

    async def disconnect(self, reason: str, connection: Connection | None = None) -> None:
        """Say that a connection is about to end."""
        message = {"type": "disconnect", "reason": reason, "debug_info": {"host": "wss-111.slack.com"}}
        await (connection or self.open[0]).socket.send_json(message)

    async def until(self, *, acknowledged: int = 0, connections: int | None = None) -> None:
        """Wait until so much was acknowledged in all, and so many connections are open."""
        async with asyncio.timeout(PATIENCE):
            while len(self.acknowledged) < acknowledged or (connections not in (None, len(self.open))):
                await asyncio.sleep(0.005)

    async def _tell(self, envelope: Envelope) -> None:
        if not self.open:
            self.waiting.append(envelope)
            return
        connection = self.open[0]
        connection.unacknowledged[envelope.id] = envelope
        with suppress(ConnectionError):  # whoever listened is gone: see `_connect`
            await connection.socket.send_str(envelope.encoded())

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = self._sink.requests[-1]
        if request.path == "/link/":
            return await self._connect(request)
        assert (asked.method, asked.path, asked.body) == ("POST", "/apps.connections.open", b"")
        assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
        if self.refusal is not None:
            status, body = self.refusal
            return web.json_response(body, status=status, headers={"Retry-After": "7"} if status == 429 else {})
        if asked.headers.get("Authorization") != f"Bearer {self._token}":
            return web.json_response({"ok": False, "error": "invalid_auth"})
        ticket = str(uuid4())
        self._tickets.add(ticket)
        url = f"ws://{asked.headers['Host']}/link/?ticket={ticket}&app_id=A1234"
        return web.json_response({"ok": True, "url": url})

    async def _connect(self, request: web.BaseRequest) -> web.StreamResponse:
        ticket = request.query["ticket"]
        if ticket not in self._tickets:
            return web.Response(status=404)
        self._tickets.remove(ticket)
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        connection = Connection(socket)
        if not self.greets:
            await socket.receive()
            return socket
        if len(self.open) == MOST_CONNECTIONS:
            await self.disconnect("too_many_websockets", connection)
            return socket
        self.opened += 1
        self.open.append(connection)
        about = {"connection_info": {"app_id": "A1234"}, "debug_info": {"approximate_connection_time": 3600}}
        await socket.send_json({"type": "hello", "num_connections": len(self.open), **about})
        while self.waiting:
            await self._tell(self.waiting.pop(0))
        with suppress(ConnectionError):
            await self._read(connection)
        self.open.remove(connection)
        for envelope in connection.unacknowledged.values():
            await self._tell_again(envelope)
        return socket

    async def _read(self, connection: Connection) -> None:
        async for message in connection.socket:
            if message.type is WSMsgType.PING:
                connection.pings += 1
                await connection.socket.pong(message.data)
                continue
            answer = msgspec.json.decode(message.data)
            assert set(answer) == {"envelope_id"}
            del connection.unacknowledged[answer["envelope_id"]]
            self.acknowledged.append(answer["envelope_id"])

    async def _tell_again(self, envelope: Envelope) -> None:
        if envelope.kind in WITHOUT_RETRY or envelope.attempt == 3:
            self.lost.append(envelope)
        else:
            await self._tell(Envelope(envelope.kind, envelope.payload, envelope.attempt + 1))

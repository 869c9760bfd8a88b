"""Discord's gateway, as its documentation has it: strict about what bots may do, and with sessions that can be resumed.

https://docs.discord.com/developers/events/gateway and .../topics/opcodes-and-status-codes. What a bot did wrong is in
`complaints`, beside the code that it is closed with.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from servers.patience import PATIENCE

TOKEN = "MTIzNDU2Nzg5MDEyMzQ1Njc4.GaTeWa.of-tests"
BOT = "123456789012345678"
ALL_INTENTS = sum(1 << bit for bit in (*range(17), 20, 21, 24, 25))
PRIVILEGED = 1 << 1 | 1 << 8 | 1 << 15
LARGEST_SENT = 4096
REASONS = {
    4000: "Unknown error.",
    4001: "Unknown opcode.",
    4002: "Error while decoding payload.",
    4003: "Not authenticated.",
    4004: "Authentication failed.",
    4005: "Already authenticated.",
    4007: "Invalid seq.",
    4008: "Rate limited.",
    4009: "Session timed out.",
    4010: "Invalid shard.",
    4011: "Sharding required.",
    4012: "Invalid API version.",
    4013: "Invalid intent(s).",
    4014: "Disallowed intent(s).",
}


@dataclass
class Session:
    """A session: its events are kept for who resumes it."""

    id: str
    shard: tuple[int, int]
    intents: int
    compressed: bool
    events: list[dict[str, Any]] = field(default_factory=list)
    link: web.WebSocketResponse | None = None


@dataclass
class DiscordGateway:
    """The server: what it did, and how it is to behave."""

    port: int = 0
    token: str = TOKEN
    shards: int = 1
    allowed: int = ALL_INTENTS
    """Intents that are switched on in the portal."""
    interval: float = 41.25
    acknowledges: bool = True
    says_hello: bool = True
    remaining: int = 1000
    max_concurrency: int = 1
    apart: float = 5.0
    resume_url: str | None = None
    close_with: int | None = None
    """Instead of READY."""
    sessions: dict[str, Session] = field(default_factory=dict)
    identified: list[dict[str, Any]] = field(default_factory=list)
    resumed: list[dict[str, Any]] = field(default_factory=list)
    beats: list[int | None] = field(default_factory=list)
    left_with: list[int | None] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    answered: list[tuple[str, Any]] = field(default_factory=list)
    asked: int = 0
    links: int = 0
    _last_begun: dict[int, float] = field(default_factory=dict)
    _made: Counter[str] = field(default_factory=Counter)

    @property
    def api(self) -> str:
        """The root of the HTTP API, as `MSGCORE_DISCORD_BASE_URL` wants it."""
        return f"http://127.0.0.1:{self.port}/api/v10"

    @property
    def url(self) -> str:
        """Where sessions begin."""
        return f"ws://127.0.0.1:{self.port}"

    # --- what happens at Discord's

    async def tell(self, name: str, data: dict[str, Any], *, shard: int = 0) -> None:
        """An event in all sessions of a shard; who is not there gets it on resuming."""
        for session in list(self.sessions.values()):
            if session.shard[0] == shard:
                await self._dispatch(session, name, data)

    async def say(self, id_: str, text: str = "", *, shard: int = 0) -> None:
        """Somebody writes a message."""
        author = {"id": "80351110224678912", "username": "nelly", "global_name": "Nelly", "discriminator": "0"}
        about = {"channel_id": "290926798999357250", "author": author, "content": text or id_, "type": 0}
        about |= {"timestamp": "2026-03-01T12:00:00.000000+00:00", "edited_timestamp": None, "attachments": []}
        await self.tell("MESSAGE_CREATE", {"id": id_, "guild_id": "290926798626357999", **about}, shard=shard)

    async def op(self, op: int, data: Any = None) -> None:
        """Send something else to everybody."""
        for session in list(self.sessions.values()):
            if session.link is not None:
                await session.link.send_json({"op": op, "d": data, "s": None, "t": None})

    def cut(self) -> None:
        """Break all connections, without a word."""
        for session in self.sessions.values():
            if session.link is not None:
                link, session.link = session.link, None
                assert link._req is not None
                assert link._req.transport is not None
                link._req.transport.abort()

    async def close(self, code: int) -> None:
        """Close all connections with a code."""
        for session in self.sessions.values():
            if session.link is not None:
                link, session.link = session.link, None
                await link.close(code=code, message=REASONS.get(code, "").encode())

    def begun_just_now(self) -> None:
        """Another process with the same token has begun a session."""
        self._last_begun = dict.fromkeys(range(self.max_concurrency), asyncio.get_running_loop().time())

    async def until_up(self, number: int = 1) -> None:
        """Wait until so many sessions have their connection."""
        async with asyncio.timeout(PATIENCE):
            while sum(session.link is not None for session in self.sessions.values()) != number:
                await asyncio.sleep(0.005)

    # --- HTTP

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/":
            return await self._serve(request)
        if request.path.endswith("/callback"):
            self.answered.append((request.path, await request.json()))
            return web.Response(status=204)
        if request.headers.get("Authorization") != f"Bot {self.token}":
            return web.json_response({"message": "401: Unauthorized", "code": 0}, status=401)
        assert request.path == "/api/v10/gateway/bot", request.path
        self.asked += 1
        limit = {"total": 1000, "remaining": self.remaining, "reset_after": 14_400_000}
        limit |= {"max_concurrency": self.max_concurrency}
        return web.json_response({"url": self.url, "shards": self.shards, "session_start_limit": limit})

    # --- the gateway

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        link = web.WebSocketResponse()
        await link.prepare(request)
        self.links += 1
        if dict(request.query) != {"v": "10", "encoding": "json"}:
            self.complaints.append(f"asked for {request.query_string}")
        session: Session | None = None
        with suppress(ConnectionError):
            if not self.says_hello:
                await link.receive()
                return link
            await link.send_json({"op": 10, "d": {"heartbeat_interval": self.interval * 1000}, "s": None, "t": None})
            session = await self._talk(link)
        if session is not None and session.link is link:
            session.link = None
            if link.close_code in {1000, 1001}:  # so it is documented: such an end is meant
                self.sessions.pop(session.id, None)
        self.left_with.append(link.close_code)
        return link

    async def _talk(self, link: web.WebSocketResponse) -> Session | None:
        session: Session | None = None
        while True:
            try:
                # "If your app fails to send a heartbeat event in time, your connection will be closed."
                message = await link.receive(timeout=self.interval * 2 + 1)
            except TimeoutError:
                return await self._refuse(link, 4009, session)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return session
            try:
                frame = json.loads(message.data)
                op, data = frame["op"], frame["d"]
            except (ValueError, KeyError):
                return await self._refuse(link, 4002, session)
            if len(message.data) > LARGEST_SENT:
                return await self._refuse(link, 4002, session)
            if op == 1:
                await self._beat(link, session, data)
            elif op in {2, 6} and session is not None:
                return await self._refuse(link, 4005, session)
            elif op == 2:
                session = await self._identify(link, data)
            elif op == 6:
                session = await self._resume(link, data)
            else:
                return await self._refuse(link, 4001 if session else 4003, session)
            if link.closed:
                return session

    async def _refuse(self, link: web.WebSocketResponse, code: int, session: Session | None = None) -> Session | None:
        self.complaints.append(REASONS[code])
        await link.close(code=code, message=REASONS[code].encode())
        return session

    async def _beat(self, link: web.WebSocketResponse, session: Session | None, sequence: Any) -> None:
        sent = len(session.events) if session else 0
        if not (sequence is None or (isinstance(sequence, int) and 0 < sequence <= sent)):
            self.complaints.append(f"a heartbeat with {sequence!r} where {sent} were sent")
        self.beats.append(sequence)
        if self.acknowledges:
            await link.send_json({"op": 11, "d": None, "s": None, "t": None})

    async def _identify(self, link: web.WebSocketResponse, data: dict[str, Any]) -> Session | None:
        self.identified.append(data)
        self.remaining -= 1
        now, shard = asyncio.get_running_loop().time(), tuple(data.get("shard", (0, 1)))
        if set(data["properties"]) != {"os", "browser", "device"}:
            self.complaints.append(f"properties {data['properties']}")
        if data["token"] != self.token:
            return await self._refuse(link, 4004)
        if data["intents"] & ~ALL_INTENTS:
            return await self._refuse(link, 4013)
        if data["intents"] & PRIVILEGED & ~self.allowed:
            return await self._refuse(link, 4014)
        if shard[0] >= shard[1]:
            return await self._refuse(link, 4010)
        if shard[1] < self.shards or self.close_with is not None:
            return await self._refuse(link, self.close_with or 4011)
        bucket = shard[0] % self.max_concurrency
        if now - self._last_begun.get(bucket, -1e9) < self.apart:
            self.complaints.append("began too fast")
            await link.send_json({"op": 9, "d": False, "s": None, "t": None})
            return None
        self._last_begun[bucket] = now
        self._made["session"] += 1
        session = Session(f"session-{self._made['session']}", shard, data["intents"], bool(data.get("compress")))
        self.sessions[session.id] = session
        session.link = link
        user = {"id": BOT, "username": "shop", "discriminator": "0", "bot": True}
        ready = {"v": 10, "user": user, "guilds": [], "session_id": session.id, "shard": list(shard)}
        ready |= {"resume_gateway_url": self.resume_url or self.url, "application": {"id": BOT, "flags": 0}}
        await self._dispatch(session, "READY", ready)
        return session

    async def _resume(self, link: web.WebSocketResponse, data: dict[str, Any]) -> Session | None:
        self.resumed.append(data)
        if data["token"] != self.token:
            return await self._refuse(link, 4004)
        session = self.sessions.get(data["session_id"])
        if session is None:
            await link.send_json({"op": 9, "d": False, "s": None, "t": None})
            return None
        if self.close_with is not None:
            return await self._refuse(link, self.close_with)
        if not 0 <= data["seq"] <= len(session.events):
            return await self._refuse(link, 4007)
        if session.link is not None:
            await session.link.close(code=4000)
        session.link = link
        for event in session.events[data["seq"] :]:
            await self._send(session, event)
        await self._dispatch(session, "RESUMED", {})
        return session

    async def _dispatch(self, session: Session, name: str, data: dict[str, Any]) -> None:
        event = {"op": 0, "t": name, "s": len(session.events) + 1, "d": data}
        session.events.append(event)
        if session.link is not None:
            await self._send(session, event)

    async def _send(self, session: Session, event: dict[str, Any]) -> None:
        assert session.link is not None
        text = json.dumps(event)
        with suppress(ConnectionError):
            if session.compressed and event["s"] % 2:  # "not all payloads will be compressed"
                await session.link.send_bytes(zlib.compress(text.encode()))
            else:
                await session.link.send_str(text)


@asynccontextmanager
async def discord_gateway(**given: Any) -> AsyncIterator[DiscordGateway]:
    """A gateway on a free port of 127.0.0.1, in the running event loop."""
    made = DiscordGateway(**given)
    runner = web.ServerRunner(web.Server(made.handle), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", made.port)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        made.cut()
        await runner.cleanup()

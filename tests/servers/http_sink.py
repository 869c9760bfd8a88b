"""A real HTTP server that keeps what it gets and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpSink:
    """What arrived, and what is answered: `answer` for each request, 204 without one."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    answer: Answer | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The root of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def answers(self, status: int, *, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Give every request this answer."""

        async def answer(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=headers)

        self.answer = answer

    def hangs_up(self) -> None:
        """Close the connection of every request after reading it, without an answer."""

        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

        self.answer = answer

    def never_answers(self) -> None:
        """Read every request and stay silent."""

        async def answer(_request: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        self.answer = answer

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.content.read()  # request.read() refuses more than a megabyte
        self.requests.append(Request(request.method, request.path_qs, dict(request.headers), body))
        self.connections.add(id(request.transport))
        self.arrived.set()
        return web.Response(status=204) if self.answer is None else await self.answer(request)


@asynccontextmanager
async def http_sink() -> AsyncIterator[HttpSink]:
    """A server on a free port of 127.0.0.1, in the running event loop."""
    sink = HttpSink()
    runner = web.ServerRunner(web.Server(sink._handle), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sink.port = runner.addresses[0][1]
    try:
        yield sink
    finally:
        await runner.cleanup()

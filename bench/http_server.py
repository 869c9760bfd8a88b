"""A bare HTTP/1.1 server: the other end of benchmarks, which must cost next to nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import uvloop

END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class Request(NamedTuple):
    """A request as it came; `path` with its query, `head` with every header."""

    method: str
    path: str
    head: bytes
    body: bytes


Handler = Callable[[Request], bytes | None]
"""Gives the whole answer, or None to keep the client waiting for ever (a long poll)."""


def answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """A whole JSON answer."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + END + body


class Connection(asyncio.Protocol):
    """One client; answers every whole request, pipelined or not."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = transport  # type: ignore[assignment] # uvloop's own class, not a child of asyncio's

    def data_received(self, data: bytes) -> None:
        """Take bytes in; answer what is whole."""
        self._buffer += data
        while (request := self._next()) is not None:
            reply = self._handler(request)
            if reply is not None and self._transport is not None:
                self._transport.write(reply)

    def _next(self) -> Request | None:
        """The first request of the buffer, if all of it is there."""
        end = self._buffer.find(END)
        if end < 0:
            return None
        head = self._buffer[:end]
        size = _body_size(head.lower(), self._buffer, end + len(END))
        if size is None or len(self._buffer) < end + len(END) + size:
            return None
        body = self._buffer[end + len(END) : end + len(END) + size]
        self._buffer = self._buffer[end + len(END) + size :]
        method, path, _ = head[: head.index(b"\r\n")].decode("latin-1").split(" ", 2)
        return Request(method, path, head, body)


def _body_size(head: bytes, buffer: bytes, start: int) -> int | None:
    """Bytes of the body as they are on the wire (chunks with their frame); None while that is not known."""
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        return int(head[at + 17 :].split(b"\r\n", 1)[0])
    if b"\r\ntransfer-encoding: chunked" in head:
        last = buffer.find(LAST_CHUNK, start)
        return None if last < 0 else last + len(LAST_CHUNK) - start
    return 0


def serve(handler: Handler, port: int) -> None:
    """Serve on loopback until the process is killed."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Connection(handler), "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(run())


def port_argument() -> int:
    """The port, which is the first argument of a server's command."""
    return int(sys.argv[1])

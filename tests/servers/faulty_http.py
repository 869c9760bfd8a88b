"""A platform at its edge, which plays what each message wants to meet: refusals, garbage, broken connections.

A message says in its text which script it is about: `marker(17)`. What comes after the script, and what no script
is about, is answered as the platform answers.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from servers.http_sink import Request
from servers.raw_http import Connection

Play = Callable[[Connection], Awaitable[None]]
"""What is done about one request."""

_MARKER = re.compile(rb"case([0-9]{4})x")
_LONG = 3 * 1024 * 1024
_PIECE = 64 * 1024


def marker(number: int) -> str:
    """The word that a message of this script has in its text: the same in each dialect and encoding."""
    return f"case{number:04}x"


# --- plays


def answers(status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> Play:
    """A whole answer: JSON of a body, or bytes as they are."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if content[:1] in b"{[" else {"Content-Type": "text/html"}

    async def play(connection: Connection) -> None:
        await connection.say(_head(status, len(content), {**kind, **(headers or {})}) + content)

    return play


def page(status: int, headers: Mapping[str, str] | None = None) -> Play:
    """The page of a proxy."""
    words = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>nginx</body></html>"
    return answers(status, words.encode(), headers)


def breaks_off(status: int, after: bytes = b'{"o') -> Play:
    """The head, a little of the body, and the end of the connection."""

    async def play(connection: Connection) -> None:
        await connection.say(_head(status, 1000, {"Content-Type": "application/json"}) + after)
        connection.writer.close()

    return play


def says_too_much(status: int) -> Play:
    """A body that nobody wants to read."""

    async def play(connection: Connection) -> None:
        await connection.say(_head(status, _LONG, {"Content-Type": "application/json"}))
        for _ in range(_LONG // _PIECE):
            await connection.say(b" " * _PIECE)

    return play


def drips(status: int) -> Play:
    """A body that never ends."""

    async def play(connection: Connection) -> None:
        await connection.say(_head(status, _LONG, {"Content-Type": "application/json"}))
        while not connection.writer.is_closing():
            await connection.say(b"{")
            await asyncio.sleep(0.02)

    return play


def says(data: bytes) -> Play:
    """These bytes, and the end of the connection."""

    async def play(connection: Connection) -> None:
        await connection.say(data)
        connection.writer.close()

    return play


async def resets(connection: Connection) -> None:
    """The connection is reset."""
    connection.reset()


async def holds(connection: Connection) -> None:
    """No answer, for as long as the client waits."""
    await connection.reader.read()


async def drips_its_head(connection: Connection) -> None:
    """An answer whose head never ends."""
    await connection.say(b"HTTP/1.1 200 OK\r\n")
    while not connection.writer.is_closing():
        await connection.say(b"X-A: b\r\n")
        await asyncio.sleep(0.05)


def _head(status: int, length: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


# --- the server


@dataclass
class FaultyServer:
    """`scripts` has the plays of each script, one a request; `came` the requests that were about one, with when."""

    answers: Callable[[Request], tuple[int, Any]]
    now: Callable[[], float]
    place: socket.socket
    scripts: dict[int, Sequence[Play]] = field(default_factory=dict)
    came: dict[int, list[float]] = field(default_factory=dict)
    methods: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    listening: asyncio.Server | None = None
    _played: Counter[int] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        """The root of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self.place.getsockname()[1]}"

    async def listen(self) -> None:
        """Refuse connections no more."""
        self.listening = await asyncio.start_server(self.handle, sock=self.place, backlog=512)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        connection = Connection(reader, writer)
        try:
            while not writer.is_closing():
                await self._play(connection, await _read(connection))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed it
        finally:
            writer.close()

    async def _play(self, connection: Connection, request: Request) -> None:
        found = _MARKER.search(request.body)
        plays: Sequence[Play] = ()
        if found is not None:
            number = int(found[1])
            self.came.setdefault(number, []).append(self.now())
            self.methods[number] = request.method
            plays = self.scripts.get(number, ())[self._played[number] :]
            self._played[number] += 1
        await (plays[0] if plays else self._as_the_platform(request))(connection)

    def _as_the_platform(self, request: Request) -> Play:
        try:
            return answers(*self.answers(request))
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.problems.append(f"{request.method} {request.path}: {error!r}")
            return answers(500, {})


@contextmanager
def faulty_server(to_answer: Callable[[Request], tuple[int, Any]], now: Callable[[], float]) -> Iterator[FaultyServer]:
    """A server with a place of its own, where it refuses connections until it is told to listen."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        server = FaultyServer(to_answer, now, place)
        yield server
        if server.listening is not None:
            server.listening.close()


async def _read(connection: Connection) -> Request:
    head = await connection.reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    length = int(headers.get("Content-Length", 0))
    return Request(method, path, headers, await connection.reader.readexactly(length) if length else b"")

"""An SMTP server that does one thing wrong, once, at one place of a session."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from servers.faulty_http import Play
from servers.raw_http import Connection

_REPLIES = {
    "greeting": b"220 mail.test ESMTP",
    "EHLO": b"250-mail.test\r\n250-AUTH PLAIN\r\n250 SIZE 1000000",
    "HELO": b"250 mail.test",
    "AUTH": b"235 2.7.0 Welcome",
    "MAIL": b"250 OK",
    "RCPT": b"250 OK",
    "DATA": b"354 Go on",
    "text": b"250 2.0.0 Taken",
    "RSET": b"250 OK",
    "QUIT": b"221 Bye",
}
_MESSAGE_ID = re.compile(rb"^Message-ID: *(\S+)", re.IGNORECASE | re.MULTILINE)


def replies(line: bytes) -> Play:
    """This reply, and the session goes on."""

    async def play(connection: Connection) -> None:
        await connection.say(line + b"\r\n")

    return play


async def replies_without_end(connection: Connection) -> None:
    """A reply that always has one more line."""
    while not connection.writer.is_closing():
        await connection.say(b"250-and so on\r\n")
        await asyncio.sleep(0.01)


@dataclass
class FaultySmtp:
    """`place` is a word of `_REPLIES`, and `play` what is done when a session first comes there.

    `came` has when each session came there, and `taken` the Message-ID of each mail that was received whole.
    """

    place: str
    play: Play | None
    now: Callable[[], float]
    socket: socket.socket
    came: list[float] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    listening: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it is."""
        return int(self.socket.getsockname()[1])

    async def listen(self) -> None:
        """Refuse connections no more."""
        self.listening = await asyncio.start_server(self._handle, sock=self.socket)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        try:
            await self._reach("greeting", connection)
            while not writer.is_closing() and (line := await reader.readline()):
                word = line.split()[0].decode().upper()
                await self._reach(word, connection)
                if word == "DATA" and not writer.is_closing():
                    await self._read_text(connection)
                elif word == "QUIT":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed it
        finally:
            writer.close()

    async def _read_text(self, connection: Connection) -> None:
        text = await connection.reader.readuntil(b"\r\n.\r\n")
        found = _MESSAGE_ID.search(text)
        assert found is not None
        self.taken.append(found[1])
        await self._reach("text", connection)

    async def _reach(self, place: str, connection: Connection) -> None:
        is_first = not self.came
        if place == self.place:
            self.came.append(self.now())
            if is_first and self.play is not None:
                return await self.play(connection)
        return await connection.say(_REPLIES[place] + b"\r\n")


@contextmanager
def faulty_smtp(place: str, play: Play | None, now: Callable[[], float]) -> Iterator[FaultySmtp]:
    """A server with a place of its own, where it refuses connections until it is told to listen."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = FaultySmtp(place, play, now, bound)
        yield server
        if server.listening is not None:
            server.listening.close()

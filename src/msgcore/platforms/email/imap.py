"""One IMAP connection (RFC 3501, IDLE RFC 2177), which reads one folder and changes nothing in it.

The protocol is the standard library's `imaplib`. Its commands block, so they run in threads; a connection that waits
for mail has none. Its documented hooks (`open`, `read`, `readline`, `send`, `shutdown`) are where the socket of the
egress guard comes in, and where what a server may make us keep is bounded.
"""

from __future__ import annotations

import asyncio
import imaplib
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, TypeVar

from msgcore.core.errors import DeliveryError
from msgcore.platforms.email.client import is_loopback
from msgcore.platforms.email.imap_errors import folder_error, login_error, tls_required, typed, uids_unsupported
from msgcore.platforms.email.imap_words import quoted, uid_set, wire_date, wire_folder
from msgcore.security.egress import EgressGuard

T = TypeVar("T")

TLS_PORT: Final = 993
PLAIN_PORT: Final = 143
CONNECT_SECONDS: Final = 20.0
COMMAND_SECONDS: Final = 30.0
"""For the answer to a command that carries no mails."""
FETCH_SECONDS: Final = 120.0
"""For a batch of mails, however slowly they come."""
LONGEST_LINE: Final = 1_000_000
ROOM: Final = 4_000_000
"""Bytes of an answer that carries no mails."""
CHUNK: Final = 64 * 1024
_IDLE: Final = b"IDLE1"

_UID = re.compile(rb"\bUID (\d+)")
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)")


class Wire(imaplib.IMAP4):
    """imaplib over a socket that is connected already."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.room = ROOM
        self._got = bytearray()
        super().__init__()

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """It is open."""
        del timeout
        self.host, self.port = host, port

    def read(self, size: int) -> bytes:
        """So many bytes, which a literal has."""
        self._spend(size)
        while len(self._got) < size:
            if not self._receive():
                raise self.abort("the connection ended within an answer")
        return self._cut(size)

    def readline(self) -> bytes:
        """The next line; empty at the end of the connection."""
        looked = 0
        while (end := self._got.find(b"\n", looked)) < 0:
            looked = len(self._got)
            if looked > LONGEST_LINE:
                raise self.abort("a line is too long")
            if not self._receive():
                return b""
        self._spend(end + 1)
        return self._cut(end + 1)

    def send(self, data: Any) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def shutdown(self) -> None:
        """Hang up."""
        self.sock.close()

    def encrypt(self, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        """Go on with TLS. What came in the clear behind the server's consent may be anybody's: it ends here."""
        if self._got:
            raise self.abort("more than the answer to STARTTLS came in the clear")
        self.sock = context.wrap_socket(self.sock, server_hostname=host)
        return self.sock

    @property
    def has_more(self) -> bool:
        """Whether something that came was not looked at yet, though the socket has nothing to read."""
        return bool(self._got) or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0)

    def _receive(self) -> bool:
        data = self.sock.recv(CHUNK)
        self._got += data
        return bool(data)

    def _spend(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise self.abort("an answer is too large")

    def _cut(self, size: int) -> bytes:
        data = bytes(memoryview(self._got)[:size])
        del self._got[:size]
        return data


@dataclass(frozen=True, slots=True)
class Login:
    """Where a mailbox is, and how to get in."""

    host: str
    port: int
    tls: str
    user: str
    password: str = field(repr=False)
    folder: str

    @classmethod
    def of(cls, credentials: Mapping[str, Any]) -> Login:
        """From an account's credentials, with what they leave open."""
        tls: str = credentials.get("imapTls") or ("starttls" if credentials.get("imapPort") == PLAIN_PORT else "tls")
        own = bool(credentials.get("imapPassword"))
        return cls(
            host=credentials["imapHost"],
            port=credentials.get("imapPort") or (TLS_PORT if tls == "tls" else PLAIN_PORT),
            tls=tls,
            user=credentials.get("imapUser") or credentials.get("smtpUser") or "",
            password=credentials["imapPassword"] if own else credentials.get("smtpPassword") or "",
            folder=credentials.get("imapFolder") or "INBOX",
        )


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder as it is: what its UIDs are worth, and the one that the next mail will get."""

    validity: int
    next_uid: int


class ImapSession:
    """A connection; use it for one thing at a time. Each method raises DeliveryError."""

    def __init__(self, sock: socket.socket, host: str, threads: Executor) -> None:
        self._sock = sock
        self._host = host
        self._threads = threads
        # TLS takes the socket itself over; this is another name for it, to wait with and to hang up by.
        self._handle = sock.dup()
        self._imap: Wire | None = None
        self._capabilities: frozenset[str] = frozenset()

    @property
    def can_idle(self) -> bool:
        """Whether the server tells of new mail by itself."""
        return "IDLE" in self._capabilities

    async def begin(self, login: Login, context: ssl.SSLContext, *, may_be_plain: bool) -> None:
        """Encrypt as asked for, and log in; without TLS only where nobody is in between."""
        await self._call(lambda: self._open(login, context), COMMAND_SECONDS)
        if login.tls == "none" and not may_be_plain:
            raise tls_required(login.host)
        await self._call(lambda: self._log_in(login), COMMAND_SECONDS)

    async def examine(self, folder: str) -> Folder:
        """Open a folder to read it. Raises PermanentError if there is none."""
        return await self._call(lambda: self._examine(folder), COMMAND_SECONDS)

    async def search(self, first: int, last: int, since: date | None) -> list[int]:
        """The UIDs of a range, in order; of mails that came on a day or later, if one is given."""
        criteria = f"UID {first}:{last}" + (f" SINCE {wire_date(since)}" if since else "")
        lines = await self._call(lambda: self._uid("SEARCH", criteria), COMMAND_SECONDS)
        found = {int(word) for line in lines if isinstance(line, bytes) for word in line.split() if word.isdigit()}
        return sorted(uid for uid in found if first <= uid <= last)

    async def sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """How many bytes mails have, as far as they are there."""
        lines = await self._call(lambda: self._uid("FETCH", uid_set(uids), "(RFC822.SIZE)"), COMMAND_SECONDS)
        sizes: dict[int, int] = {}
        for line in lines:
            text = line if isinstance(line, bytes) else line[0]
            uid, size = _UID.search(text), _SIZE.search(text)
            if uid is not None and size is not None:
                sizes[int(uid[1])] = int(size[1])
        return sizes

    async def fetch(self, uids: Sequence[int], room: int) -> dict[int, bytes]:
        """Mails as they are, as far as they are there; all together may have so many bytes. Marks none as seen."""
        lines = await self._call(lambda: self._uid("FETCH", uid_set(uids), "(BODY.PEEK[])", room=room), FETCH_SECONDS)
        return dict(_bodies(lines))

    async def idle(self, seconds: float) -> None:
        """Wait until the server tells of something, or for so many seconds."""
        if not await self._call(self._begin_idle, COMMAND_SECONDS):
            await self._readable(seconds)
        await self._call(self._end_idle, COMMAND_SECONDS)

    def close(self) -> None:
        """Hang up. Nothing may be under way."""
        self._hang_up()
        self._handle.close()
        self._sock.close()

    # --- in a thread

    def _open(self, login: Login, context: ssl.SSLContext) -> None:
        self._sock.settimeout(COMMAND_SECONDS)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if login.tls == "tls":
            self._sock = context.wrap_socket(self._sock, server_hostname=login.host)
        self._imap = imap = Wire(self._sock)
        if login.tls == "starttls":
            if "STARTTLS" not in imap.capabilities or imap.xatom("STARTTLS")[0] != "OK":
                raise tls_required(login.host)
            self._sock = imap.encrypt(context, login.host)

    def _log_in(self, login: Login) -> None:
        imap = self._wire()
        words: Any = (quoted(login.user), quoted(login.password))  # bytes are sent as they are, text must be ASCII
        try:
            if "AUTH=PLAIN" in _capabilities(imap):
                imap.authenticate("PLAIN", lambda _: f"\0{login.user}\0{login.password}".encode())
            else:
                _check(imap, *imap.xatom("LOGIN", *words))
                imap.state = "AUTH"
        except imap.abort:
            raise
        except imap.error as error:
            raise login_error(error, self._host) from None
        self._capabilities = _capabilities(imap)

    def _examine(self, folder: str) -> Folder:
        imap = self._wire()
        kind, data = imap.select(quoted(wire_folder(folder)).decode(), readonly=True)
        if kind != "OK":
            raise folder_error(data[0] or b"", self._host, folder)
        validity, next_uid = (imap.response(name)[1][-1] for name in ("UIDVALIDITY", "UIDNEXT"))
        if not (validity and next_uid):
            raise uids_unsupported(self._host)
        return Folder(int(validity), int(next_uid))

    def _uid(self, command: str, *arguments: str, room: int = ROOM) -> list[Any]:
        imap = self._wire(room)
        kind, data = imap.uid(command, *arguments)
        _check(imap, kind, data)
        return [each for each in data if each is not None]

    def _begin_idle(self) -> bool:
        """Whether there is news already."""
        imap = self._wire()
        imap.send(_IDLE + b" IDLE\r\n")
        news = False
        while not (line := self._line(imap)).startswith(b"+"):
            if line.startswith(_IDLE):
                raise imap.error("IDLE was refused")
            news = True
        return news or imap.has_more

    def _end_idle(self) -> None:
        imap = self._wire()
        imap.send(b"DONE\r\n")
        while not self._line(imap).startswith(_IDLE):
            continue

    def _wire(self, room: int = ROOM) -> Wire:
        if self._imap is None:
            raise imaplib.IMAP4.abort("not open")
        self._imap.room = room
        return self._imap

    def _line(self, imap: Wire) -> bytes:
        line = imap.readline()
        if not line or line.startswith(b"* BYE"):
            raise imap.abort("the server said goodbye")
        return line

    # --- around the threads

    async def _call(self, work: Callable[[], T], seconds: float) -> T:
        """Run a command in a thread. One that takes too long, or is cancelled, ends with its connection."""
        running = self._threads.submit(work)
        waiting = asyncio.wrap_future(running)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(waiting)
        except DeliveryError:
            raise
        except (imaplib.IMAP4.error, OSError, ValueError) as error:
            raise typed(error, self._host) from error
        finally:
            if not running.done():
                self._hang_up()
                await _end(running, waiting)

    async def _readable(self, seconds: float) -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._handle.fileno(), came.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await came.wait()
        finally:
            loop.remove_reader(self._handle.fileno())

    def _hang_up(self) -> None:
        with suppress(OSError):  # it is gone already
            self._handle.shutdown(socket.SHUT_RDWR)


async def connect(login: Login, egress: EgressGuard, threads: Executor, context: ssl.SSLContext) -> ImapSession:
    """A connection that is logged in. Raises DeliveryError."""
    try:
        sock = await egress.open_socket(login.host, login.port, CONNECT_SECONDS)
    except OSError as error:
        raise typed(error, login.host) from error
    session = ImapSession(sock, login.host, threads)
    try:
        await session.begin(login, context, may_be_plain=is_loopback(sock.getpeername()[0]))
    except BaseException:
        session.close()
        raise
    return session


async def _end(running: Future[T], waiting: asyncio.Future[T]) -> None:
    """Wait until a thread has let go of a socket that was shut down; it does at once."""
    if running.cancel():
        return
    while not waiting.done():
        with suppress(asyncio.CancelledError):  # whoever waits for this is being cancelled already
            await asyncio.wait([waiting])
    waiting.exception()


def _check(imap: Wire, kind: str, data: Sequence[Any]) -> None:
    """Raise what the server says, as imaplib itself does for some commands, unless it says OK."""
    if kind != "OK":
        raise imap.error(str(data[-1]))


def _capabilities(imap: Wire) -> frozenset[str]:
    _, data = imap.capability()
    return frozenset((data[-1] or b"").decode("ascii", "replace").upper().split())


def _bodies(lines: Iterable[Any]) -> Iterator[tuple[int, bytes]]:
    """UIDs and mails of an answer: pairs of what comes before a literal and the literal, and the ends of lines."""
    head: bytes = b""
    body: bytes | None = None
    for line in lines:
        if not isinstance(line, bytes):
            head, body = line
            continue
        uid = _UID.search(head) or _UID.search(line)  # before the mail or after it
        if body is not None and uid is not None:
            yield int(uid[1]), body
        head, body = b"", None

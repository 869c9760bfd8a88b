"""One shard's connection to the gateway: begins or resumes its session, keeps it alive, and reads what comes.

Source: https://docs.discord.com/developers/events/gateway and .../gateway-events, version 10, as JSON. Events come
compressed one by one ("payload compression"): a stream's decompressor would take 40 KB of each idle connection.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import msgspec

from msgcore.core.errors import DeliveryError, TemporaryError
from msgcore.outbound.transport import Socket, SocketClosedError, TooLargeError
from msgcore.platforms.discord.closing import RESUMABLE, HungUpError, read_close
from msgcore.platforms.discord.events import EVENTS
from msgcore.platforms.discord.intents import Intent, privileged
from msgcore.platforms.discord.journal import Journal, Session

if TYPE_CHECKING:
    from msgcore.outbound.transport import Transport
    from msgcore.platforms.discord.starts import Starts

QUERY = "?v=10&encoding=json"
LARGEST_FRAME = 16_000_000
"""Bytes of a frame, compressed or not. The largest ones are of servers (GUILD_CREATE), which nobody here asks for."""
HELLO_SECONDS = 20.0
"""How long the server may take to say hello. From then on heartbeats tell whether it is there."""
STABLE_SECONDS = 10.0
"""A connection that was up for so long is made again at once; one that was not is an error, and waited with."""
FRESH_START_SECONDS = (1.0, 5.0)
"""Before a new session in place of one that is lost: when Discord forgets sessions, it forgets those of many bots."""

INTERACTION = "INTERACTION_CREATE"


class Op(IntEnum):
    """Opcodes (https://docs.discord.com/developers/topics/opcodes-and-status-codes#gateway-gateway-opcodes)."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    RESUME = 6
    RECONNECT = 7
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11


class Frame(msgspec.Struct):
    """A payload of the gateway."""

    op: int
    d: msgspec.Raw = msgspec.Raw(b"null")
    s: int | None = None
    t: str | None = None


class _Hello(msgspec.Struct):
    heartbeat_interval: Annotated[float, msgspec.Meta(gt=0, le=3_600_000)]


class _Ready(msgspec.Struct):
    session_id: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    resume_gateway_url: Annotated[str, msgspec.Meta(max_length=2048)]


_ENCODER: Final = msgspec.json.Encoder()
_FRAMES: Final = msgspec.json.Decoder(Frame)


@dataclass(frozen=True, slots=True)
class Bot:
    """Who connects, and how: what all shards of an account share.

    `answer` is given each interaction once it is safe; `trusts` tells whether an address is one of Discord's.
    """

    token: str = field(repr=False)
    intents: Intent
    http: Transport
    starts: Starts
    journal: Journal
    answer: Callable[[bytes], None]
    trusts: Callable[[str], bool]


class Shard:
    """The connection of one shard."""

    def __init__(self, number: int, bot: Bot, on_up: Callable[[], None]) -> None:
        self._number = number
        self._bot = bot
        self._journal = bot.journal
        self._on_up = on_up
        self._up_since: float | None = None
        self._is_alive = True
        """Whether the last heartbeat was acknowledged."""

    async def run(self) -> NoReturn:
        """Hold the connection, and make it again when Discord drops it, as it does from time to time.

        Raises DeliveryError where it cannot be had, and WrongShardsError.
        """
        was_refused = False
        while True:
            session = self._session()
            self._up_since = None
            try:
                await self._hold(session)
            except HungUpError as hung_up:
                if hung_up.ended:
                    self._journal.lose(self._number, hung_up.reason)
                if hung_up.ended and (session is not None or not was_refused):
                    was_refused = session is None  # once is no error: something else may have begun just then
                    await asyncio.sleep(random.uniform(*FRESH_START_SECONDS))
                elif self._was_stable():
                    was_refused = False
                else:
                    raise TemporaryError("gateway_hung_up", hung_up.reason) from None

    def _session(self) -> Session | None:
        return self._journal.progress.shards[self._number]

    def _was_stable(self) -> bool:
        up_since = self._up_since
        return up_since is not None and asyncio.get_running_loop().time() - up_since >= STABLE_SECONDS

    # --- one connection

    async def _hold(self, session: Session | None) -> None:
        try:
            async with AsyncExitStack() as open_ones:
                if session is None:
                    socket, interval = await self._begin(open_ones)
                else:
                    socket, interval = await self._resume(open_ones, session)
                await self._listen(socket, interval)
        except SocketClosedError as closed:
            raise read_close(closed.code, closed.reason, privileged(self._bot.intents)) from None
        except TooLargeError:
            # It would come again and again: only another session gets past it.
            reason = f"An event of more than {LARGEST_FRAME} bytes came"
            raise HungUpError(reason, ended=True) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, zlib.error) as error:
            raise TemporaryError("gateway_unreadable", f"Discord's gateway sent what cannot be read: {error}") from None

    async def _begin(self, open_ones: AsyncExitStack) -> tuple[Socket, float]:
        async with self._bot.starts.turn(self._number) as url:
            socket, interval = await self._connect(open_ones, [url])
            library = {"os": "linux", "browser": "msgcore", "device": "msgcore"}
            shard = (self._number, len(self._journal.progress.shards))
            intents = int(self._bot.intents)
            about = {"token": self._bot.token, "intents": intents, "properties": library, "shard": shard}
            await _send(socket, Op.IDENTIFY, about | {"compress": True})
        return socket, interval

    async def _resume(self, open_ones: AsyncExitStack, session: Session) -> tuple[Socket, float]:
        # Its own address may be gone with the machine that it was of.
        urls = dict.fromkeys((session.url, self._journal.progress.url))
        socket, interval = await self._connect(open_ones, urls)
        about = {"token": self._bot.token, "session_id": session.id, "seq": session.sequence}
        await _send(socket, Op.RESUME, about)
        return socket, interval

    async def _connect(self, open_ones: AsyncExitStack, urls: Iterable[str]) -> tuple[Socket, float]:
        """A connection to the first address that can be had, and how many seconds its heartbeats are apart."""
        failure: DeliveryError = TemporaryError("gateway_unknown", "There is no address of Discord's gateway")
        for url in urls:
            opened = self._bot.http.socket(url.rstrip("/") + "/" + QUERY, max_bytes=LARGEST_FRAME, leave_with=RESUMABLE)
            try:
                socket = await open_ones.enter_async_context(opened)
            except DeliveryError as error:
                failure = error
            else:
                return socket, await _hello(socket)
        raise failure

    async def _listen(self, socket: Socket, interval: float) -> NoReturn:
        loop = asyncio.get_running_loop()
        self._is_alive = True
        beat_at = loop.time() + interval * random.random()
        while True:
            if loop.time() >= beat_at:
                await self._beat(socket)
                beat_at = loop.time() + interval
            try:
                async with asyncio.timeout_at(beat_at):
                    await self._journal.room()
                    body = await socket.receive()
            except TimeoutError:
                continue
            await self._read(socket, _inflated(body))

    async def _beat(self, socket: Socket) -> None:
        if not self._is_alive:
            raise HungUpError("Discord did not acknowledge the last heartbeat")
        self._is_alive = False
        await self._send_heartbeat(socket)
        self._journal.catch_up()

    async def _send_heartbeat(self, socket: Socket) -> None:
        # What is safe, not what came: should Discord forget what was told so, nothing is lost by it.
        session = self._session()
        await _send(socket, Op.HEARTBEAT, None if session is None else self._journal.stored(session))

    # --- what comes

    async def _read(self, socket: Socket, body: bytes) -> None:
        frame = _FRAMES.decode(body)
        match frame.op:
            case Op.DISPATCH:
                self._take(frame, body)
            case Op.HEARTBEAT_ACK:
                self._is_alive = True
            case Op.HEARTBEAT:
                await self._send_heartbeat(socket)
            case Op.RECONNECT:
                raise HungUpError("Discord asked to connect anew")
            case Op.INVALID_SESSION if bytes(frame.d) == b"true":
                raise HungUpError("Discord asked to resume the session anew")
            case Op.INVALID_SESSION if self._session() is None:
                raise HungUpError("Discord begins no session, as it does where several begin at a time", ended=True)
            case Op.INVALID_SESSION:
                raise HungUpError("Discord has given up the session", ended=True)
            case _:
                pass  # of no matter to bots that only listen

    def _take(self, frame: Frame, body: bytes) -> None:
        if frame.t == "READY":
            ready = msgspec.json.decode(frame.d, type=_Ready)
            url = ready.resume_gateway_url
            main = self._journal.progress.url
            self._journal.begin(
                self._number, Session(ready.session_id, url if self._bot.trusts(url) else main, frame.s or 0)
            )
            self._came_up()
            return
        session = self._session()
        if session is None:
            raise HungUpError("An event came before the session", ended=True)
        afterwards = partial(self._bot.answer, bytes(frame.d)) if frame.t == INTERACTION else None
        sequence = session.sequence if frame.s is None else frame.s
        self._journal.take(session, sequence, body if frame.t in EVENTS else None, afterwards)
        if frame.t == "RESUMED":
            self._came_up()

    def _came_up(self) -> None:
        self._up_since = asyncio.get_running_loop().time()
        self._on_up()


async def _hello(socket: Socket) -> float:
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            frame = _FRAMES.decode(await socket.receive())
    except TimeoutError:
        raise TemporaryError("gateway_silent", "Discord's gateway said nothing") from None
    if frame.op != Op.HELLO:
        raise TemporaryError("gateway_unreadable", "Discord's gateway did not begin with a hello")
    return msgspec.json.decode(frame.d, type=_Hello).heartbeat_interval / 1000


async def _send(socket: Socket, op: Op, data: Any) -> None:
    await socket.send(_ENCODER.encode({"op": op, "d": data}).decode())


def _inflated(body: bytes) -> bytes:
    """A frame as JSON. Compressed ones are in the zlib format (RFC 1950), and so do not begin as an object does."""
    if body.startswith(b"{"):
        return body
    inflating = zlib.decompressobj()
    made = inflating.decompress(body, LARGEST_FRAME)
    if inflating.unconsumed_tail:
        raise TooLargeError
    return made

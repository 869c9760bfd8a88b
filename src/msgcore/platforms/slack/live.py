"""Events over WebSockets that the app opens itself (Socket Mode), for gateways that nobody can post to.

Source: https://docs.slack.dev/apis/events-api/using-socket-mode. Each envelope is acknowledged once it is stored. Slack
tells an event again that was not, over whichever connection there is, and it is read once, by its id. It ends each
connection after some hours and says so shortly before: the next one is opened then, and both are listened to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from msgcore.core.errors import DeliveryError, PermanentError, TemporaryError
from msgcore.outbound.transport import Socket, SocketClosedError, TooLargeError
from msgcore.platforms.answer_reader import AnswerReader
from msgcore.platforms.live import Live, Sink, State, fitting
from msgcore.platforms.slack.errors import OPENING_ERRORS, read_problem

if TYPE_CHECKING:
    from msgcore.outbound.services import AdapterServices
    from msgcore.platforms.base import Account

BASE_URL = "https://slack.com/api"
ANSWER_SECONDS = 15.0
HELLO_SECONDS = 15.0
"""From the connection to Slack's hello."""
HEARTBEAT_SECONDS = 20.0
LINGER_SECONDS = 30.0
"""How long a connection is listened to after its successor is there; Slack warns about 10 s before it ends one."""
SHORT_SECONDS = 10.0
"""A connection that Slack ends sooner is no reason to open another one at once."""
WAITING = 50
"""Envelopes that wait in memory, of an account."""
LARGEST_FRAME = 4 * 1024 * 1024

_TAKEN = frozenset(("events_api", "interactive", "slash_commands"))


class _Frame(msgspec.Struct):
    """A message of Slack's. `payload` is what it would post without Socket Mode, as JSON."""

    type: str
    envelope_id: str | None = None
    payload: msgspec.Raw = msgspec.Raw()
    reason: str | None = None


_FRAMES = msgspec.json.Decoder(_Frame)


@dataclass(slots=True, eq=False)
class _Line:
    """One connection, from the asking for its address on."""

    begun: float
    task: asyncio.Task[None] | None = None
    socket: Socket | None = None


class _Told(NamedTuple):
    """What a connection told, or how it ended."""

    line: _Line
    frame: _Frame | None = None
    end: Exception | None = None


class SlackLive(Live):
    """Holds the connections of apps in Socket Mode."""

    @classmethod
    def wanted(cls, account: Account) -> bool:
        """Where there is a token for it."""
        return bool(account.credentials.get("appToken"))

    async def run(self, account: Account, sink: Sink, state: State | None) -> None:
        """Listen. There is no state: Slack knows what was acknowledged."""
        del state
        lines = _Lines(self.services, account, sink)
        try:
            await lines.hold()
        finally:
            await lines.hang_up()


class _Lines:
    """The connections of one account: one, and for a while its successor as well."""

    def __init__(self, services: AdapterServices, account: Account, sink: Sink) -> None:
        self._services = services
        self._token: str = account.credentials["appToken"]
        self._sink = sink
        self._answers = AnswerReader("Slack", read_problem, OPENING_ERRORS, services.clock)
        self._told: asyncio.Queue[_Told] = asyncio.Queue(WAITING)
        self._lines: list[_Line] = []
        """The newest is the last."""
        self._now = asyncio.get_running_loop().time

    async def hold(self) -> None:
        """Store what comes, until the newest connection is lost."""
        self._begin()
        while True:
            told = [await self._told.get()]
            while not self._told.empty():
                told.append(self._told.get_nowait())
            await self._keep([each for each in told if each.frame is not None and each.frame.envelope_id])
            for each in told:
                self._react(each)

    async def hang_up(self) -> None:
        """End all connections."""
        tasks = [line.task for line in self._lines if line.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self) -> None:
        line = _Line(self._now())
        self._lines.append(line)
        line.task = asyncio.create_task(self._listen(line), name="slack-socket")

    # --- what is told

    async def _keep(self, told: Sequence[_Told]) -> None:
        """Store what was told, and only then acknowledge it."""
        frames = [cast("_Frame", each.frame) for each in told]
        bodies = [bytes(frame.payload) for frame in frames if frame.type in _TAKEN]
        if bodies:
            payloads, notes = fitting(bodies, self._sink.largest)
            await self._sink.store(payloads, {}, notes)
        for each, frame in zip(told, frames, strict=True):
            with suppress(SocketClosedError):  # it is told again elsewhere
                await cast("Socket", each.line.socket).send(_acknowledgement(frame))

    def _react(self, told: _Told) -> None:
        line, frame = told.line, told.frame
        is_newest = line is self._lines[-1]
        if frame is None:
            if is_newest:
                raise _as_delivery_error(told.end)
            self._drop(line)
        elif frame.type == "hello":
            self._take_over(line)
        elif frame.type == "disconnect":
            if frame.reason == "link_disabled":
                raise PermanentError(
                    "socket_mode_off",
                    "Socket Mode is switched off for this app: switch it on in the app's settings, or remove appToken "
                    "to receive by webhook",
                )
            if is_newest:
                if self._now() - line.begun < SHORT_SECONDS:
                    raise TemporaryError("connection_closed", f"Slack ended the connection at once ({frame.reason})")
                self._begin()

    def _take_over(self, line: _Line) -> None:
        """A connection is up. The one before has some time to end by itself."""
        if len(self._lines) == 1:
            self._sink.connected()
        for before in self._lines[: self._lines.index(line)]:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._drop, before)

    def _drop(self, line: _Line) -> None:
        if line in self._lines and line.task is not None:
            self._lines.remove(line)
            line.task.cancel()

    # --- a connection

    async def _listen(self, line: _Line) -> None:
        try:
            async with self._services.http.socket(
                await self._address(), max_bytes=LARGEST_FRAME, heartbeat=HEARTBEAT_SECONDS
            ) as line.socket:
                async with asyncio.timeout(HELLO_SECONDS):
                    await self._told.put(_Told(line, _FRAMES.decode(await line.socket.receive())))
                while True:
                    await self._told.put(_Told(line, _FRAMES.decode(await line.socket.receive())))
        except Exception as error:  # noqa: BLE001 - raised where the connections are held
            await self._told.put(_Told(line, end=error))

    async def _address(self) -> str:
        """Where the next connection is to be made (apps.connections.open)."""
        base = self._services.base_urls.get("slack", BASE_URL).rstrip("/")
        form = "application/x-www-form-urlencoded"
        answer = await self._services.http.request(
            "POST",
            f"{base}/apps.connections.open",
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": form},
            timeout=ANSWER_SECONDS,
        )
        return str(self._answers.read(answer).get("url"))


def _acknowledgement(frame: _Frame) -> str:
    return msgspec.json.encode({"envelope_id": frame.envelope_id}).decode()


def _as_delivery_error(end: Exception | None) -> Exception:
    match end:
        case DeliveryError():
            return end
        case SocketClosedError():
            return TemporaryError("connection_lost", f"Slack closed the connection ({end})")
        case TimeoutError():
            return TemporaryError("timeout", "Slack did not say hello in time")
        case TooLargeError() | msgspec.DecodeError() | UnicodeDecodeError() | RecursionError():
            return TemporaryError("answer_unreadable", "Slack sent what is no message of Socket Mode, or too large")
        case _:
            return end or TemporaryError("connection_lost", "The connection to Slack was lost")

"""Topics that are listened to (https://docs.ntfy.sh/subscribe/api/#subscribe-as-json-stream).

The server keeps messages for some hours, and gives those since a time before the ones that come. The time that is
stored is only raised by what cannot be overtaken: older messages come in the order of their times, newer ones in
between, until the first sign that the connection is alive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from msgcore.core.errors import TemporaryError
from msgcore.outbound.transport import LARGEST_ANSWER, Download, Response, TooLargeError
from msgcore.platforms.answer_reader import AnswerReader
from msgcore.platforms.live import Live, Payload, Sink, State
from msgcore.platforms.ntfy.errors import ERRORS, read_problem
from msgcore.platforms.ntfy.naming import Names, listened, login, server_of

if TYPE_CHECKING:
    from msgcore.outbound.services import AdapterServices
    from msgcore.platforms.base import Account

SILENT_SECONDS = 180.0
"""The server gives a sign of life each 45 seconds, unless it was told otherwise (keepalive-interval)."""
OVERLAP = 120
"""Seconds that are asked for again: times have whole seconds, messages are told of in any order within one, and those
with a delay come up to ten late. What comes twice is known by its id."""
ENDLESS = 2**62

_EVENTS = frozenset(("message", "message_delete", "message_clear"))


class _Line(msgspec.Struct):
    """What has to be known of a line here; it is stored as it came."""

    id: str
    time: int
    event: str
    sequence_id: str = ""


@dataclass(slots=True)
class _Progress:
    """How far an account is: `newest` is the time up to which everything is stored."""

    server: str
    since: int
    newest: int
    opened: int = 0
    ahead: int = 0
    caught_up: bool = False

    @classmethod
    def of(cls, server: str, state: State | None) -> _Progress | None:
        """What was stored of this server."""
        if state is None or state.get("server") != server:
            return None
        return cls(server, state["since"], state["newest"])

    @property
    def asked(self) -> int:
        """The time from which messages are asked for; none from before the account listened."""
        return max(self.since, self.newest - OVERLAP)

    def see(self, line: _Line) -> None:
        """A message came."""
        self.ahead = max(self.ahead, line.time)
        if self.caught_up:
            self.newest = max(self.newest, self.ahead)
        elif line.time < self.opened:
            self.newest = max(self.newest, line.time)

    def catch_up(self) -> None:
        """All older messages have come."""
        self.caught_up = True
        self.newest = max(self.newest, self.ahead)

    def state(self) -> State:
        return {"server": self.server, "since": self.since, "newest": self.newest}


class NtfyLive(Live):
    """Holds a request for each account, which is answered line by line."""

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._answers = AnswerReader("ntfy", read_problem, ERRORS, services.clock)

    @classmethod
    def wanted(cls, account: Account) -> bool:
        """Where topics are named."""
        return bool(listened(account))

    async def run(self, account: Account, sink: Sink, state: State | None) -> None:
        """Take what is new since the last time, and then what comes."""
        server = server_of(account)
        progress = _Progress.of(server, state)
        url = f"{server}/{','.join(listened(account))}/json"
        if progress is not None:
            url += f"?since={progress.asked}"
        listening = self.services.http.listen(url, headers=login(account), silence=SILENT_SECONDS)
        async with listening as answer:
            if answer.status != 200:  # noqa: PLR2004
                self._answers.read(await _whole(answer))
                raise _unreadable()  # a success that is no stream
            taking = _Taking(Names(account), sink, progress, server)
            async for lines in _lines(answer.pieces(ENDLESS), sink.largest):
                await taking.take(lines)


class _Taking:
    """Stores the lines of one connection."""

    def __init__(self, names: Names, sink: Sink, progress: _Progress | None, server: str) -> None:
        self._names = names
        self._sink = sink
        self._progress = progress
        self._server = server

    async def take(self, lines: Sequence[bytes | None]) -> None:
        """Store what these lines tell. Raises TemporaryError for what is no line of ntfy's, and what storing raises."""
        payloads: list[Payload] = []
        notes: list[str] = []
        before = None if self._progress is None else self._progress.newest
        for raw in lines:
            if raw is None:
                notes.append(f"A message was left out: it has more than {self._sink.largest} bytes")
            elif raw.strip() and self._is_wanted(_read(raw)):
                payloads.append(Payload(raw))
        progress = self._progress
        if progress is not None and (payloads or notes or progress.newest != before):
            await self._sink.store(payloads, progress.state(), notes)

    def _is_wanted(self, line: _Line) -> bool:
        """Whether it is to be stored; what it says of the connection is kept here."""
        progress = self._progress
        if line.event == "open":
            self._open(line)
        elif progress is not None and line.event == "keepalive":
            progress.ahead = max(progress.ahead, line.time)
            progress.catch_up()
        elif progress is not None and line.event in _EVENTS:
            progress.see(line)
            return self._names.tells(line.event, line.sequence_id)
        return False

    def _open(self, line: _Line) -> None:
        if self._progress is None:  # for the first time: from now on
            self._progress = _Progress(self._server, line.time, line.time, caught_up=True)
        self._progress.opened = line.time
        self._sink.connected()


async def _whole(answer: Download) -> Response:
    try:
        body = await answer.read(LARGEST_ANSWER)
    except TooLargeError:
        body = None
    return Response(answer.status, answer.headers, body)


def _read(raw: bytes) -> _Line:
    try:
        return msgspec.json.decode(raw, type=_Line)
    except (ValueError, RecursionError):
        raise _unreadable() from None


def _unreadable() -> TemporaryError:
    return TemporaryError("answer_unreadable", "What answers at credentials.serverUrl is no ntfy server")


async def _lines(pieces: AsyncIterator[bytes], largest: int) -> AsyncIterator[list[bytes | None]]:
    """The lines that each piece ends, None for one that is too large."""
    rest, is_cut = b"", False
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        found: list[bytes | None] = [line if len(line) <= largest else None for line in whole]
        if found and is_cut:
            found[0], is_cut = None, False
        if len(rest) > largest:
            rest, is_cut = b"", True
        if found:
            yield found

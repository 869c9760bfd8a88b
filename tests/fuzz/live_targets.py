"""What live connections are told: each platform's own talk (`tests/platforms/<name>/fuzz.py`), with something changed."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import strategies as st

from fuzz.answer_targets import HEADERS, services_with
from fuzz.hurried import hurried
from fuzz.mutation import damaged, documents
from fuzz.stored import check_text
from fuzz.target import Target
from msgcore.core.errors import DeliveryError, TemporaryError
from msgcore.outbound.transport import Response, SocketClosedError
from msgcore.platforms.base import Account, PlatformAdapter
from msgcore.platforms.receiving import InboundRequest, UnreadableError
from servers.live_sink import MemorySink

REQUESTS = 25
"""After which the platform cannot be reached any more, so that each run ends."""
LARGEST = 20_000
LARGEST_STATE = 64 * 1024


@dataclass(frozen=True)
class Talk:
    """What a platform says to who listens: `answers` to requests by a part of their address, the first that fits, and
    what it `told` then over a socket, or line by line. `credentials` are those of an account that listens.
    """

    answers: Sequence[tuple[str, Any]] = field(default=(), repr=False)
    told: Sequence[Any] = field(default=(), repr=False)
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class _Course:
    """How a talk goes, all of it drawn before it begins: connections run in tasks of their own.

    `answers` are for each part of an address, from as it should be to odd; `told` likewise, for each connection;
    `statuses`, `choices` and `headers` are gone through one after the other.
    """

    answers: Sequence[tuple[str, Sequence[bytes]]]
    told: Sequence[Sequence[bytes]]
    statuses: Sequence[int]
    choices: Sequence[int]
    headers: Sequence[str | None]
    code: int | None
    size: int


@st.composite
def courses(draw: Any, talk: Talk) -> _Course:
    """Ways that a talk could go."""
    choices = st.lists(st.sampled_from((0, 0, 0, 0, 0, 0, 0, 1, 2)), min_size=REQUESTS, max_size=REQUESTS)
    statuses = st.sampled_from((200,) * 16 + (204, 400, 401, 404, 409, 429, 500))
    return _Course(
        [(part, [_plain(each), *(_changed(draw, each) for _ in range(2))]) for part, each in talk.answers],
        [_told(draw, talk) for _ in range(3)],
        draw(st.lists(statuses, min_size=REQUESTS, max_size=REQUESTS)),
        draw(choices),
        draw(st.lists(st.none() | st.sampled_from(HEADERS), min_size=4, max_size=4)),
        draw(st.sampled_from((None, 1000, 4000, 4003, 4004, 4009, 4010))),
        draw(st.sampled_from((7, 100, 10_000))),
    )


_plain = msgspec.json.encode


def _changed(draw: Any, document: Any) -> bytes:
    return draw(documents([_plain(document)]))


def _told(draw: Any, talk: Talk) -> list[bytes]:
    """What is told over one connection: a piece or two of it changed, in another place, or packed."""
    told = [_plain(each) for each in talk.told]
    for _ in range(draw(st.integers(0, 4)) if told else 0):
        at, other = (draw(st.integers(0, len(told) - 1)) for _ in range(2))
        match draw(st.integers(0, 4)):
            case 0:
                told.insert(at, told[other])
            case 1:
                told[at] = damaged(draw, zlib.compress(told[at]))
            case _:
                told[at] = _changed(draw, talk.told[other % len(talk.told)])
    return told


class Talking:
    """A transport that talks so."""

    def __init__(self, course: _Course) -> None:
        self._course = course
        self._asked = 0

    async def request(self, method: str, url: str, **_: Any) -> Response:
        return self._answer(url)

    async def poll(self, url: str, body: bytes, **_: Any) -> Response:
        return self._answer(url)

    @asynccontextmanager
    async def download(self, url: str, **_: Any) -> AsyncIterator[Any]:
        yield _Streamed(self._answer(url), [])

    @asynccontextmanager
    async def listen(self, url: str, **_: Any) -> AsyncIterator[Any]:
        whole = b"".join(each + b"\n" for each in self._course.told[self._count() % 3])
        pieces = [whole[at : at + self._course.size] for at in range(0, len(whole), self._course.size)]
        yield _Streamed(Response(200, {}, None), pieces)

    @asynccontextmanager
    async def socket(self, url: str, **_: Any) -> AsyncIterator[Any]:
        yield _Socket(self._course.told[self._count() % 3], self._course.code)

    def _count(self) -> int:
        self._asked += 1
        if self._asked > REQUESTS:
            raise TemporaryError("connection_failed", "it is not there any more")
        return self._asked - 1

    def _answer(self, url: str) -> Response:
        number = self._count()
        bodies = next((each for part, each in self._course.answers if part in url), (b"{}",) * 3)
        headers = _Headers(self._course.headers)
        return Response(self._course.statuses[number], headers, bodies[self._course.choices[number]])


class _Headers(Mapping[str, str]):
    """Headers of an answer: whichever is looked for has the next of these values."""

    def __init__(self, values: Sequence[str | None]) -> None:
        self._values = list(values)

    def __getitem__(self, name: str) -> str:
        value = self._values.pop() if self._values else None
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Streamed:
    def __init__(self, answer: Response, pieces: Sequence[bytes]) -> None:
        self.status, self.headers, self._body = answer
        self._pieces = pieces

    async def read(self, max_bytes: int) -> bytes:
        return (self._body or b"")[:max_bytes]

    async def pieces(self, max_bytes: int) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class _Socket:
    def __init__(self, frames: Sequence[bytes], code: int | None) -> None:
        self._frames = list(frames)
        self._code = code

    async def receive(self) -> bytes:
        if not self._frames:
            raise SocketClosedError(self._code, "")
        return self._frames.pop(0)

    async def send(self, text: str) -> None:
        text.encode()


def live_target(name: str, adapter: type[PlatformAdapter], account: Account, talk: Talk) -> Target:
    """A connection ends as it may: what came before is stored, and nothing else is raised."""

    def look(course: _Course) -> None:
        sink = MemorySink(largest=LARGEST)
        hurried(_listen(adapter, account, Talking(course), sink))
        for body in sink.bodies:
            assert len(body) <= LARGEST
            _read(adapter, account, body)
        for state in sink.states:
            assert len(msgspec.json.encode(state)) <= LARGEST_STATE
        for note in sink.notes:
            check_text(note.replace("\0", ""))

    return Target(f"{name}: what it tells who listens", courses(talk), look)


async def _listen(adapter: type[PlatformAdapter], account: Account, http: Any, sink: MemorySink) -> None:
    assert adapter.live is not None
    live = adapter.live(services_with(http))
    state = None
    for _ in range(2):  # and goes on from there
        try:
            await live.run(account, sink, state)
        except DeliveryError as error:
            error.message.encode()
        state = sink.state
    await live.close()


def _read(adapter: type[PlatformAdapter], account: Account, body: bytes) -> None:
    assert adapter.inbound is not None
    with suppress(UnreadableError):
        adapter.inbound.read(account, InboundRequest("POST", {}, "", body, datetime.now(UTC)))

"""What an account's gateway sessions brought, until it is stored, and how far each of them is stored.

Whatever came is stored together with the sequence number up to which it came, in one transaction. So a session that
is resumed from the stored state, by whichever process, gets what was not stored, and only that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from msgcore.platforms.discord.inbound import SESSION_HEADER
from msgcore.platforms.live import Payload, Sink, State

MOST_EVENTS = 1000
MOST_BYTES = 4_000_000
"""What may wait to be stored. Until there is room again nothing is read, and Discord keeps what comes."""


class Session(msgspec.Struct):
    """A session of the gateway: what resuming it takes, beside the token. `sequence` is that of the last event."""

    id: str
    url: str
    sequence: int


class Progress(msgspec.Struct, rename="camel"):
    """The state of an account: its sessions, by number of shard, None where a new one has to be begun.

    `made_for` says with what the sessions were begun: to another bot, or with other intents, they are worth nothing.
    `url` is where sessions begin.
    """

    made_for: str
    url: str
    shards: list[Session | None]

    @classmethod
    def of(cls, state: State | None, made_for: str) -> Progress:
        """What was stored, or a beginning where that is of no use."""
        try:
            found = None if state is None else msgspec.convert(state, cls)
        except msgspec.ValidationError:  # of another version
            found = None
        return found if found is not None and found.made_for == made_for else cls(made_for, "", [])

    @property
    def is_lost(self) -> bool:
        """Whether there is nothing to be resumed."""
        return not any(self.shards)


class Journal:
    """Takes what comes on all shards of an account, and stores as much at once as has come.

    `failed` gets the error of a store that did not succeed: the connections are to be given up then.
    """

    def __init__(self, sink: Sink, progress: Progress) -> None:
        self.progress = progress
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sink = sink
        self._payloads: list[Payload] = []
        self._bytes = 0
        self._notes: list[str] = []
        self._afterwards: list[Callable[[], None]] = []
        self._is_behind = False
        self._stored = {session.id: session.sequence for session in progress.shards if session is not None}
        self._room = asyncio.Event()
        self._room.set()
        self._storing: asyncio.Task[None] | None = None

    def begin(self, shard: int, session: Session) -> None:
        """A new session of a shard has begun."""
        self.progress.shards[shard] = session
        self._is_behind = True
        self.catch_up()

    def lose(self, shard: int, reason: str) -> None:
        """The session of a shard cannot be resumed any more."""
        session = self.progress.shards[shard]
        if session is not None:
            self.progress.shards[shard] = None
            self._stored.pop(session.id, None)
            self._notes.append(
                f"{reason}, so a new session is begun. What happened since the last event may be missing"
            )

    def take(
        self, session: Session, sequence: int, body: bytes | None, afterwards: Callable[[], None] | None = None
    ) -> None:
        """An event came; `body` is None for one that does not matter here. Once it is safe, do what comes afterwards.

        One that is larger than the sink takes is left out, with a note.
        """
        session.sequence = sequence
        self._is_behind = True
        if body is None:
            return  # how far the session is, is stored with what comes next, or at a heartbeat
        if len(body) > self._sink.largest:
            self._notes.append(f"An event of {len(body)} bytes was left out: at most {self._sink.largest} are taken")
            return
        self._payloads.append(Payload(body, {SESSION_HEADER: session.id}))
        self._bytes += len(body)
        if afterwards is not None:
            self._afterwards.append(afterwards)
        if len(self._payloads) >= MOST_EVENTS or self._bytes >= MOST_BYTES:
            self._room.clear()
        self.catch_up()

    def stored(self, session: Session) -> int | None:
        """The sequence number up to which a session is safe."""
        return self._stored.get(session.id)

    async def room(self) -> None:
        """Wait until more may come."""
        await self._room.wait()

    def catch_up(self) -> None:
        """Have everything stored that is not."""
        if self._storing is None and self._has_news() and not self.failed.done():
            self._storing = asyncio.create_task(self._store(), name="discord-journal")

    async def settle(self) -> None:
        """Wait until what came is stored, or cannot be."""
        if self._storing is not None:
            await asyncio.wait([self._storing])

    async def start_over(self) -> None:
        """None of the sessions is of use any more: have that stored, with what came."""
        self.progress.shards = []
        self._is_behind = True
        self.catch_up()
        await self.settle()

    async def close(self) -> None:
        """Begin to store nothing more."""
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.wait([self._storing])
        if self.failed.done():
            self.failed.exception()  # whoever did not wait for it is not told
        self.failed.cancel()

    def _has_news(self) -> bool:
        return bool(self._payloads or self._notes or self._is_behind)

    async def _store(self) -> None:
        try:
            while self._has_news():
                await self._store_what_came()
        except Exception as error:  # noqa: BLE001 - whoever waits for `failed` gets it
            self.failed.set_exception(error)
        finally:
            self._storing = None

    async def _store_what_came(self) -> None:
        payloads, notes, afterwards = self._payloads, self._notes, self._afterwards
        self._payloads, self._notes, self._afterwards = [], [], []
        self._bytes, self._is_behind = 0, False
        self._room.set()
        state: State = msgspec.to_builtins(self.progress)
        reached = {session.id: session.sequence for session in self.progress.shards if session is not None}
        await self._sink.store(payloads, state, notes)
        self._stored |= reached
        for act in afterwards:
            act()

"""The reader: turns stored requests into messages, reactions, chats and events, in the order in which they came.

Each configured platform is read by one process at a time, under a lock that lasts as long as the
transaction which stores what was read and forgets the requests. A crash in between changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from msgcore.core.clock import Clock
from msgcore.core.envelope import Command, Deletion, Edit, Message, Reaction
from msgcore.core.ids import new_id
from msgcore.core.tasks import end
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.inbound.bus import EventBus
from msgcore.inbound.translation import (
    Occurrence,
    chat_rows,
    deletion_row,
    edit_row,
    event_of,
    file_rows,
    message_row,
    reaction_row,
    subject_of,
)
from msgcore.platforms.base import Account
from msgcore.platforms.receiving import Inbound, InboundRequest, UnreadableError
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.keyring import DecryptionError
from msgcore.store import inbound as store
from msgcore.store.database import Database
from msgcore.store.events import append
from msgcore.store.faults import is_away
from msgcore.store.inbound import RawRequest

log = structlog.stdlib.get_logger(__name__)

BATCH = 200
SWEEP_SECONDS = 2.0
"""How often requests are looked for that nobody told of: those of a process that ended, or of the sandbox."""
GATHER_SECONDS = 0.01
"""Between batches while more comes: a batch costs a dozen statements, however much is in it."""
AWAY_SECONDS = 0.5


class Reader:
    """Reads what was received, for all configured platforms."""

    def __init__(
        self,
        *,
        database: Database,
        accounts: AccountDirectory,
        registry: PlatformRegistry,
        bus: EventBus,
        clock: Clock,
        every: float = SWEEP_SECONDS,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._registry = registry
        self._bus = bus
        self._clock = clock
        self._every = every
        self._places = asyncio.Semaphore(database.parallel)
        self._wanted: set[str] = set()
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to read."""
        self._sweeping = asyncio.create_task(self._sweep(), name="reader")

    async def stop(self) -> None:
        """Finish what is being read; the rest is read after the next start."""
        self._stopping = True
        await end(self._sweeping)
        if self._reading:
            await asyncio.wait(self._reading.values())

    def wake(self, platform_id: str) -> None:
        """There is something to be read for a configured platform."""
        self._wanted.add(platform_id)
        if platform_id not in self._reading and not self._stopping:
            task = asyncio.create_task(self._read_platform(platform_id), name="read")
            self._reading[platform_id] = task
            task.add_done_callback(lambda _: self._ended(platform_id))

    def _ended(self, platform_id: str) -> None:
        del self._reading[platform_id]
        if platform_id in self._wanted:  # told of just as the task ended
            self.wake(platform_id)

    async def _sweep(self) -> None:
        while True:
            try:
                for platform_id in await store.waiting_platforms(self._database):
                    self.wake(platform_id)
            except Exception as error:
                if not is_away(error):
                    log.exception("inbound_sweep_failed")
            await asyncio.sleep(self._every)

    async def _read_platform(self, platform_id: str) -> None:
        while platform_id in self._wanted and not self._stopping:
            self._wanted.discard(platform_id)
            try:
                async with self._places:
                    more = await self._read_batch(platform_id)
                if more:
                    self._wanted.add(platform_id)
                elif platform_id in self._wanted:
                    await asyncio.sleep(GATHER_SECONDS)
            except Exception as error:
                if not is_away(error):
                    log.exception("inbound_read_failed", platform_id=platform_id)
                await asyncio.sleep(AWAY_SECONDS)
                return  # the sweep comes back to it

    async def _read_batch(self, platform_id: str) -> bool:
        """Read the next requests of a platform; tells whether more are waiting."""
        record = await self._accounts.get(platform_id)
        inbound = None if record is None else self._registry.inbound(record.platform)
        if record is None or inbound is None:
            await self._database.transact(lambda connection: store.forget_platform(connection, platform_id))
            return False
        try:
            account = self._accounts.open(record)
        except DecryptionError:
            # They stay until the credentials are entered again.
            log.error("credentials_unreadable", platform_id=platform_id)  # noqa: TRY400 - says all there is
            return False
        more = await self._read(_Work(inbound, account, self._clock))
        self._bus.announce([record.project_id])
        return more

    async def _read(self, work: _Work) -> bool:
        try:
            return await self._database.transact(lambda connection: work.read(connection, BATCH))
        except Exception as error:
            if is_away(error):
                raise
            # One of them cannot be stored as it was read: it must not hold the others back.
            log.exception("inbound_batch_failed", platform_id=work.account.id)
        for _ in range(BATCH):
            if not await self._read_one(work):
                return False
        return True

    async def _read_one(self, work: _Work) -> bool:
        """Read the next request by itself, or set it aside; tells whether more are waiting."""
        try:
            return await self._database.transact(lambda connection: work.read(connection, 1))
        except Exception as error:
            if is_away(error) or isinstance(error, ProgrammingError):  # then it is not the request's fault
                raise
            text = f"what was read could not be stored ({type(error).__name__})"
            return await self._database.transact(lambda connection: work.give_up(connection, text))


class _Work:
    """The transactions of one platform's batches."""

    def __init__(self, inbound: Inbound, account: Account, clock: Clock) -> None:
        self._inbound = inbound
        self.account = account
        self._clock = clock

    def read(self, connection: Connection, limit: int) -> bool:
        """Read so many requests at most; tells whether more are waiting."""
        taken = store.take(connection, self.account.id, limit)
        if not taken.requests:
            return False
        found, done = self._understand(connection, taken.requests)
        now = self._clock.now()
        first_time = store.unseen(connection, self.account.id, [each.envelope.event_id for each in found], now)
        fresh = _first_of_each(found, first_time)
        if fresh:
            self._keep(connection, fresh)
        store.finish(connection, done)
        return taken.more

    def give_up(self, connection: Connection, error: str) -> bool:
        """Set the next request aside; tells whether more are waiting."""
        taken = store.take(connection, self.account.id, 1)
        for number, request in taken.requests:
            self._set_aside(connection, number, request, error)
        return taken.more

    def _understand(
        self, connection: Connection, taken: Sequence[tuple[int, RawRequest]]
    ) -> tuple[list[Occurrence], list[int]]:
        """What the requests tell, and the numbers of those that could be read."""
        found: list[Occurrence] = []
        done: list[int] = []
        for number, request in taken:
            try:
                envelopes = self._inbound.read(self.account, _as_it_came(request))
                found += [Occurrence.of(request, envelope) for envelope in envelopes]
            except (UnreadableError, ValueError) as error:
                self._set_aside(connection, number, request, str(error))
            except Exception as error:  # a reader's bug holds nobody else back
                log.exception("inbound_unreadable", platform=request.platform, platform_id=request.platform_id)
                self._set_aside(connection, number, request, f"the reader failed ({type(error).__name__})")
            else:
                done.append(number)
        return found, done

    def _keep(self, connection: Connection, found: Sequence[Occurrence]) -> None:
        contents = [(each, each.envelope.content) for each in found]
        written = [each for each, content in contents if isinstance(content, Message | Command)]
        files = [row for each in written for row in file_rows(each)]
        store.keep_messages(connection, [message_row(each) for each in written], files)
        store.edit_messages(connection, [edit_row(each, what) for each, what in contents if isinstance(what, Edit)])
        deletions = [deletion_row(each, what) for each, what in contents if isinstance(what, Deletion)]
        store.take_back_messages(connection, deletions)
        reactions = [reaction_row(each, what) for each, what in contents if isinstance(what, Reaction)]
        store.keep_reactions(connection, reactions)
        store.touch_chats(connection, chat_rows(found))
        subjects = {subject for _, content in contents if (subject := subject_of(content)) is not None}
        known = store.message_ids(connection, self.account.id, sorted(subjects)) if subjects else {}
        append(connection, [event_of(each, known) for each in found])

    def _set_aside(self, connection: Connection, number: int, request: RawRequest, error: str) -> None:
        now = self._clock.now()
        store.set_aside(connection, number, error, now)
        line = {
            "id": new_id(),
            "project_id": request.project_id,
            "platform_id": request.platform_id,
            "platform": request.platform,
            "level": "error",
            "category": "webhook",
            "message": "A request could not be read",
            "metadata": {"requestId": request.id},
            "error": error,
            "timestamp": now,
        }
        store.log(connection, [line])


def _as_it_came(request: RawRequest) -> InboundRequest:
    return InboundRequest("POST", request.headers, request.query, request.body, request.received_at)


def _first_of_each(found: Sequence[Occurrence], wanted: set[str]) -> list[Occurrence]:
    """Those with a wanted id of the platform, each id once."""
    left = set(wanted)
    fresh: list[Occurrence] = []
    for each in found:
        if each.envelope.event_id in left:
            left.discard(each.envelope.event_id)
            fresh.append(each)
    return fresh

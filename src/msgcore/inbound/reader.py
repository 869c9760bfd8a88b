"""The reader: turns stored requests into messages, reactions, chats and events, in the order in which they came.

Each configured platform is read by one process at a time, under a lock that lasts as long as the
transaction which stores what was read and forgets the requests. A crash in between changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from sqlalchemy.exc import ProgrammingError

from msgcore.blobs.store import BlobError
from msgcore.core.clock import Clock
from msgcore.core.stop_words import Wish
from msgcore.core.tasks import end
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.inbound.bus import EventBus
from msgcore.inbound.files import FileKeeper
from msgcore.inbound.recording import Reading, read, record
from msgcore.observability.metrics import Metrics
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.keyring import DecryptionError
from msgcore.store import inbound as store
from msgcore.store.database import Database
from msgcore.store.faults import is_away, is_broken, is_passing
from msgcore.store.ledger import receipts

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
        files: FileKeeper,
        clock: Clock,
        on_wishes: Callable[[AccountRecord, Counter[Wish]], None],
        every: float = SWEEP_SECONDS,
        metrics: Metrics | None = None,
    ) -> None:
        """`on_wishes` is told how many people opted out or in on a platform."""
        self._metrics = metrics or Metrics()
        self._database = database
        self._accounts = accounts
        self._registry = registry
        self._bus = bus
        self._files = files
        self._clock = clock
        self._on_wishes = on_wishes
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
                for platform_id in await receipts.waiting_platforms(self._database):
                    await self._take_receipts(platform_id)
            except Exception as error:
                if not is_away(error):
                    log.exception("inbound_sweep_failed")
            await asyncio.sleep(self._every)

    async def _take_receipts(self, platform_id: str) -> None:
        """Try again what came before its message was recorded as sent."""
        now = self._clock.now()
        try:
            told = await self._database.transact(lambda connection: receipts.take_waiting(connection, platform_id, now))
        except Exception as error:  # those of other platforms go on
            if is_away(error):
                raise
            log.exception("receipts_failed", platform_id=platform_id)
        else:
            self._metrics.told("received", len(told))
            self._bus.announce({event.project_id for event in told})

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
            except BlobError as error:
                # What came waits, as it does while the database is away: its files would be lost without it.
                log.error("blobs_away", platform_id=platform_id, error=str(error))  # noqa: TRY400 - says all there is
                await asyncio.sleep(AWAY_SECONDS)
                return
            except Exception as error:
                if not is_away(error):
                    log.exception("inbound_read_failed", platform_id=platform_id)
                await asyncio.sleep(AWAY_SECONDS)
                return  # the sweep comes back to it

    async def _read_batch(self, platform_id: str) -> bool:
        """Read the next requests of a platform; tells whether more are waiting."""
        account_record = await self._accounts.get(platform_id)
        if account_record is None:
            await self._database.transact(lambda connection: store.forget_platform(connection, platform_id))
            return False
        inbound = self._registry.inbound(account_record.platform)
        if inbound is None:  # a newer version of MsgCore stored it, and reads it
            return False
        try:
            account = self._accounts.open(account_record)
        except DecryptionError:
            # They stay until the credentials are entered again.
            log.error("credentials_unreadable", platform_id=platform_id)  # noqa: TRY400 - says all there is
            return False
        waiting = await store.peek(self._database, platform_id, BATCH)
        if not waiting.requests:
            return False
        # In a thread and before the transaction: large mails take long, and nobody else should wait for that.
        adapter = self._registry.adapter_class(account.platform)
        readings = await asyncio.to_thread(read, adapter, inbound, account, waiting.requests)
        await self._files.keep(file for reading in readings for found in reading.occurrences for file in found.files)
        await self._record(account_record, readings)
        self._bus.announce([account_record.project_id])
        return waiting.more

    async def _record(self, of: AccountRecord, readings: Sequence[Reading]) -> None:
        try:
            await self._write(of, readings)
        except Exception as error:
            if _is_not_theirs(error):
                raise
            if len(readings) == 1:
                log.exception("inbound_not_storable", platform_id=of.id)
                given_up = replace(readings[0], error=f"what was read could not be stored ({type(error).__name__})")
                await self._write(of, [given_up])
                return
        else:
            return
        for reading in readings:  # one of them cannot be stored as it was read: it must not hold the others back
            await self._record(of, [reading])

    async def _write(self, of: AccountRecord, readings: Sequence[Reading]) -> None:
        now, adapter = self._clock.now(), self._registry.adapter_class(of.platform)
        written = await self._database.transact(lambda connection: record(connection, adapter, of.id, readings, now))
        self._metrics.read(of.platform, written.kinds)
        self._metrics.told("received", written.events)
        if written.wishes:
            self._on_wishes(of, written.wishes)


def _is_not_theirs(error: Exception) -> bool:
    """Whether it is no fault of the requests that they could not be stored: then they wait."""
    return is_away(error) or is_passing(error) or is_broken(error) or isinstance(error, ProgrammingError)

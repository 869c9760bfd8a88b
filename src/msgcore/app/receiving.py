"""What comes in, and who is told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from msgcore.app.adapters import Adapters
from msgcore.app.scheduling import Scheduling
from msgcore.app.shared import Shared
from msgcore.core.stop_words import Wish
from msgcore.dispatch.accounts import AccountRecord
from msgcore.inbound.bus import EventBus
from msgcore.inbound.connections import ConnectionManager
from msgcore.inbound.fetcher import Fetcher
from msgcore.inbound.files import FileKeeper
from msgcore.inbound.reader import Reader
from msgcore.inbound.receiver import Receiver
from msgcore.inbound.spool import Spool
from msgcore.inbound.sweeper import Sweeper
from msgcore.inbound.tokens import TokenDirectory
from msgcore.inbound.webhook_feed import WebhookFeed


@dataclass(frozen=True, slots=True, kw_only=True)
class Collecting:
    """What a process that dispatches does beside reading: hold connections, fetch files, and feed webhooks."""

    connections: ConnectionManager
    fetcher: Fetcher
    webhook_feed: WebhookFeed


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiving:
    """The parts that receive: all processes read and sweep, those with an API take requests."""

    bus: EventBus
    reader: Reader
    sweeper: Sweeper
    receiver: Receiver | None
    collecting: Collecting | None

    def start(self) -> None:
        """Begin to receive."""
        self.bus.start()  # before those who tell and those who are told
        if self.collecting is not None:
            self.collecting.webhook_feed.start()
            self.collecting.fetcher.start()
        self.reader.start()  # before those who have something for it
        if self.receiver is not None:
            self.receiver.start()
        if self.collecting is not None:
            self.collecting.connections.start()
        self.sweeper.start()

    async def stop_collecting(self) -> None:
        """Hang up, and begin nothing of its own any more; what others bring is still taken."""
        if self.collecting is not None:
            await self.collecting.connections.stop()  # first: other processes take over meanwhile
        await self.sweeper.stop()
        if self.collecting is not None:
            await self.collecting.fetcher.stop()
            await self.collecting.webhook_feed.stop()

    async def stop(self) -> None:
        """Finish what is being stored and what is being read."""
        # Each after whoever calls it: the receiver wakes the reader, and the reader tells the bus.
        if self.receiver is not None:
            await self.receiver.stop()
        await self.reader.stop()
        await self.bus.stop()


def build_reader(shared: Shared, bus: EventBus) -> Reader:
    """What reads the requests that were stored."""

    def count_and_note(record: AccountRecord, wishes: Counter[Wish]) -> None:
        """People opted out or in on a platform."""
        for wish, number in wishes.items():
            shared.metrics.wishes.labels(record.platform, wish).inc(number)
        shared.opt_outs.noted(record.id)

    return Reader(
        database=shared.database,
        accounts=shared.accounts,
        registry=shared.registry,
        bus=bus,
        files=FileKeeper(database=shared.database, blobs=shared.blobs, policy=shared.file_policy, clock=shared.clock),
        clock=shared.clock,
        metrics=shared.metrics,
        on_wishes=count_and_note,
    )


def build_receiver(shared: Shared, reader: Reader) -> Receiver:
    """What takes the requests of platforms, for a process with an API."""
    return Receiver(
        largest_body=shared.settings.max_body_bytes,
        database=shared.database,
        tokens=TokenDirectory(shared.database, shared.accounts),
        accounts=shared.accounts,
        registry=shared.registry,
        spool=Spool(shared.settings.data_dir / "spool", largest=shared.settings.max_spool_bytes),
        clock=shared.clock,
        on_stored=reader.wake,
        metrics=shared.metrics,
    )


def build_sweeper(shared: Shared, leads: Callable[[], bool]) -> Sweeper:
    """What keeps the blob store clean, in the process for which `leads` says so."""
    return Sweeper(
        database=shared.database,
        blobs=shared.blobs,
        clock=shared.clock,
        days=shared.settings.attachment_days,
        leads=leads,
    )


def build_collecting(
    shared: Shared, scheduling: Scheduling, adapters: Adapters, bus: EventBus, reader: Reader, leads: Callable[[], bool]
) -> Collecting:
    """Only the process for which `leads` says so feeds webhooks; connections and files are shared among all."""
    connections = ConnectionManager(
        database=shared.database,
        accounts=shared.accounts,
        platforms=shared.registry.build_live(adapters.services),
        on_stored=reader.wake,
        clock=shared.clock,
        largest=shared.settings.max_body_bytes,
    )
    fetcher = Fetcher(
        database=shared.database,
        blobs=shared.blobs,
        policy=shared.file_policy,
        accounts=shared.accounts,
        adapters=adapters.by_platform,
        transport=adapters.services.http,
        bus=bus,
        clock=shared.clock,
    )
    webhook_feed = WebhookFeed(
        database=shared.database, accept_log=scheduling.accept_log, bus=bus, clock=shared.clock, leads=leads
    )
    return Collecting(connections=connections, fetcher=fetcher, webhook_feed=webhook_feed)

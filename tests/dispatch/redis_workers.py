"""Workers over one Redis, as processes have them, and a ledger that is a list."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from contract.scheduler_harness import LEASE_SECONDS
from msgcore.core.clock import SystemClock
from msgcore.core.deliveries import Done, Lease, Ticket
from msgcore.core.ids import new_id
from msgcore.dispatch.redis import RedisConnection, RedisScheduler
from msgcore.dispatch.redis.loader import ShardLoader
from msgcore.dispatch.tickets import tickets_of
from msgcore.store.ledger.feed import PAGE, OpenDelivery
from servers.clock import FakeClock
from servers.patience import PATIENCE
from servers.valkey import ValkeyServer

ACCOUNT = "01920000-0000-7000-8000-0000000000aa"


def delivery(lane: str | None = None, account: str = ACCOUNT) -> OpenDelivery:
    return OpenDelivery(new_id(), account, "sandbox", lane, 1, datetime.now(UTC), tried=False)


@dataclass
class ListFeed:
    """Open deliveries, oldest first. `meanwhile` runs before each page is read."""

    rows: list[OpenDelivery] = field(default_factory=list[OpenDelivery])
    sending: bool = False
    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def after(self, last_id: str, until: datetime) -> list[OpenDelivery]:
        if self.meanwhile is not None:
            await self.meanwhile()
        return [row for row in self.rows if row.id > last_id and row.due_at <= until][:PAGE]

    async def any_sending(self) -> bool:
        return self.sending

    def final(self, ids: Iterable[str]) -> None:
        gone = set(ids)
        self.rows = [row for row in self.rows if row.id not in gone]


def tickets(rows: Iterable[OpenDelivery]) -> list[Ticket]:
    return tickets_of(rows, {}, datetime.now(UTC))


def loader(scheduler: RedisScheduler, feed: ListFeed) -> ShardLoader:
    return ShardLoader(feed=feed, scheduler=scheduler, limits={}, clock=SystemClock())  # type: ignore[arg-type]


async def nothing_to_hold() -> None:
    """No account is paused."""


async def load(scheduler: RedisScheduler, feed: ListFeed) -> int:
    """Bring to life whatever is closed, as a leader does."""
    loads = loader(scheduler, feed)
    return await loads.load(await loads.closed(), nothing_to_hold)


@asynccontextmanager
async def worker(url: str, *, shards: int = 1, clock: FakeClock | None = None) -> AsyncIterator[RedisScheduler]:
    """What one process has; with `clock`, that is the server's as well."""
    connection = RedisConnection.open(url, lease_seconds=LEASE_SECONDS)
    scheduler = RedisScheduler(connection, clock or SystemClock(), shards=shards, virtual=clock is not None)
    try:
        yield scheduler
    finally:
        await scheduler.close()


async def listen(server: ValkeyServer, *schedulers: RedisScheduler) -> None:
    """Let them hear news from now on."""
    for scheduler in schedulers:
        await scheduler.wait(0)
        await scheduler.claim(0)
        for shard in scheduler.shards:
            shard.ready = False
        await scheduler.wait(0)
    await heard(server, len(schedulers))


async def heard(server: ValkeyServer, number: int) -> None:
    """Until so many listen."""
    with server.client() as client:
        async with asyncio.timeout(PATIENCE):
            while client.pubsub_numsub("msgcore:news")[0][1] != number:
                await asyncio.sleep(0.01)


async def claim(scheduler: RedisScheduler, number: int) -> list[Lease]:
    """Claim until there are so many, waiting in between as a processor does."""
    leases: list[Lease] = []
    async with asyncio.timeout(PATIENCE):
        while len(leases) < number:
            await scheduler.wait(PATIENCE)
            leases += await scheduler.claim(number - len(leases))
    return leases


async def drain(feed: ListFeed, *schedulers: RedisScheduler) -> list[str]:
    """Work until nothing is left; gives the ids in the order in which they were claimed."""
    given: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while (await schedulers[0].counts()).waiting:
            for scheduler in schedulers:
                leases = await scheduler.claim(50)
                given += [lease.delivery_id for lease in leases]
                await end(feed, scheduler, leases)
    return given


async def end(feed: ListFeed, scheduler: RedisScheduler, leases: Iterable[Lease]) -> list[Lease]:
    """Finish for good; gives the leases that were lost."""
    leases = list(leases)
    feed.final(lease.delivery_id for lease in leases)
    return (await scheduler.finish([Done(lease) for lease in leases])).lost


def by_lane(ids: Iterable[str], rows: Iterable[OpenDelivery]) -> dict[str | None, list[str]]:
    """Ids in their order, lane by lane."""
    lanes = {row.id: row.lane for row in rows}
    found: dict[str | None, list[str]] = defaultdict(list)
    for delivery_id in ids:
        found[lanes[delivery_id]].append(delivery_id)
    return dict(found)

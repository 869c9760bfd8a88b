"""Loading shards from the ledger: after a flush, a restart or a failover, or when nobody has done it yet.

A shard that is loaded begins a new epoch, empty. Workers hear of it and tell it what they are working on,
for which they get a moment; then the ledger's open deliveries are enqueued, oldest first, while workers
already claim. What is committed meanwhile is kept back and joins the queues at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from msgcore.core.clock import Clock
from msgcore.core.limits import RateLimits
from msgcore.dispatch.redis.codec import pack_tickets
from msgcore.dispatch.redis.scheduler import RedisScheduler
from msgcore.dispatch.redis.shard import Shard
from msgcore.dispatch.tickets import HORIZON, tickets_of
from msgcore.store.ledger.feed import NIL, PAGE, Feed, OpenDelivery

log = structlog.stdlib.get_logger(__name__)

ADOPTION_SECONDS = 2.0
"""How long workers have to hear of a new epoch. One that is later sends twice what it is just sending."""


class ShardLoader:
    """Brings shards to life. One process at a time (the leader) may use it."""

    def __init__(
        self, *, feed: Feed, scheduler: RedisScheduler, limits: Mapping[str, RateLimits], clock: Clock
    ) -> None:
        self._feed = feed
        self._scheduler = scheduler
        self._limits = limits
        self._clock = clock

    async def closed(self) -> list[Shard]:
        """The shards that are not live, whatever the reason. Raises SchedulerAwayError."""
        return [shard for shard in self._scheduler.shards if not await self._scheduler.is_live(shard)]

    async def load(self, shards: Sequence[Shard], hold_accounts: Callable[[], Awaitable[None]]) -> int:
        """Bring shards to life; returns how many deliveries they were given.

        `hold_accounts` is called once they can be told which accounts must wait. Raises SchedulerAwayError.
        """
        epochs: dict[int, bytes] = {shard.index: await self._scheduler.run("open", shard) for shard in shards}
        if await self._feed.any_sending():
            await asyncio.sleep(ADOPTION_SECONDS)
        await hold_accounts()
        total, last_id = 0, NIL
        while page := await self._feed.after(last_id, self._clock.now() + HORIZON):
            total += await self._enqueue(page, epochs)
            last_id = page[-1].id
            if len(page) < PAGE:
                break
        for shard in shards:
            settled = 0
            while settled == 0:  # -1: another epoch began meanwhile, which is for the next turn
                settled = await self._scheduler.run("settle", shard, epochs[shard.index])
        log.info("shards_loaded", shards=[shard.index for shard in shards], deliveries=total)
        for shard in shards:
            await self._scheduler.connection.drop_before(shard.key, epochs[shard.index])
        return total

    async def _enqueue(self, page: Sequence[OpenDelivery], epochs: Mapping[int, bytes]) -> int:
        batches: dict[int, list[OpenDelivery]] = {}
        for delivery in page:
            batches.setdefault(self._scheduler.shard_of(delivery.platform_id).index, []).append(delivery)
        total = 0
        for index, epoch in epochs.items():
            tickets = tickets_of(batches.get(index, ()), self._limits, self._clock.now())
            for limits, packed in pack_tickets(tickets) if tickets else ():
                await self._scheduler.run("enqueue", self._scheduler.shards[index], epoch, limits, packed)
            total += len(tickets)
        return total

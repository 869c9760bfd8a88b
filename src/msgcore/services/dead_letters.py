"""Dead letters: list, inspect, requeue, purge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgcore.core.clock import Clock
from msgcore.core.deliveries import DeliveryState
from msgcore.core.errors import NotFoundError
from msgcore.core.limits import RateLimits
from msgcore.dispatch.feeder import ticket_of
from msgcore.dispatch.scheduler import Scheduler
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store.database import Database
from msgcore.store.ledger import dead, reads
from msgcore.store.ledger.feed import OpenDelivery


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed delivery with its whole timeline."""

    delivery: reads.Record
    attempts: Sequence[reads.Record]


class DeadLetterService:
    """What an operator does with deliveries that failed for good."""

    def __init__(
        self, *, database: Database, scheduler: Scheduler | None, registry: PlatformRegistry, clock: Clock
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._registry = registry
        self._clock = clock

    async def list(self, chosen: dead.DeadLetterFilter, *, limit: int, before: str | None) -> Sequence[reads.Record]:
        """A page, newest first."""
        return await dead.list_dead(self._database, chosen, limit=limit, before=before)

    async def get(self, project_id: str, delivery_id: str) -> DeadLetter:
        """One dead letter. Raises NotFoundError."""
        delivery = await reads.find_delivery(self._database, project_id, delivery_id)
        if delivery is None or delivery.state != DeliveryState.FAILED:
            raise NotFoundError(f"Dead letter {delivery_id} not found")
        return DeadLetter(delivery, await reads.attempts_of(self._database, delivery_id))

    async def requeue(self, chosen: dead.DeadLetterFilter) -> int:
        """Queue dead letters again, oldest first; returns how many. Those that fail meanwhile are left alone."""
        chosen = replace(chosen, until=self._clock.now())
        total = 0
        while batch := await dead.requeue(self._database, chosen, now := self._clock.now()):
            total += len(batch)
            if self._scheduler is not None:
                await self._scheduler.enqueue([ticket_of(delivery, self._limits(delivery), now) for delivery in batch])
        return total

    async def purge(self, chosen: dead.DeadLetterFilter) -> int:
        """Delete dead letters with their timelines; returns how many."""
        chosen = replace(chosen, until=self._clock.now())
        total = 0
        while deleted := await dead.purge(self._database, chosen):
            total += deleted
        return total

    def _limits(self, delivery: OpenDelivery) -> RateLimits:
        return self._registry.declaration(delivery.platform).limits

"""Dead letters: list, inspect, requeue, purge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import structlog

from msgcore.core.clock import Clock
from msgcore.core.deliveries import DeliveryState
from msgcore.core.errors import NotFoundError
from msgcore.core.limits import UNLIMITED
from msgcore.core.scopes import Principal
from msgcore.dispatch.scheduler import Scheduler
from msgcore.dispatch.tickets import ticket_of
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store.audit import AuditEntry
from msgcore.store.database import Database
from msgcore.store.ledger import dead, reads
from msgcore.store.ledger.feed import NIL, OpenDelivery

log = structlog.stdlib.get_logger(__name__)

_NAMED: Final = {"message_id": "job_id"}
"""What the API calls otherwise, and the audit log so too."""

Progress = Callable[[int], None]
"""Is told after each batch how many there are so far."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed delivery with its whole timeline."""

    delivery: reads.Record
    attempts: Sequence[reads.Record]


class DeadLetterService:
    """What is done with deliveries that failed for good.

    Many are dealt with in small batches, each a transaction of its own: nobody waits for long, and what was
    done stays done when the rest is interrupted. What fails meanwhile is left alone.
    """

    def __init__(
        self, *, database: Database, scheduler: Scheduler | None, registry: PlatformRegistry, clock: Clock
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._limits = {declaration.name: declaration.limits for declaration in registry.declarations()}
        self._clock = clock

    async def list(self, chosen: dead.DeadLetterFilter, *, limit: int, before: str | None) -> Sequence[reads.Record]:
        """A page, newest first."""
        return await dead.list_dead(self._database, chosen, limit=limit, before=before)

    async def count(self, chosen: dead.DeadLetterFilter) -> int:
        """How many there are."""
        return await dead.count_dead(self._database, chosen)

    async def get(self, project_id: str, delivery_id: str) -> DeadLetter:
        """One dead letter. Raises NotFoundError."""
        delivery = await reads.find_delivery(self._database, project_id, delivery_id)
        if delivery is None or delivery.state != DeliveryState.FAILED:
            raise NotFoundError(f"Dead letter {delivery_id} not found")
        return DeadLetter(delivery, await reads.attempts_of(self._database, delivery_id))

    def up_to_now(self, chosen: dead.DeadLetterFilter) -> dead.DeadLetterFilter:
        """Without what fails from now on: a requeued one that fails again must not be requeued for ever."""
        now = self._clock.now()
        return replace(chosen, until=now if chosen.until is None else min(chosen.until, now))

    async def requeue(
        self,
        actor: Principal | None,
        chosen: dead.DeadLetterFilter,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Queue dead letters again (at most `limit`), oldest first; returns how many.

        `actor` is who asks, None for the operator on the command line.
        """
        chosen = self.up_to_now(chosen)
        total, last_id = 0, NIL
        audit = self._audit(actor, "dead_letters.requeued", chosen)
        while size := _next_batch(limit, total):
            now = self._clock.now()
            batch = await dead.requeue(self._database, chosen, now, after=last_id, limit=size, audit=audit)
            if not batch.ids:
                break
            await self._enqueue(batch.due)
            total, last_id = total + len(batch.ids), batch.ids[-1]
            if progress is not None:
                progress(total)
        return total

    async def purge(
        self,
        actor: Principal | None,
        chosen: dead.DeadLetterFilter,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Delete dead letters (at most `limit`) with their timelines, oldest first; returns how many.

        `actor` is who asks, None for the operator on the command line.
        """
        chosen = self.up_to_now(chosen)
        total, last_id = 0, NIL
        audit = self._audit(actor, "dead_letters.purged", chosen)
        while size := _next_batch(limit, total):
            ids = await dead.purge(self._database, chosen, after=last_id, limit=size, audit=audit)
            if not ids:
                break
            total, last_id = total + len(ids), ids[-1]
            if progress is not None:
                progress(total)
        return total

    async def _enqueue(self, batch: Sequence[OpenDelivery]) -> None:
        """Tell this process's scheduler; without one, or if it cannot be told, the feeder finds them."""
        if self._scheduler is None or not batch:
            return
        now = self._clock.now()
        tickets = [ticket_of(delivery, self._limits.get(delivery.platform, UNLIMITED), now) for delivery in batch]
        try:
            await self._scheduler.enqueue(tickets)
        except Exception as error:  # noqa: BLE001 - they are queued in the ledger, which is what counts
            log.warning("requeued_without_scheduler", error=type(error).__name__, deliveries=len(tickets))

    def _audit(self, actor: Principal | None, action: str, chosen: dead.DeadLetterFilter) -> AuditEntry:
        """What each batch writes of itself, so that also an interrupted job leaves no more and no less."""
        asked = {_NAMED.get(name, name): value for name, value in asdict(chosen).items() if value is not None}
        project_id = chosen.project_id
        return AuditEntry(actor, action, project_id, project_id, self._clock.now(), before=asked)


def _next_batch(limit: int | None, done: int) -> int:
    return dead.BATCH if limit is None else min(dead.BATCH, limit - done)

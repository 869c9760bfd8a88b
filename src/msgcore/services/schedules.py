"""Changing one's mind about what was accepted and not sent yet: cancel it, or send it at another time.

The ledger decides, in one transaction, against whatever workers do at the same moment. The scheduler
of this process, if it has one, is told afterwards; one of another process finds out by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from msgcore.core.clock import Clock
from msgcore.core.deliveries import Ticket
from msgcore.core.errors import ConflictError, FieldError, InvalidInputError
from msgcore.core.limits import UNLIMITED
from msgcore.dispatch.scheduler import Scheduler, SchedulerAwayError
from msgcore.dispatch.tickets import HORIZON, ticket_of
from msgcore.platforms.registry import PlatformRegistry
from msgcore.services.batches import find_batch
from msgcore.services.jobs import find_job
from msgcore.services.send import read_time
from msgcore.store.database import Database
from msgcore.store.ledger import ending, rescheduling
from msgcore.store.ledger.ending import Cancelled
from msgcore.store.ledger.rescheduling import Rescheduled

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewTime:
    """When a job's deliveries are due now, how many they are, and how many others it is too late for."""

    due_at: datetime
    moved: int
    others: int


class ScheduleService:
    """Cancels and reschedules."""

    def __init__(
        self,
        *,
        database: Database,
        scheduler: Scheduler | None,
        registry: PlatformRegistry,
        clock: Clock,
        on_told: Callable[[Collection[str]], None],
    ) -> None:
        """`on_told` is given the ids of projects whose event log has something new."""
        self._on_told = on_told
        self._database = database
        self._scheduler = scheduler
        self._limits = {declaration.name: declaration.limits for declaration in registry.declarations()}
        self._clock = clock
        # The scheduler must hear of changes in the order in which the ledger saw them.
        self._turn = asyncio.Lock()

    async def cancel(self, project_id: str, job_id: str) -> Cancelled:
        """Cancel those deliveries of a job that wait. Raises NotFoundError."""
        message = await find_job(self._database, project_id, job_id)
        async with self._turn:
            cancelled = await ending.cancel_message(self._database, message.id, self._clock.now())
            self._on_told([project_id])
            await self._tell(cancelled.ids)
        return cancelled

    async def cancel_batch(self, project_id: str, batch_id: str) -> Cancelled:
        """Cancel those deliveries of a batch that wait. Raises NotFoundError."""
        batch = await find_batch(self._database, project_id, batch_id)
        async with self._turn:
            cancelled = await ending.cancel_batch(self._database, batch.id, self._clock.now())
            self._on_told([project_id])
            await self._tell(cancelled.ids)
        return cancelled

    async def reschedule(self, project_id: str, job_id: str, scheduled: str | None) -> NewTime:
        """Give those deliveries of a job that nobody tried yet another time; None is at once.

        Raises NotFoundError, InvalidInputError for a time that is not allowed, and ConflictError when
        every delivery was tried, sent or ended.
        """
        now = self._clock.now()
        due_at = _read_scheduled(scheduled, now)
        message = await find_job(self._database, project_id, job_id)
        async with self._turn:
            rescheduled = await rescheduling.reschedule(self._database, message.id, due_at, now)
            await self._tell([delivery.id for delivery in rescheduled.moved], self._tickets(rescheduled, due_at))
        if not rescheduled.moved:
            raise ConflictError(f"Job {job_id} cannot be rescheduled: all its deliveries were tried, sent or ended")
        return NewTime(due_at, len(rescheduled.moved), rescheduled.others)

    def _tickets(self, rescheduled: Rescheduled, due_at: datetime) -> list[Ticket]:
        now = self._clock.now()
        if due_at > now + HORIZON:
            return []  # the feeder brings it when it is near
        return [
            ticket_of(delivery, self._limits.get(delivery.platform, UNLIMITED), now) for delivery in rescheduled.moved
        ]

    async def _tell(self, gone: Sequence[str], tickets: Sequence[Ticket] = ()) -> None:
        """Let the scheduler forget deliveries and, after that, learn tickets; also wakes it."""
        if self._scheduler is None or not gone:
            return
        try:
            await self._scheduler.remove(gone)
            await self._scheduler.enqueue(tickets)
        except SchedulerAwayError:
            # The ledger has it, and workers ask the ledger before they send.
            log.warning("scheduler_away", deliveries=len(gone))


def _read_scheduled(text: str | None, now: datetime) -> datetime:
    errors: list[FieldError] = []
    moment = read_time("scheduled", text, now, errors)
    if errors:
        raise InvalidInputError.of(errors)
    return now if moment is None else max(moment, now)

"""Handing newly committed deliveries to the scheduler, in the order in which they were committed.

While the scheduler cannot be told everything at once (it is empty after a start, or its server is away),
this process hands over nothing directly: it catches up from the ledger, page by page, oldest first, and
goes on directly once nothing is left between. So no lane is overtaken, and an answer never waits for a
scheduler that is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog

from msgcore.core.clock import Clock
from msgcore.core.deliveries import Ticket
from msgcore.core.limits import RateLimits
from msgcore.core.tasks import end
from msgcore.dispatch.scheduler import Scheduler, SchedulerAwayError
from msgcore.dispatch.tickets import HORIZON, tickets_of
from msgcore.store.faults import is_away
from msgcore.store.ledger.feed import NIL, PAGE, Feed

log = structlog.stdlib.get_logger(__name__)

RETRY_SECONDS = 0.5


class Handover:
    """Between the accept path and the scheduler. `gate` is held by whoever commits new deliveries."""

    def __init__(
        self,
        *,
        feed: Feed,
        scheduler: Scheduler,
        limits: Mapping[str, RateLimits],
        clock: Clock,
        gate: asyncio.Lock,
    ) -> None:
        self._feed = feed
        self._scheduler = scheduler
        self._limits = limits
        self._clock = clock
        self._gate = gate
        self._behind: str | None = None
        """After which id the scheduler may miss some, in the order in which they are read; None when it has all."""
        self._late: str | None = None
        """The same for what was committed since the last page was read."""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_live(self) -> bool:
        """Whether the scheduler has all that was committed here."""
        return self._behind is None

    def load(self) -> None:
        """Begin with everything that the ledger holds: the scheduler is empty."""
        self._fall_behind(NIL)

    async def committed(self, tickets: Sequence[Ticket]) -> None:
        """Take newly committed deliveries (called with the gate held)."""
        horizon = HORIZON.total_seconds()
        near = [ticket for ticket in tickets if ticket.delay <= horizon]
        if not near:
            return
        if self._behind is not None:
            self._miss(near)
            return
        try:
            await self._scheduler.enqueue(near)
        except Exception as error:  # whatever it was: they are committed, and so is the answer
            if isinstance(error, SchedulerAwayError):
                log.warning("scheduler_away", error=str(error), deliveries=len(near))
            else:
                log.exception("handover_failed", deliveries=len(near))
            self._miss(near)

    def doubted(self, tickets: Sequence[Ticket]) -> None:
        """Take deliveries of which nobody knows whether they were committed (called with the gate held).

        Their sender may ask again, hear that they were, and send the next message of the conversation.
        """
        if tickets:
            self._miss(tickets)

    async def stop(self) -> None:
        """Stop catching up; what is left is found by whoever leads."""
        await end(self._task)

    def _miss(self, tickets: Sequence[Ticket]) -> None:
        """Read the ledger from these on."""
        before = _before(tickets)
        if self._behind is None:
            self._fall_behind(before)
        else:
            # Ids are older than their commits: what was read meanwhile may lie behind them.
            self._late = before if self._late is None else min(self._late, before)

    def _fall_behind(self, last_id: str) -> None:
        self._behind = last_id
        self._task = asyncio.create_task(self._catch_up(), name="handover")

    async def _catch_up(self) -> None:
        total = 0
        while self._behind is not None:
            try:
                while (size := await self._hand_over_page(self._behind)) == PAGE:
                    total += size
                total += size
                # The scheduler is there, and little is left: nobody waits for long at the gate.
                async with self._gate:  # nothing is committed meanwhile, so that nothing slips between
                    while size := await self._hand_over_page(self._behind):
                        total += size
                    self._behind = None
            except Exception as error:
                if not (isinstance(error, SchedulerAwayError) or is_away(error)):
                    log.exception("handover_failed")
                await asyncio.sleep(RETRY_SECONDS)
        if total:
            log.info("deliveries_resumed", count=total)

    async def _hand_over_page(self, behind: str) -> int:
        """Hand over the next page of the ledger after `behind`; returns its size."""
        while True:
            if self._late is not None:
                behind = min(behind, self._late)
            self._behind, self._late = behind, None
            page = await self._feed.after(behind, self._clock.now() + HORIZON)
            # Else something was committed that lies before the page, which may hold what follows it in its lane.
            if self._late is None or self._late >= behind:
                break
        if page:
            # By the time after the reading: what was committed meanwhile is due, not scheduled for later.
            await self._scheduler.enqueue(tickets_of(page, self._limits, self._clock.now()))
            self._behind = page[-1].id
        return len(page)


def _before(tickets: Sequence[Ticket]) -> str:
    """The id just below all of theirs."""
    return str(UUID(int=UUID(min(ticket.delivery_id for ticket in tickets)).int - 1))

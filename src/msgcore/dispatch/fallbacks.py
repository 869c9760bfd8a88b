"""Making fallbacks due: the next target of a message when the one before it cannot be reached.

A process looks at a message when one of its own attempts for it has ended. The one that leads also looks for what
nobody else came to: whose process was killed, what is late, what was requeued. Everything follows from the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

import structlog

from msgcore.core.clock import Clock
from msgcore.core.limits import RateLimits
from msgcore.core.tasks import end
from msgcore.dispatch.scheduler import Scheduler, SchedulerAwayError
from msgcore.dispatch.tickets import tickets_of
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.ledger import fallbacks as store
from msgcore.store.ledger.fallbacks import CHAINS, PAGE, Advanced
from msgcore.store.ledger.feed import NIL

log = structlog.stdlib.get_logger(__name__)

EPOCH = datetime.fromtimestamp(0, UTC)

SWEEP_SECONDS = 1.0
"""How often the leading process looks at what is late, and at one more page of all that stand by."""

MOST_TOLD = 10_000
"""So many messages are remembered to be looked at; those beyond are found by the sweep."""


class Fallbacks:
    """Lets fallbacks take over, or ends those that are not needed. `leads`: whether this process is to sweep."""

    def __init__(
        self,
        *,
        database: Database,
        scheduler: Scheduler,
        limits: Mapping[str, RateLimits],
        clock: Clock,
        leads: Callable[[], bool],
        every: float = SWEEP_SECONDS,
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._limits = limits
        self._clock = clock
        self._leads = leads
        self._every = every
        self._told: set[str] = set()
        self._news = asyncio.Event()
        self._sweep_from = NIL
        self._swept_at = float("-inf")
        self._caught_up = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="fallbacks")

    async def stop(self) -> None:
        """Stop looking; what is left is found after the next start."""
        await end(self._task)

    def look(self, message_id: str) -> None:
        """An attempt for a message with fallbacks has ended, and the ledger has it."""
        if len(self._told) < MOST_TOLD:
            self._told.add(message_id)
            self._news.set()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._turn()
            except Exception as error:
                if is_away(error):
                    log.warning("fallbacks_wait", error=type(error).__name__)
                else:
                    log.exception("fallbacks_failed")
                await asyncio.sleep(self._every)  # a database that is away is not pressed
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._news.wait()

    async def _turn(self) -> None:
        told, self._told = self._told, set()
        await self._advance(told)
        if not self._leads():
            self._caught_up = False  # whoever begins to lead goes through all of them once
        elif self._clock.monotonic() - self._swept_at >= self._every:
            self._swept_at = self._clock.monotonic()
            if await self._sweep():
                await self._take_over_late()

    async def _sweep(self) -> bool:
        """Look at the next page of those that stand by, the first time at all; tells whether there are any."""
        some = self._sweep_from != NIL
        while True:
            page = await store.standing_by(self._database, self._sweep_from)
            if page:
                some = True
                await self._advance(await store.ready_among(self._database, [row.message_id for row in page]))
            self._sweep_from = page[-1].id if len(page) == PAGE else NIL
            self._caught_up = self._caught_up or self._sweep_from == NIL
            if self._caught_up:
                return some

    async def _take_over_late(self) -> None:
        since, last_id, now = EPOCH, NIL, self._clock.now()
        while page := await store.overdue(self._database, since, last_id, now):
            late = list(dict.fromkeys(row.message_id for row in page))
            await self._advance(await store.free_among(self._database, late))
            since, last_id = page[-1].fallback_at, page[-1].id

    async def _advance(self, message_ids: set[str] | Sequence[str]) -> None:
        ids = iter(message_ids)
        while part := list(islice(ids, CHAINS)):
            await self._tell(await store.advance(self._database, part, self._clock.now()))

    async def _tell(self, advanced: Advanced) -> None:
        """Let the scheduler forget what ended, and learn what is due."""
        for takeover in advanced.activated:
            log.info(
                "fallback_activated",
                delivery_id=takeover.delivery.id,
                message_id=takeover.message_id,
                project_id=takeover.project_id,
                platform=takeover.delivery.platform,
                reason=takeover.reason,
            )
        due = [takeover.delivery for takeover in advanced.activated]
        try:
            if advanced.ended:
                await self._scheduler.remove(advanced.ended)
            if due:
                await self._scheduler.enqueue(tickets_of(due, self._limits, self._clock.now()))
        except SchedulerAwayError as error:  # they are queued in the ledger, where the feeder finds them
            log.warning("scheduler_away", error=str(error), deliveries=len(due))

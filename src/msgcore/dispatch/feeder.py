"""Feeding the scheduler from the ledger, for whatever did not come to it directly.

One process does it (the one process, or the leader of many): it brings shards to life that forgot what
they held, takes scheduled deliveries when they are near, ends what is overdue, holds and lets go accounts
as the ledger says, and sweeps slowly over all open deliveries for any that the scheduler does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from msgcore.core.clock import Clock
from msgcore.core.ids import earliest_id
from msgcore.core.limits import RateLimits
from msgcore.core.tasks import end
from msgcore.dispatch.handover import Handover
from msgcore.dispatch.redis.loader import ShardLoader
from msgcore.dispatch.scheduler import Scheduler, SchedulerAwayError
from msgcore.dispatch.tickets import HORIZON, tickets_of
from msgcore.store.faults import is_away
from msgcore.store.ledger.feed import NIL, PAGE, Feed, OpenDelivery

log = structlog.stdlib.get_logger(__name__)

OVERLAP = timedelta(seconds=10)
"""How far before the last look what was committed since may lie: its id and its delay are older than its commit."""

HOUSEKEEPING = timedelta(minutes=10)


class Leadership(Protocol):
    """Who may feed a scheduler that many processes share."""

    async def holds(self) -> bool:
        """Whether this process leads now; it does from then on if nobody else does."""
        ...


class Feeder:
    """Keeps the scheduler supplied.

    `handover` is this process's own way into the scheduler, and `gate` is held by whoever commits through it.
    `on_resume` is called with an account's id before its deliveries go on, so that nobody remembers that it
    was held; `on_found` with how many deliveries a sweep found. With `follow`, other processes commit
    deliveries without handing them over. `loader` and `leadership` belong to a shared scheduler.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        scheduler: Scheduler,
        limits: Mapping[str, RateLimits],
        clock: Clock,
        gate: asyncio.Lock,
        handover: Handover,
        on_resume: Callable[[str], None],
        on_found: Callable[[int], None],
        every: float,
        follow: bool = False,
        loader: ShardLoader | None = None,
        leadership: Leadership | None = None,
    ) -> None:
        self._feed = feed
        self._scheduler = scheduler
        self._limits = limits
        self._clock = clock
        self._gate = gate
        self._handover = handover
        self._on_resume = on_resume
        self._on_found = on_found
        self._every = every
        self._follow = follow
        self._loader = loader
        self._leadership = leadership
        self._loaded_until = clock.now()
        self._sweep_from = NIL
        self._looked_at = clock.now()
        self._cleaned_at = clock.now()
        self._hurry = asyncio.Event()
        self._leads = False
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this process is the one that feeds, as far as it knows."""
        return self._leads

    async def start(self) -> None:
        """Begin to feed; what only this process's memory holds is loaded in the background."""
        if self._loader is None:
            await self._hold_accounts()
            self._handover.load()
        self._task = asyncio.create_task(self._run(), name="feeder")

    async def stop(self) -> None:
        """Stop feeding."""
        await end(self._task)

    def hurry(self) -> None:
        """Look now: the scheduler was found empty."""
        self._hurry.set()

    async def _run(self) -> None:
        while True:
            self._hurry.clear()
            try:
                self._leads = self._leadership is None or await self._leadership.holds()
                if self._leads:
                    await self._turn()
            except Exception as error:
                if is_away(error) or isinstance(error, SchedulerAwayError):
                    log.warning("feeding_waits", error=type(error).__name__)
                else:
                    log.exception("feeding_failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._hurry.wait()

    async def _turn(self) -> None:
        if self._loader is not None and (closed := await self._loader.closed()):
            await self._loader.load(closed, self._hold_accounts)
        if self._handover.is_live:
            await self._reconcile()

    async def _hold_accounts(self) -> None:
        """Hold the accounts that the ledger says must wait, and those alone: any process may have changed them."""
        # In this order: an account that is paused meanwhile must not look like one that may go on.
        paused = await self._scheduler.paused()
        held = await self._feed.held_accounts()
        for account_id in held - paused:
            await self._scheduler.pause(account_id)
        for account_id in paused - held:
            self._on_resume(account_id)
            await self._scheduler.resume(account_id)

    async def _reconcile(self) -> None:
        now = self._clock.now()
        await self._hold_accounts()
        await self._end_overdue(now)
        await self._take_scheduled(now + HORIZON)
        if self._follow:
            await self._take_new(earliest_id(self._looked_at - OVERLAP))
        await self._take_rescheduled(self._looked_at - OVERLAP)
        self._looked_at = now
        await self._sweep(now)
        if now - self._cleaned_at > HOUSEKEEPING:
            self._cleaned_at = now
            await self._feed.drop_expired_keys(now)

    async def _sweep(self, now: datetime) -> None:
        """Look at one more page of the open deliveries, and at the next ones while there is something to find."""
        found = PAGE
        while found:
            async with self._gate:
                page = await self._feed.after(self._sweep_from, now)
                found = await self._enqueue(page)
            self._on_found(0 if self._follow else found)
            self._sweep_from = page[-1].id if len(page) == PAGE else NIL
            if self._sweep_from == NIL:
                return

    async def _end_overdue(self, now: datetime) -> None:
        while ended := await self._feed.expire_overdue(now):
            await self._scheduler.remove(ended)

    async def _take_scheduled(self, until: datetime) -> None:
        # What lay beyond the horizon when it was accepted may have been committed after that was passed.
        since, last_id = self._loaded_until - OVERLAP, NIL
        while page := await self._feed.falling_due(since, last_id, until):
            await self._enqueue(page)
            since, last_id = page[-1].due_at, page[-1].id
        self._loaded_until = until

    async def _take_new(self, last_id: str) -> None:
        while page := await self._feed.after(last_id, self._loaded_until):
            await self._enqueue(page)
            last_id = page[-1].id

    async def _take_rescheduled(self, since: datetime) -> None:
        last_id = NIL
        while page := await self._feed.rescheduled_after(since, last_id):
            if self._follow:  # else the scheduler was told, but for what a worker just had, found put off and let go
                await self._scheduler.remove([delivery.id for _, delivery in page])
            near = self._clock.now() + HORIZON
            await self._enqueue([delivery for _, delivery in page if delivery.due_at <= near])
            since, last_id = page[-1][0], page[-1][1].id

    async def _enqueue(self, page: Iterable[OpenDelivery]) -> int:
        return await self._scheduler.enqueue(tickets_of(page, self._limits, self._clock.now()))

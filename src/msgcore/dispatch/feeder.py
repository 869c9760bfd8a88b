"""Feeding the scheduler from the ledger: at start, and whenever something was missed.

The scheduler forgets everything with the process. At start all open deliveries are read page by
page, oldest first, and the processor works on the first page while the next is read. Until that
is done, newly committed deliveries are not handed over directly: the feeder meets them at the end
of the ledger, so that no lane is overtaken. Afterwards a slow sweep looks for open deliveries that
the scheduler does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from msgcore.core.clock import Clock
from msgcore.core.deliveries import Rank, Ticket
from msgcore.core.ids import earliest_id
from msgcore.core.limits import UNLIMITED, RateLimits
from msgcore.dispatch.scheduler import Scheduler
from msgcore.store.faults import is_away
from msgcore.store.ledger.feed import NIL, PAGE, Feed, OpenDelivery

log = structlog.stdlib.get_logger(__name__)

HORIZON = timedelta(hours=1)
"""How far ahead of its time a scheduled delivery is taken into memory."""

RANKS = tuple(Rank)
"""By number; calling the enum costs several times more."""

OVERLAP = timedelta(seconds=10)
"""How far back a follower looks for deliveries that another process committed late."""

HOUSEKEEPING = timedelta(minutes=10)


def ticket_of(delivery: OpenDelivery, limits: RateLimits, now: datetime) -> Ticket:
    """What the scheduler is told of a delivery that the ledger holds; `limits` are its platform's."""
    return Ticket(
        delivery_id=delivery.id,
        account_id=delivery.platform_id,
        lane=delivery.lane,
        rank=RANKS[delivery.rank],
        delay=max(0.0, (delivery.due_at - now).total_seconds()),
        limits=limits,
        keeps_place=delivery.tried,
    )


class Feeder:
    """Keeps the scheduler supplied.

    `gate` is held by whoever commits new deliveries. `on_resume` is called with an account's id
    before its deliveries go on, so that nobody remembers that it was held.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        scheduler: Scheduler,
        limits: dict[str, RateLimits],
        clock: Clock,
        gate: asyncio.Lock,
        on_resume: Callable[[str], None],
        every: float,
        follow: bool,
    ) -> None:
        self._feed = feed
        self._scheduler = scheduler
        self._limits = limits
        self._clock = clock
        self._gate = gate
        self._on_resume = on_resume
        self._every = every
        self._follow = follow
        self._loaded_until = clock.now()
        self._sweep_from = NIL
        self._looked_at = clock.now()
        self._cleaned_at = clock.now()
        self._live = False
        self._task: asyncio.Task[None] | None = None

    async def committed(self, tickets: Sequence[Ticket]) -> None:
        """Take newly committed deliveries (called with the gate held)."""
        if self._live:
            horizon = HORIZON.total_seconds()
            await self._scheduler.enqueue([ticket for ticket in tickets if ticket.delay <= horizon])

    async def start(self) -> None:
        """Learn which accounts are held, then load in the background."""
        await self._hold_accounts()
        self._task = asyncio.create_task(self._run(), name="feeder")

    async def stop(self) -> None:
        """Stop feeding."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                if not self._live:
                    await self._load()
                await asyncio.sleep(self._every)
                await self._reconcile()
            except Exception as error:
                if is_away(error):
                    log.warning("ledger_away", error=type(error).__name__)
                else:
                    log.exception("feeding_failed")
                await asyncio.sleep(self._every)

    async def _load(self) -> None:
        """Read all that is open; the last page with the gate held, so that nothing slips between."""
        self._loaded_until = self._clock.now() + HORIZON
        last_id, total = NIL, 0
        while len(page := await self._feed.after(last_id, self._loaded_until)) == PAGE:
            await self._enqueue(page)
            last_id, total = page[-1].id, total + len(page)
        async with self._gate:
            while page := await self._feed.after(last_id, self._loaded_until):
                await self._enqueue(page)
                last_id, total = page[-1].id, total + len(page)
            self._live = True
        if total:
            log.info("deliveries_resumed", count=total)

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
        await self._take_scheduled(now + HORIZON)
        if self._follow:
            await self._take_new(earliest_id(self._looked_at - OVERLAP))
            self._looked_at = now
        async with self._gate:
            page = await self._feed.after(self._sweep_from, now)
            await self._enqueue(page)
        self._sweep_from = page[-1].id if len(page) == PAGE else NIL
        if now - self._cleaned_at > HOUSEKEEPING:
            self._cleaned_at = now
            await self._feed.drop_expired_keys(now)

    async def _take_scheduled(self, until: datetime) -> None:
        since, last_id = self._loaded_until, NIL
        while page := await self._feed.falling_due(since, last_id, until):
            await self._enqueue(page)
            since, last_id = page[-1].due_at, page[-1].id
        self._loaded_until = until

    async def _take_new(self, last_id: str) -> None:
        while page := await self._feed.after(last_id, self._loaded_until):
            await self._enqueue(page)
            last_id = page[-1].id

    async def _enqueue(self, page: Iterable[OpenDelivery]) -> None:
        now = self._clock.now()
        await self._scheduler.enqueue(
            [ticket_of(delivery, self._limits.get(delivery.platform, UNLIMITED), now) for delivery in page]
        )

"""The way from a commit to the scheduler: of every process, whether it sends or only accepts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress

from msgcore.app.shared import Shared
from msgcore.core.deliveries import Ticket
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.dispatch.handover import Handover
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.opening import open_scheduler
from msgcore.dispatch.redis import RedisConnection, RedisScheduler
from msgcore.dispatch.scheduler import SchedulerAwayError
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.feed import Feed

UNKNOWN = "unknown"
"""The platform, in metrics, of an account that nobody asked for since so many others were."""


class Scheduling:
    """The accept log, and behind it the scheduler, if this process has one or shares one."""

    def __init__(self, shared: Shared, scheduler: MemoryScheduler | RedisScheduler | None) -> None:
        self._shared = shared
        self.accept_log = AcceptLog(shared.database, self._committed, self._doubted)
        self.scheduler = scheduler
        self.handover: Handover | None = None
        if scheduler is not None:
            self.handover = Handover(
                feed=Feed(shared.database),
                scheduler=scheduler,
                limits=shared.limits,
                clock=shared.clock,
                gate=self.accept_log.gate,
            )

    @classmethod
    async def open(cls, shared: Shared, resources: AsyncExitStack, *, worker: bool) -> Scheduling:
        """With the scheduler that the settings ask for. Raises StartupError when a shared one does not answer."""
        scheduler = await open_scheduler(shared.settings, shared.database, shared.clock, worker=worker)
        if isinstance(scheduler, RedisScheduler):
            resources.push_async_callback(scheduler.close)
        return cls(shared, scheduler)

    @property
    def redis(self) -> RedisConnection | None:
        """The connection of a scheduler that many processes share."""
        return self.scheduler.connection if isinstance(self.scheduler, RedisScheduler) else None

    async def stop(self) -> None:
        """Stop catching up; what the scheduler does not know is in the ledger."""
        if self.handover is not None:
            await self.handover.stop()

    async def hold_or_resume(self, account_id: str, directory: AccountDirectory) -> None:
        """Let an account's deliveries wait or go on, as the directory says."""
        if self.scheduler is not None:
            record = await directory.get(account_id)
            is_held = record is not None and record.is_held
            with suppress(SchedulerAwayError):  # the feeder does it as soon as the scheduler is back
                await (self.scheduler.pause if is_held else self.scheduler.resume)(account_id)

    async def breakers(self) -> Mapping[str, str]:
        """The circuit breakers that are not closed, by account id."""
        return {} if self.scheduler is None else await self.scheduler.breakers()

    async def ping_redis(self) -> bool:
        """Whether Redis answers, if the scheduler is on one. Raises SchedulerAwayError when it does not."""
        if self.redis is not None:
            await self.redis.ping()
        return True

    async def _committed(self, tickets: Sequence[Ticket]) -> None:
        for account_id, number in Counter(ticket.account_id for ticket in tickets).items():
            platform = self._shared.accounts.platform_of(account_id) or self._shared.webhooks.platform_of(account_id)
            self._shared.metrics.platform(platform or UNKNOWN).accepted.inc(number)
        if self.handover is not None:
            await self.handover.committed(tickets)

    def _doubted(self, tickets: Sequence[Ticket]) -> None:
        if self.handover is not None:
            self.handover.doubted(tickets)

"""What sends: the scheduler is fed from the ledger, and what it says is due goes to the platforms' adapters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from typing import Literal

from msgcore.app.scheduling import Scheduling
from msgcore.app.shared import Shared
from msgcore.dispatch.fallbacks import Fallbacks
from msgcore.dispatch.feeder import Feeder
from msgcore.dispatch.handover import Handover
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.processor import Processor
from msgcore.dispatch.redis import RedisScheduler
from msgcore.dispatch.redis.loader import ShardLoader
from msgcore.dispatch.verdict import Judge
from msgcore.platforms.base import PlatformAdapter
from msgcore.store.ledger.feed import Feed
from msgcore.store.lock import DispatchLock, Leadership


class Dispatching:
    """The feeder, the fallbacks and the processor of a process that sends."""

    def __init__(
        self,
        *,
        lock: DispatchLock | None,
        handover: Handover,
        feeder: Feeder,
        fallbacks: Fallbacks,
        processor: Processor,
        shutdown_seconds: float,
    ) -> None:
        """`lock` is held by a process that dispatches alone."""
        self._lock = lock
        self._handover = handover
        self._feeder = feeder
        self._fallbacks = fallbacks
        self.processor = processor
        self._shutdown_seconds = shutdown_seconds

    @classmethod
    async def open(
        cls,
        shared: Shared,
        scheduling: Scheduling,
        adapters: Mapping[str, PlatformAdapter],
        resources: AsyncExitStack,
        *,
        follow: bool,
        on_told: Callable[[Collection[str]], None],
    ) -> Dispatching:
        """Raises StartupError when another process dispatches already, and may alone.

        With `follow`, other processes commit deliveries without handing them over. `on_told` is called with the
        ids of projects whose event log has something new.
        """
        scheduler, handover = scheduling.scheduler, scheduling.handover
        if scheduler is None or handover is None:
            raise RuntimeError("a process that dispatches has a scheduler")
        lock = None
        if isinstance(scheduler, MemoryScheduler):
            lock = await DispatchLock.acquire(shared.database)
            resources.push_async_callback(lock.release)
        feeder = _build_feeder(shared, scheduling, scheduler, handover, resources, follow=follow)
        fallbacks = Fallbacks(
            database=shared.database,
            scheduler=scheduler,
            limits=shared.limits,
            clock=shared.clock,
            leads=lambda: feeder.leads,
        )
        return cls(
            lock=lock,
            handover=handover,
            feeder=feeder,
            fallbacks=fallbacks,
            processor=_build_processor(shared, scheduler, adapters, on_fallible=fallbacks.look, on_told=on_told),
            shutdown_seconds=shared.settings.shutdown_seconds,
        )

    @property
    def state(self) -> Literal["starting", "running"]:
        """Whether the scheduler has all that it has to know."""
        return "running" if self._handover.is_live else "starting"

    def leads(self) -> bool:
        """Whether this process is the one that does what only one should do, as far as it knows."""
        return self._feeder.leads

    async def start(self) -> None:
        """Begin to send."""
        await self._feeder.start()  # first: it holds the accounts that must wait before anything is claimed
        self.processor.start()
        self._fallbacks.start()

    async def check_lock(self) -> None:
        """Raises StartupError when another process took over dispatching."""
        if self._lock is not None:
            await self._lock.check()

    async def stop_feeding(self) -> None:
        """Bring nothing more to the scheduler from the ledger."""
        await self._fallbacks.stop()
        await self._feeder.stop()

    async def stop(self) -> None:
        """Finish what is being sent, bounded, and record what came of it."""
        await self.processor.stop(self._shutdown_seconds)


def _build_feeder(
    shared: Shared,
    scheduling: Scheduling,
    scheduler: MemoryScheduler | RedisScheduler,
    handover: Handover,
    resources: AsyncExitStack,
    *,
    follow: bool,
) -> Feeder:
    loader, leadership = None, None
    feed = Feed(shared.database)
    if isinstance(scheduler, RedisScheduler):
        loader = ShardLoader(feed=feed, scheduler=scheduler, limits=shared.limits, clock=shared.clock)
        leadership = Leadership(shared.database)
        resources.push_async_callback(leadership.release)
    feeder = Feeder(
        feed=feed,
        scheduler=scheduler,
        limits=shared.limits,
        clock=shared.clock,
        gate=scheduling.accept_log.gate,
        handover=handover,
        on_resume=shared.forget,
        on_found=shared.metrics.reconciled,
        every=shared.settings.reconcile_seconds,
        follow=follow and loader is None,
        loader=loader,
        leadership=leadership,
    )
    if isinstance(scheduler, RedisScheduler):
        scheduler.on_closed = feeder.hurry
    return feeder


def _build_processor(
    shared: Shared,
    scheduler: MemoryScheduler | RedisScheduler,
    adapters: Mapping[str, PlatformAdapter],
    *,
    on_fallible: Callable[[str], None],
    on_told: Callable[[Collection[str]], None],
) -> Processor:
    settings = shared.settings
    return Processor(
        scheduler=scheduler,
        work=shared.work,
        accounts=shared.accounts,
        messages=shared.messages,
        adapters=adapters,
        clock=shared.clock,
        judge=Judge(),
        opt_outs=shared.opt_outs,
        concurrency=settings.concurrency,
        lease_seconds=settings.lease_seconds,
        send_timeout=settings.send_timeout_seconds,
        metrics=shared.metrics,
        webhooks=shared.webhooks,
        on_fallible=on_fallible,
        on_told=on_told,
    )

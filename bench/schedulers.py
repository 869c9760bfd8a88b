"""The scheduler that a benchmark asks for: in memory, or over Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from msgcore.core.clock import SystemClock
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.redis import RedisConnection, RedisScheduler
from msgcore.dispatch.scheduler import Scheduler

PREFIX = "msgcore-bench"
"""Of the keys, so that a gateway's are left alone."""


@asynccontextmanager
async def open_scheduler(redis_url: str | None, lease_seconds: float = 30.0) -> AsyncGenerator[Scheduler]:
    """The one place where benchmarks make a scheduler: of this process, or of all that share a Redis."""
    if redis_url is None:
        yield MemoryScheduler(SystemClock(), lease_seconds=lease_seconds)
        return
    connection = RedisConnection.open(redis_url, prefix=PREFIX, lease_seconds=lease_seconds)
    scheduler = RedisScheduler(connection, SystemClock())
    try:
        yield scheduler
    finally:
        await scheduler.close()


async def begin(scheduler: Scheduler) -> None:
    """Empty the scheduler and let it take deliveries; one process does so, before the others start."""
    if isinstance(scheduler, RedisScheduler):
        for shard in scheduler.shards:
            epoch = await scheduler.run("open", shard)
            await scheduler.connection.drop_before(shard.key, epoch)
            await scheduler.run("settle", shard, epoch)

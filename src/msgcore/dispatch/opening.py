"""Which scheduler a process has: one of its own, the one that all share, or none."""

from __future__ import annotations

from msgcore.config import Settings
from msgcore.core.clock import Clock
from msgcore.core.errors import StartupError
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.redis import RedisConnection, RedisScheduler
from msgcore.dispatch.scheduler import SchedulerAwayError
from msgcore.store.database import Database


async def open_scheduler(
    settings: Settings, database: Database, clock: Clock, *, worker: bool
) -> MemoryScheduler | RedisScheduler | None:
    """The scheduler that the settings ask for; None in a process that neither works nor shares one.

    Raises StartupError when the server of a shared one does not answer.
    """
    if settings.redis_url is None:
        return MemoryScheduler(clock, lease_seconds=settings.lease_seconds) if worker else None
    if database.kind == "sqlite":
        raise StartupError(
            "MSGCORE_REDIS_URL shares the work among processes, which needs a database that they can share: "
            "set MSGCORE_DATABASE_URL to postgresql://..., or unset MSGCORE_REDIS_URL"
        )
    connection = RedisConnection.open(
        settings.redis_url.get_secret_value(), prefix=settings.redis_prefix, lease_seconds=settings.lease_seconds
    )
    try:
        await connection.ping()
    except SchedulerAwayError as error:
        await connection.close()
        raise StartupError(
            f"the server at MSGCORE_REDIS_URL does not answer ({error}); start it, or correct the URL"
        ) from None
    return RedisScheduler(connection, clock, shards=settings.redis_shards)

"""One process dispatches from a database: the lock on it, lost and taken again."""

from __future__ import annotations

import asyncio

import pytest

from msgcore.core.errors import StartupError
from msgcore.store.database import Database
from msgcore.store.lock import DISPATCH_LOCK, DispatchLock, serving_alone
from servers.patience import PATIENCE
from servers.postgres import PostgresServer

END_SESSIONS = f"""
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND ((classid::bigint << 32) | objid::bigint) = {DISPATCH_LOCK}
"""


async def test_a_second_one_is_refused_until_the_first_gives_up(database: Database, database_url: str) -> None:
    other = Database.open(database_url)
    first = await DispatchLock.acquire(database)
    with pytest.raises(StartupError, match="MSGCORE_REDIS_URL"):
        await DispatchLock.acquire(other)
    await first.check()
    await first.release()
    second = await DispatchLock.acquire(other)
    with pytest.raises(StartupError, match="already dispatches"):
        await first.check()
    await second.release()
    await other.close()


async def test_one_process_alone_serves_the_api_from_a_sqlite_file(database: Database, database_url: str) -> None:
    """It would not hear of keys that another one revokes."""
    other = Database.open(database_url)
    async with serving_alone(database):
        lock = await DispatchLock.acquire(other)
        await lock.release()
        if database.kind == "sqlite":
            with pytest.raises(StartupError, match="serves the API"):
                await other_serves(other)
        else:
            await other_serves(other)
    await other_serves(other)
    await other.close()


async def other_serves(database: Database) -> None:
    async with serving_alone(database):
        pass


async def test_a_lock_that_was_lost_is_taken_again(postgres_server: PostgresServer, postgres_url: str) -> None:
    database, other = Database.open(postgres_url), Database.open(postgres_url)
    lock = await DispatchLock.acquire(database)
    postgres_server.execute(END_SESSIONS)
    await lock.check()  # notices that its session is gone
    await lock.check()  # and takes the lock with a new one
    with pytest.raises(StartupError):
        await DispatchLock.acquire(other)
    await lock.release()
    await database.close()
    await other.close()


async def acquire_soon(database: Database) -> DispatchLock:
    """A server process that was told to end has its locks for a moment yet."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await DispatchLock.acquire(database)
            except StartupError:
                await asyncio.sleep(0.02)


async def test_a_lock_that_somebody_else_took_is_given_up(postgres_server: PostgresServer, postgres_url: str) -> None:
    database, other = Database.open(postgres_url), Database.open(postgres_url)
    lock = await DispatchLock.acquire(database)
    postgres_server.execute(END_SESSIONS)
    taken = await acquire_soon(other)
    await lock.check()
    with pytest.raises(StartupError, match="already dispatches"):
        await lock.check()
    await taken.release()
    await database.close()
    await other.close()

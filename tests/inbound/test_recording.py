"""What reading a batch costs on a PostgreSQL that knows nothing of its tables yet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from inbound.test_reader import request
from msgcore.inbound.recording import read, record
from msgcore.platforms.sandbox import SandboxAdapter
from msgcore.platforms.sandbox.inbound import SandboxInbound
from msgcore.store.database import Database
from msgcore.store.inbound import RawRequest, keep, peek
from servers.deliveries import make_account
from store.ledger_rows import ACCOUNT, NOW, add_project

MANY, BATCH = 3000, 20
ROWS_SEEN = text(
    "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_xact_user_tables "
    "WHERE relname IN ('received_messages', 'inbound_requests', 'inbound_seen', 'events')"
)
"""Also those of transactions before, for about a second."""


@pytest.fixture
async def new_database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database.open(postgres_url)
    await add_project(database)
    yield database
    await database.close()


def messages(first: int, number: int) -> list[RawRequest]:
    return [request(f"t{n}", message_id=f"m-{n}") for n in range(first, first + number)]


def mixed(first: int) -> list[RawRequest]:
    """New ones, one that is known by another event, and what became of an old one and of a new one."""
    about = [request(f"edit{first}-{n}", message_id=f"m-{n}", kind="edit") for n in (0, first)]
    again = request(f"again{first}", message_id="m-1")
    return [*messages(first, BATCH - len(about) - 1), *about, again]


async def keep_all(database: Database, requests: list[RawRequest]) -> None:
    await database.transact(lambda connection: keep(connection, requests))


async def read_next(database: Database, connection: AsyncConnection, number: int) -> int:
    """Read so many; how many rows the database looked at for that."""
    waiting = await peek(database, ACCOUNT, number)
    assert len(waiting.requests) == number
    readings = read(SandboxAdapter, SandboxInbound(), make_account("sandbox", {}), waiting.requests)
    async with connection.begin():
        before = await connection.scalar(ROWS_SEEN)
        await connection.run_sync(lambda sync: record(sync, SandboxAdapter, ACCOUNT, readings, NOW))
        return int(await connection.scalar(ROWS_SEEN) - before)


async def test_a_batch_costs_as_much_after_thousands_as_at_the_start(new_database: Database) -> None:
    """Plans are made while the tables are empty, and kept."""
    async with new_database.engine.connect() as connection:
        async with connection.begin():
            await connection.execute(text("SET plan_cache_mode = force_generic_plan"))
        await keep_all(new_database, mixed(0))
        assert await read_next(new_database, connection, BATCH) > 0
        for first in range(BATCH, MANY, 500):
            await keep_all(new_database, messages(first, 500))
            await read_next(new_database, connection, 500)
        await keep_all(new_database, [*mixed(2 * MANY), *messages(3 * MANY, MANY)])
        assert await read_next(new_database, connection, BATCH) < 10 * BATCH

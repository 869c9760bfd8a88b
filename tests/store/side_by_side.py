"""What tests of transactions side by side share: deliveries to work on, what became of them, and who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import func, select, text

from msgcore.core.deliveries import Ticket
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.tables import deliveries
from store.ledger_rows import PROJECT, add_project, new_message

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")


async def until_somebody_waits(database: Database) -> None:
    """Return once a transaction waits for another one's lock; PostgreSQL alone tells."""
    async with database.read() as connection:
        while not await connection.scalar(WAITING):
            await asyncio.sleep(0.01)


async def accept(database: Database, *targets: str) -> list[str]:
    """A project with one message to these; the ids of its deliveries."""

    async def nobody(tickets: Sequence[Ticket]) -> None:
        del tickets

    await add_project(database)
    new = new_message(*targets)
    await AcceptLog(database, nobody).accept(new)
    return [row["id"] for row in new.deliveries]


async def states(database: Database) -> dict[str, int]:
    """By the rows; the kept counts say the same."""
    async with database.read() as connection:
        query = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
        found = {row[0]: row[1] for row in await connection.execute(query)}
    kept = await count_by_state(database, project_id=PROJECT)
    assert {str(state): number for state, number in kept.items() if number} == found
    return found

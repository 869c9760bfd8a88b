"""What tests of the ledger's single statements share: deliveries to work on, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from msgcore.core.deliveries import Ticket
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.tables import deliveries
from store.ledger_rows import PROJECT, add_project, new_message


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

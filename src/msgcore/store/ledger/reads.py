"""Reading messages and deliveries for those who sent them. Every query is bound to a project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from msgcore.core.deliveries import DeliveryState
from msgcore.store.database import Database
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.tables import attempts, deliveries, messages

Record = Row[Any]


async def find_message(database: Database, project_id: str, message_id: str) -> Record | None:
    """One accepted message of a project."""
    query = select(messages).where(messages.c.id == message_id, messages.c.project_id == project_id)
    async with database.read() as connection:
        return (await connection.execute(query)).one_or_none()


async def deliveries_of(database: Database, message_id: str) -> Sequence[Record]:
    """All deliveries of a message, in the order of its targets."""
    query = select(deliveries).where(deliveries.c.message_id == message_id).order_by(deliveries.c.id)
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def find_delivery(database: Database, project_id: str, delivery_id: str) -> Record | None:
    """One delivery of a project."""
    query = select(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.project_id == project_id)
    async with database.read() as connection:
        return (await connection.execute(query)).one_or_none()


async def attempts_of(database: Database, delivery_id: str) -> Sequence[Record]:
    """The timeline of a delivery, oldest first."""
    query = select(attempts).where(attempts.c.delivery_id == delivery_id).order_by(attempts.c.id)
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def list_deliveries(
    database: Database,
    project_id: str,
    *,
    platform: str | None,
    states: frozenset[DeliveryState] | None,
    limit: int,
    offset: int,
) -> tuple[Sequence[Record], int]:
    """A page of a project's deliveries, newest first, with each message's content, and the total.

    The total comes from the kept counts, not from a scan.
    """
    conditions = [deliveries.c.project_id == project_id]
    if platform is not None:
        conditions.append(deliveries.c.platform == platform)
    if states is not None:
        conditions.append(deliveries.c.state.in_(sorted(states)))
    # Pick the page first: the contents are joined to a page of rows, not to the table.
    page = select(deliveries).where(*conditions).order_by(deliveries.c.id.desc()).limit(limit).offset(offset).subquery()
    query = (
        select(page, messages.c.content).join(messages, messages.c.id == page.c.message_id).order_by(page.c.id.desc())
    )
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    counts = await count_by_state(database, project_id=project_id, platform=platform)
    return rows, sum(number for state, number in counts.items() if states is None or state in states)

"""Reading batches: messages that were accepted together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select

from msgcore.core.deliveries import DeliveryState, FallbackCode
from msgcore.store.database import Database
from msgcore.store.tables import batches, deliveries, messages

StateCount = tuple[DeliveryState, int]


async def find_batch(database: Database, project_id: str, batch_id: str) -> Row[Any] | None:
    """One batch of a project."""
    query = select(batches).where(batches.c.id == batch_id, batches.c.project_id == project_id)
    async with database.read() as connection:
        return (await connection.execute(query)).one_or_none()


async def count_batch(database: Database, batch_id: str) -> dict[DeliveryState, int]:
    """How many of a batch's deliveries are in each state; one query, answered from one index."""
    of_batch = deliveries.c.batch_id == batch_id
    query = select(deliveries.c.state, func.count()).where(of_batch).group_by(deliveries.c.state)
    async with database.read() as connection:
        rows = await connection.execute(query)
    return {DeliveryState(state): int(number) for state, number in rows}


async def message_ids_of(database: Database, batch_id: str) -> list[str]:
    """The ids of a batch's messages, in their order."""
    query = select(messages.c.id).where(messages.c.batch_id == batch_id).order_by(messages.c.id)
    async with database.read() as connection:
        return list((await connection.execute(query)).scalars())


async def list_batch(
    database: Database, batch_id: str, *, limit: int, after: str | None
) -> tuple[Sequence[Any], dict[str, list[StateCount]]]:
    """A page of a batch's messages in their order, and by message how many deliveries are in which state.

    Fallbacks that were not needed are left out. `after` is the id of the last one of the page before.
    """
    page = select(messages.c.id, messages.c.metadata, messages.c.created_at).where(messages.c.batch_id == batch_id)
    if after is not None:
        page = page.where(messages.c.id > after)
    async with database.read() as connection:
        rows = (await connection.execute(page.order_by(messages.c.id).limit(limit))).all()
        counted = await connection.execute(
            select(deliveries.c.message_id, deliveries.c.state, func.count())
            .where(
                deliveries.c.message_id.in_([row.id for row in rows]),
                deliveries.c.error_code.is_distinct_from(FallbackCode.NOT_NEEDED),
            )
            .group_by(deliveries.c.message_id, deliveries.c.state)
        )
        counts: dict[str, list[StateCount]] = {row.id: [] for row in rows}
        for message_id, state, number in counted:
            counts[message_id].append((DeliveryState(state), int(number)))
    return rows, counts

"""Queries on customers' webhooks: where the events of a project are posted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.tables import event_sequences, projects, webhook_cursors, webhook_deliveries, webhooks

MOST_COUNTED = 10_000
"""Deliveries that are counted of one webhook, so that a busy one does not make its page slow."""


async def to_the_end(connection: AsyncConnection, project_id: str, webhook_id: str) -> None:
    """Let a webhook begin with the next event of its project, in the transaction that makes it or switches it on."""
    last = select(event_sequences.c.last).where(event_sequences.c.project_id == project_id)
    sequence = await connection.scalar(last) or 0
    cursor = webhook_cursors.c.webhook_id == webhook_id
    moved = await connection.execute(update(webhook_cursors).where(cursor).values(sequence=sequence))
    if not moved.rowcount:
        await connection.execute(insert(webhook_cursors).values(webhook_id=webhook_id, sequence=sequence))


async def list_webhooks(connection: AsyncConnection, project_id: str, *, limit: int) -> Sequence[Row[Any]]:
    """The webhooks of a project, newest first."""
    query = select(webhooks).where(webhooks.c.project_id == project_id)
    return (await connection.execute(query.order_by(webhooks.c.id.desc()).limit(limit))).all()


async def find_webhook(connection: AsyncConnection, project_id: str, webhook_id: str) -> Row[Any] | None:
    """A webhook of a project."""
    query = select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.project_id == project_id)
    return (await connection.execute(query)).one_or_none()


async def lock_webhook(connection: AsyncConnection, project_id: str, webhook_id: str) -> Row[Any] | None:
    """A webhook of a project, which nobody else changes until the transaction ends."""
    query = select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.project_id == project_id)
    return (await connection.execute(query.with_for_update())).one_or_none()


async def lock_and_count(connection: AsyncConnection, project_id: str) -> int | None:
    """How many webhooks a project has, or None for no such project; others who ask wait for the transaction's end."""
    # Not the strongest lock, which would also keep messages from being accepted meanwhile.
    project = select(projects.c.id).where(projects.c.id == project_id).with_for_update(key_share=True)
    if (await connection.execute(project)).one_or_none() is None:
        return None
    query = select(func.count()).select_from(webhooks).where(webhooks.c.project_id == project_id)
    return (await connection.execute(query)).scalar_one()


async def count_deliveries(connection: AsyncConnection, webhook_id: str) -> dict[str, int]:
    """How many of a webhook's newest `MOST_COUNTED` deliveries there are of each status."""
    newest = (
        select(webhook_deliveries.c.status)
        .where(webhook_deliveries.c.webhook_id == webhook_id)
        .order_by(webhook_deliveries.c.id.desc())
        .limit(MOST_COUNTED)
        .subquery()
    )
    query = select(newest.c.status, func.count().label("number")).group_by(newest.c.status)
    return {row.status: row.number for row in await connection.execute(query)}


async def insert_webhook(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """Add a webhook."""
    await connection.execute(insert(webhooks).values(row))


async def update_webhook(connection: AsyncConnection, webhook_id: str, values: dict[str, Any]) -> Row[Any]:
    """Change columns of a webhook that is there; the whole row as it is then."""
    query = update(webhooks).where(webhooks.c.id == webhook_id).values(values).returning(*webhooks.c)
    return (await connection.execute(query)).one()


async def delete_webhook(connection: AsyncConnection, webhook_id: str) -> None:
    """Remove a webhook with its deliveries."""
    await connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

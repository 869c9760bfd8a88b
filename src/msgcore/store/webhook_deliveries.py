"""Queries on what was posted to customers' webhooks, and letting go of it with age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.events import realm_of
from msgcore.core.ids import earliest_id
from msgcore.store.bulk import lock_in_order
from msgcore.store.database import Database
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.tables import attempts, deliveries, delivery_counts, messages, webhook_deliveries

MOST_COUNTED = 10_000
PURGED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class WebhookDeliveryFilter:
    """Which deliveries of a webhook; unset fields do not narrow. `before`: older than the one with this id."""

    webhook_id: str
    event: str | None = None
    status: str | None = None
    before: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, for a query."""
        table = webhook_deliveries.c
        equal = ((table.event, self.event), (table.status, self.status))
        found = [table.webhook_id == self.webhook_id]
        found += [column == value for column, value in equal if value is not None]
        return found if self.before is None else [*found, table.id < self.before]


async def list_deliveries(
    connection: AsyncConnection, chosen: WebhookDeliveryFilter, *, limit: int, offset: int
) -> Sequence[Row[Any]]:
    """A page, newest first."""
    query = select(webhook_deliveries).where(*chosen.conditions()).order_by(webhook_deliveries.c.id.desc())
    return (await connection.execute(query.limit(limit).offset(offset))).all()


async def count_deliveries(connection: AsyncConnection, chosen: WebhookDeliveryFilter) -> int:
    """How many there are, at most `MOST_COUNTED`."""
    found = select(literal(1)).select_from(webhook_deliveries).where(*chosen.conditions()).limit(MOST_COUNTED)
    return (await connection.execute(select(func.count()).select_from(found.subquery()))).scalar_one()


async def find_delivery(connection: AsyncConnection, webhook_id: str, delivery_id: str) -> Row[Any] | None:
    """One delivery of a webhook."""
    same = (webhook_deliveries.c.id == delivery_id) & (webhook_deliveries.c.webhook_id == webhook_id)
    return (await connection.execute(select(webhook_deliveries).where(same))).one_or_none()


async def purge_deliveries(database: Database, before: datetime) -> int:
    """Delete up to 1,000 deliveries from before a moment that are over; returns how many, to be called again."""
    old = (webhook_deliveries.c.id < earliest_id(before)) & (webhook_deliveries.c.status != "pending")
    query = select(webhook_deliveries.c.id).where(old).order_by(webhook_deliveries.c.id).limit(PURGED_AT_ONCE)
    return await database.transact(lambda connection: _forget(connection, connection.execute(query).scalars().all()))


async def purge_webhook(database: Database, webhook_id: str) -> int:
    """Delete up to 1,000 deliveries of a webhook that is about to go; returns how many, to be called again."""
    query = select(deliveries.c.id).where(deliveries.c.project_id == realm_of(webhook_id)).limit(PURGED_AT_ONCE)
    return await database.transact(lambda connection: _forget(connection, connection.execute(query).scalars().all()))


async def forget_webhook(connection: AsyncConnection, webhook_id: str) -> None:
    """Delete what the ledger has left of a webhook, in the transaction that deletes it."""
    realm = realm_of(webhook_id)
    await lock_in_order(connection, deliveries.c.project_id, [realm])
    own = select(deliveries.c.id).where(deliveries.c.project_id == realm)
    await connection.execute(delete(attempts).where(attempts.c.delivery_id.in_(own)))
    for table in (deliveries, messages, delivery_counts):
        await connection.execute(delete(table).where(table.c.project_id == realm))


def _forget(connection: Connection, ids: Sequence[str]) -> int:
    """Delete deliveries by their ids, which are those of their messages as well."""
    if not ids:
        return 0
    columns = (deliveries.c.id, deliveries.c.project_id, deliveries.c.platform_id, deliveries.c.platform)
    query = select(*columns, deliveries.c.state).where(deliveries.c.id.in_(ids)).order_by(deliveries.c.id)
    changes = CountChanges()
    for row in connection.execute(query.with_for_update()):
        changes.enter(row.project_id, row.platform_id, row.platform, row.state, -1)
    connection.execute(delete(attempts).where(attempts.c.delivery_id.in_(ids)))
    for table in (deliveries, messages, webhook_deliveries):
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    changes.apply(connection)
    return len(ids)

"""Dead letters: deliveries that failed for good, until somebody requeues or purges them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, select, update

from msgcore.core.deliveries import DeliveryState
from msgcore.store.database import Database
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.ledger.feed import OpenDelivery
from msgcore.store.tables import attempts, deliveries
from msgcore.store.tables.messages import IS_DEAD

BATCH = 500


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters of a project; unset fields do not narrow. `until`: failed at that moment or before."""

    project_id: str
    ids: tuple[str, ...] | None = None
    message_id: str | None = None
    platform_id: str | None = None
    platform: str | None = None
    error_code: str | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, for a query on deliveries."""
        found = [deliveries.c.project_id == self.project_id]
        if self.ids is not None:
            found.append(deliveries.c.id.in_(self.ids))
        for column, value in (
            (deliveries.c.message_id, self.message_id),
            (deliveries.c.platform_id, self.platform_id),
            (deliveries.c.platform, self.platform),
            (deliveries.c.error_code, self.error_code),
        ):
            if value is not None:
                found.append(column == value)
        if self.until is not None:
            found.append(deliveries.c.finished_at <= self.until)
        return found


async def list_dead(
    database: Database, chosen: DeadLetterFilter, *, limit: int, before: str | None
) -> Sequence[Row[Any]]:
    """A page of dead letters, newest first; `before` is the id of the last one of the page before."""
    query = select(deliveries).where(IS_DEAD, *chosen.conditions()).order_by(deliveries.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(deliveries.c.id < before)
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def requeue(database: Database, chosen: DeadLetterFilter, now: datetime) -> list[OpenDelivery]:
    """Put up to `BATCH` dead letters back into the queue with their attempts forgiven, oldest first.

    Their timeline stays. Call again until it gives nothing.
    """
    rows = await database.transact(lambda connection: _requeue(connection, chosen, now))
    return [OpenDelivery(row.id, row.platform_id, row.platform, row.lane, row.rank, now, tried=False) for row in rows]


async def purge(database: Database, chosen: DeadLetterFilter) -> int:
    """Delete up to `BATCH` dead letters with their timelines. Call again until it gives 0."""
    return await database.transact(lambda connection: _purge(connection, chosen))


def _requeue(connection: Connection, chosen: DeadLetterFilter, now: datetime) -> Sequence[Row[Any]]:
    rows = _take(connection, chosen)
    changes = CountChanges()
    for row in rows:
        changes.move(row.project_id, row.platform_id, row.platform, DeliveryState.FAILED, DeliveryState.QUEUED)
    if rows:
        fresh = {
            "state": DeliveryState.QUEUED,
            "attempts": 0,
            "throttles": 0,
            "uncertain": False,
            "due_at": now,
            "first_due_at": now,
            "expires_at": None,
            "error_code": None,
            "error_message": None,
            "finished_at": None,
        }
        connection.execute(update(deliveries).where(deliveries.c.id.in_([row.id for row in rows])).values(fresh))
    changes.apply(connection)
    return rows


def _purge(connection: Connection, chosen: DeadLetterFilter) -> int:
    rows = _take(connection, chosen)
    ids = [row.id for row in rows]
    changes = CountChanges()
    for row in rows:
        changes.enter(row.project_id, row.platform_id, row.platform, DeliveryState.FAILED, -1)
    if ids:
        connection.execute(delete(attempts).where(attempts.c.delivery_id.in_(ids)))
        connection.execute(delete(deliveries).where(deliveries.c.id.in_(ids)))
    changes.apply(connection)
    return len(ids)


def _take(connection: Connection, chosen: DeadLetterFilter) -> Sequence[Row[Any]]:
    query = select(deliveries).where(IS_DEAD, *chosen.conditions()).order_by(deliveries.c.id).limit(BATCH)
    return connection.execute(query.with_for_update()).all()  # SQLite has no row locks, and leaves that out

"""Dead letters: deliveries that failed for good, until somebody requeues or purges them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, delete, exists, func, literal, select, update

from msgcore.core.deliveries import UNDELIVERED, DeliveryState
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.store.audit import AuditEntry, write_audit
from msgcore.store.database import Database
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.ledger.feed import NIL, OpenDelivery
from msgcore.store.tables import attempts, deliveries, delivery_counts, messages
from msgcore.store.tables.base import UtcDateTime
from msgcore.store.tables.messages import IS_DEAD

BATCH = 500
_OF_THE_SENDING = ("part_ids", "provider_message_id", "sent_at")


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters of a project; unset fields do not narrow.

    `since` and `until`: when they failed; both inclusive.
    """

    project_id: str
    ids: tuple[str, ...] | None = None
    message_id: str | None = None
    platform_id: str | None = None
    platform: str | None = None
    error_code: str | None = None
    since: datetime | None = None
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
        if self.since is not None:
            found.append(deliveries.c.finished_at >= self.since)
        if self.until is not None:
            found.append(deliveries.c.finished_at <= self.until)
        return found


@dataclass(frozen=True, slots=True)
class Requeued:
    """What was put back: all by id, oldest first, and those that are due; the others stand by for their turn."""

    ids: list[str]
    due: list[OpenDelivery]


async def list_dead(
    database: Database, chosen: DeadLetterFilter, *, limit: int, before: str | None
) -> Sequence[Row[Any]]:
    """A page of dead letters, newest first; `before` is the id of the last one of the page before."""
    query = select(deliveries).where(IS_DEAD, *chosen.conditions()).order_by(deliveries.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(deliveries.c.id < before)
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def count_dead(database: Database, chosen: DeadLetterFilter) -> int:
    """How many dead letters there are; looks at each one of the project."""
    query = select(func.count()).select_from(deliveries).where(IS_DEAD, *chosen.conditions())
    async with database.read() as connection:
        return (await connection.execute(query)).scalar_one()


async def projects_with_dead(database: Database) -> list[str]:
    """The projects that have dead letters; for the operator, who may see them all."""
    counted = delivery_counts.c
    query = (
        select(counted.project_id)
        .where(counted.state == DeliveryState.FAILED, counted.platform != EVENT_WEBHOOK)
        .group_by(counted.project_id)
        .having(func.sum(counted.count) > 0)
        .order_by(counted.project_id)
    )
    async with database.read() as connection:
        return list((await connection.execute(query)).scalars())


async def requeue(
    database: Database,
    chosen: DeadLetterFilter,
    now: datetime,
    *,
    after: str = NIL,
    limit: int = BATCH,
    audit: AuditEntry | None = None,
) -> Requeued:
    """Put up to `limit` dead letters with ids above `after` back into the queue, oldest first; attempts are forgiven.

    Their timeline stays. Those of a message with fallbacks stand by: it is sent to one target at a time, and to
    none if it was sent to one already. Call again with the last id until it gives nothing. `audit` is written with
    their number.
    """

    def work(connection: Connection) -> Sequence[Any]:
        taken = _requeue(connection, chosen, now, after, limit)
        _record(connection, audit, taken)
        return taken

    rows = await database.transact(work)
    due = [row for row in rows if row.fallback_rank is None]
    return Requeued(
        [row.id for row in rows],
        [OpenDelivery.of_project(row, now) for row in due],
    )


async def purge(
    database: Database,
    chosen: DeadLetterFilter,
    *,
    after: str = NIL,
    limit: int = BATCH,
    audit: AuditEntry | None = None,
) -> Sequence[str]:
    """Delete up to `limit` dead letters with ids above `after`, oldest first; gives their ids.

    Their timelines go too, and messages of which nothing is left. Call again with the last id until it gives nothing.
    `audit` is written with their number.
    """

    def work(connection: Connection) -> Sequence[str]:
        ids = _purge(connection, chosen, after, limit)
        _record(connection, audit, ids)
        return ids

    return await database.transact(work)


def _record(connection: Connection, audit: AuditEntry | None, taken: Sequence[Any]) -> None:
    if audit is not None and taken:
        write_audit(connection, audit, count=len(taken))


def _requeue(connection: Connection, chosen: DeadLetterFilter, now: datetime, after: str, limit: int) -> Sequence[Any]:
    rows = _take(connection, chosen, after, limit)
    changes = CountChanges()
    for row in rows:
        state = DeliveryState.QUEUED if row.fallback_rank is None else DeliveryState.STANDBY
        changes.move(row.project_id, row.platform_id, row.platform, DeliveryState.FAILED, state)
    if rows:
        is_alone = deliveries.c.fallback_rank.is_(None)
        bounced = deliveries.c.error_code == UNDELIVERED
        fresh = {
            "state": case((is_alone, DeliveryState.QUEUED), else_=DeliveryState.STANDBY),
            "fallback_at": case((is_alone, None), else_=literal(now, UtcDateTime)),
            "attempts": 0,
            "throttles": 0,
            "uncertain": False,
            "due_at": now,
            "first_due_at": now,
            "rescheduled_at": None,
            "expires_at": None,
            # What bounced is sent anew; what was sent in part goes on from there.
            **{name: case((bounced, None), else_=deliveries.c[name]) for name in _OF_THE_SENDING},
            "error_code": None,
            "error_message": None,
            "finished_at": None,
        }
        connection.execute(update(deliveries).where(deliveries.c.id.in_([row.id for row in rows])).values(fresh))
    changes.apply(connection)
    return rows


def _purge(connection: Connection, chosen: DeadLetterFilter, after: str, limit: int) -> Sequence[str]:
    rows = _take(connection, chosen, after, limit)
    ids = [row.id for row in rows]
    changes = CountChanges()
    for row in rows:
        changes.enter(row.project_id, row.platform_id, row.platform, DeliveryState.FAILED, -1)
    if ids:
        connection.execute(delete(attempts).where(attempts.c.delivery_id.in_(ids)))
        connection.execute(delete(deliveries).where(deliveries.c.id.in_(ids)))
        # A job without deliveries would look like one that was completed.
        bereft = messages.c.id.in_({row.message_id for row in rows})
        has_more = exists().where(deliveries.c.message_id == messages.c.id)
        connection.execute(delete(messages).where(bereft, ~has_more))
    changes.apply(connection)
    return ids


def _take(connection: Connection, chosen: DeadLetterFilter, after: str, limit: int) -> Sequence[Any]:
    columns = (
        *(deliveries.c.id, deliveries.c.message_id, deliveries.c.project_id),
        *(deliveries.c.platform_id, deliveries.c.platform, deliveries.c.lane, deliveries.c.rank),
        deliveries.c.fallback_rank,
    )
    query = (
        select(*columns)
        .where(IS_DEAD, *chosen.conditions(), deliveries.c.id > after)
        .order_by(deliveries.c.id)
        .limit(limit)
    )
    return connection.execute(query.with_for_update()).all()  # SQLite has no row locks, and leaves that out

"""Beginning attempts: what is claimed is marked as being sent before anything is, so that a crash leaves a trace.

On PostgreSQL one statement does it in one round trip. A delivery that is found in `sending` was begun
before and never ended; that is rare, and then a transaction does it, as SQLite's always does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, exists, insert, literal, select, union_all, update

from msgcore.core.deliveries import OPEN_STATES, DeliveryState
from msgcore.core.ids import new_id
from msgcore.store.bulk import Among, Bulk
from msgcore.store.database import Database
from msgcore.store.ledger.counts import CountChanges, add_moves, next_slot
from msgcore.store.ledger.parts import split_parts
from msgcore.store.tables import attempts, deliveries

SENDING = DeliveryState.SENDING.value


class WorkItem(msgspec.Struct, frozen=True):
    """A delivery that a worker is about to send. `attempt` counts from 1 and includes this one.

    `uncertain`: an earlier attempt may have reached the platform, and nobody knows. `action` is what it does to a
    message that is there already (`core.actions`); None where it is a message.
    """

    id: str
    message_id: str
    project_id: str
    platform_id: str
    platform: str
    target_type: str
    target_id: str
    attempt: int
    throttles: int
    on_uncertain: str
    uncertain: bool
    first_due_at: datetime
    expires_at: datetime | None
    created_at: datetime
    started_at: datetime
    part_ids: tuple[str, ...] = ()
    action: str | None = None


_WORK_COLUMNS = (
    *(deliveries.c.id, deliveries.c.message_id, deliveries.c.project_id, deliveries.c.platform_id),
    *(deliveries.c.platform, deliveries.c.target_type, deliveries.c.target_id, deliveries.c.action),
    *(deliveries.c.state, deliveries.c.attempts, deliveries.c.throttles),
    *(deliveries.c.on_uncertain, deliveries.c.uncertain, deliveries.c.due_at, deliveries.c.rescheduled_at),
    *(
        deliveries.c.first_due_at,
        deliveries.c.expires_at,
        deliveries.c.created_at,
        deliveries.c.started_at,
        deliveries.c.part_ids,
    ),
)


# Row locks are PostgreSQL's; SQLite has one writer, and leaves them out. They are taken in the order of the ids
# everywhere, so that nobody who changes several deliveries at once can deadlock with a worker.
_SELECT_WORK = select(*_WORK_COLUMNS).where(Among(deliveries.c.id)).order_by(deliveries.c.id).with_for_update()
_MARK_SENDING = (
    update(deliveries)
    .where(Among(deliveries.c.id))
    .values(state=DeliveryState.SENDING, attempts=deliveries.c.attempts + 1, started_at=bindparam("now"))
)


INSERT_ATTEMPTS = Bulk(lambda _: insert(attempts), attempts.c.keys())


def _one_statement() -> Any:
    """Lock, mark and count in one statement; gives what was found, and whether it was begun.

    Nothing is begun where one of them is found in `sending`.
    """
    found = _SELECT_WORK.cte("found")
    is_put_off = (
        (found.c.state == DeliveryState.SCHEDULED)
        & found.c.rescheduled_at.is_not(None)
        & (found.c.due_at > bindparam("now"))
    )
    interrupted = exists().where(found.c.state == DeliveryState.SENDING)
    begun = select(found).where(found.c.state.in_(sorted(OPEN_STATES)), ~is_put_off, ~interrupted).cte("begun")
    marked = (
        update(deliveries)
        .where(Among(deliveries.c.id), deliveries.c.id == begun.c.id)  # the list as well: it picks the partitions
        .values(state=DeliveryState.SENDING, attempts=deliveries.c.attempts + 1, started_at=bindparam("now"))
        .returning(deliveries.c.id)
        .cte("marked")
    )
    account = (begun.c.project_id, begun.c.platform_id, begun.c.platform)
    counted = add_moves(
        union_all(
            select(*account, begun.c.state, literal(-1).label("change")),
            select(*account, literal(SENDING).label("state"), literal(1).label("change")),
        )
    )
    return (
        select(found, begun.c.id.is_not(None).label("is_begun"))
        .select_from(found.outerjoin(begun, begun.c.id == found.c.id))
        .add_cte(marked, counted)
    )


_ONE_STATEMENT = _one_statement()


async def begin(database: Database, delivery_ids: Sequence[str], now: datetime) -> list[WorkItem]:
    """What `WorkLog.begin` does, in any order."""
    if database.kind == "postgresql":
        arguments = {"ids": list(delivery_ids), "now": now, "slot": next_slot()}
        async with database.read() as connection:  # commits by itself
            rows = (await connection.execute(_ONE_STATEMENT, arguments)).all()
        if all(row.state != DeliveryState.SENDING for row in rows):
            return [_work_item(row, now) for row in rows if row.is_begun]
    return await database.transact(lambda connection: _begin(connection, delivery_ids, now))


def _begin(connection: Connection, delivery_ids: Sequence[str], now: datetime) -> list[WorkItem]:
    """The transaction of `WorkLog.begin`."""
    rows = connection.execute(_SELECT_WORK, {"ids": list(delivery_ids)}).all()
    items: list[WorkItem] = []
    changes = CountChanges()
    for row in rows:
        if row.state in OPEN_STATES and not _is_put_off(row, now):
            items.append(_work_item(row, now))
            changes.move(row.project_id, row.platform_id, row.platform, row.state, DeliveryState.SENDING)
    if items:
        connection.execute(_MARK_SENDING, {"ids": [item.id for item in items], "now": now})
        INSERT_ATTEMPTS.run(connection, [_uncertain_row(row, now) for row in rows if row.state == SENDING])
        changes.apply(connection)
    return items


def _is_put_off(row: Any, now: datetime) -> bool:
    """Whether it was given a later time, which whoever claimed it did not know yet.

    Only then: what the scheduler says is due is due, however wrong this machine's clock is.
    """
    return row.state == DeliveryState.SCHEDULED and row.rescheduled_at is not None and row.due_at > now


def _work_item(row: Any, now: datetime) -> WorkItem:
    return WorkItem(
        id=row.id,
        message_id=row.message_id,
        project_id=row.project_id,
        platform_id=row.platform_id,
        platform=row.platform,
        target_type=row.target_type,
        target_id=row.target_id,
        attempt=row.attempts + 1,
        throttles=row.throttles,
        on_uncertain=row.on_uncertain,
        uncertain=row.uncertain or row.state == DeliveryState.SENDING,
        first_due_at=row.first_due_at,
        expires_at=row.expires_at,
        created_at=row.created_at,
        started_at=now,
        part_ids=split_parts(row.part_ids),
        action=row.action,
    )


def _uncertain_row(row: Any, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "delivery_id": row.id,
        "number": row.attempts,
        "outcome": "uncertain",
        "error_code": "interrupted",
        "error_message": "The worker stopped before the answer was recorded; the platform may have taken the message",
        "reached": "maybe",
        "retry_at": now,
        "started_at": row.started_at or now,
        "finished_at": now,
    }

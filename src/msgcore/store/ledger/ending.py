"""Ending deliveries that wait, without an attempt: taken back by their sender, or past their `expiresAt`.

Only what waits, or stands by, is ended. A delivery that is being sent belongs to its worker, and a worker that has
claimed one which ended meanwhile finds out in `WorkLog.begin`, which leaves it out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from msgcore.core.clock import to_iso
from msgcore.core.deliveries import PENDING_STATES, SENT_STATES, DeliveryState
from msgcore.core.ids import new_id
from msgcore.store.bulk import CHUNK, Bulk, chunks
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append_to_kept
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.ledger.outcome_events import Told, failed_data, outcome_event
from msgcore.store.ledger.parts import sent_so_far, split_parts
from msgcore.store.tables import attempts, deliveries
from msgcore.store.tables.messages import IS_EXPIRING

_WAITING = sorted(PENDING_STATES - {DeliveryState.SENDING})
COLUMNS = (
    *(deliveries.c.id, deliveries.c.message_id, deliveries.c.project_id),
    *(deliveries.c.platform_id, deliveries.c.platform, deliveries.c.state, deliveries.c.attempts),
    *(deliveries.c.target_type, deliveries.c.target_id, deliveries.c.action),
    deliveries.c.part_ids,
)
_INSERT_ATTEMPTS = Bulk(lambda _: insert(attempts), attempts.c.keys())


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a cancellation met: the `ids` that it ended, and how many were being `sending` or `sent`."""

    ids: list[str]
    sending: int
    sent: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a delivery ends: its state, which is also the entry of its timeline, the error's code, and why.

    `told` is the word of its event; None for an end that is nobody's business.
    """

    state: DeliveryState
    code: str
    message: str
    told: Told | None


_CANCELLED = Ending(DeliveryState.CANCELLED, "cancelled", "Cancelled before it was sent", "cancelled")
EXPIRED = Ending(DeliveryState.EXPIRED, "expired", "expiresAt passed before the message could be sent", "failed")


async def cancel_message(database: Database, message_id: str, now: datetime) -> Cancelled:
    """Cancel those deliveries of a message that wait; all in one transaction."""
    return await database.transact(lambda connection: _cancel(connection, deliveries.c.message_id == message_id, now))


async def cancel_batch(database: Database, batch_id: str, now: datetime) -> Cancelled:
    """Cancel those deliveries of a batch that wait; all in one transaction."""
    return await database.transact(lambda connection: _cancel(connection, deliveries.c.batch_id == batch_id, now))


async def expire_overdue(database: Database, now: datetime, *, limit: int = CHUNK) -> list[str]:
    """End up to `limit` deliveries that wait although their `expiresAt` has passed; returns their ids.

    The caller takes them out of the scheduler, and calls again while `limit` came back.
    """
    return await database.transact(lambda connection: _expire(connection, now, limit))


def _cancel(connection: Connection, chosen: ColumnElement[bool], now: datetime) -> Cancelled:
    waiting = select(*COLUMNS).where(chosen, deliveries.c.state.in_(_WAITING))
    # In the order in which workers lock them too.
    rows = connection.execute(waiting.order_by(deliveries.c.id).with_for_update()).all()
    _end_all(connection, rows, _CANCELLED, now)
    counted = select(deliveries.c.state, func.count().label("number")).where(chosen).group_by(deliveries.c.state)
    left: dict[str, int] = {row.state: row.number for row in connection.execute(counted)}
    return Cancelled(
        ids=[row.id for row in rows],
        sending=left.get(DeliveryState.SENDING, 0),
        sent=sum(left.get(state, 0) for state in SENT_STATES),
    )


def _expire(connection: Connection, now: datetime, limit: int) -> list[str]:
    # Of what was sent in part, the rest is sent also after its time.
    overdue = select(*COLUMNS).where(IS_EXPIRING, deliveries.c.expires_at <= now, deliveries.c.part_ids.is_(None))
    # What somebody else holds is met next time: whoever waits for nothing is in nobody's way.
    query = overdue.order_by(deliveries.c.expires_at).limit(limit).with_for_update(skip_locked=True)
    rows = connection.execute(query).all()
    _end_all(connection, rows, EXPIRED, now)
    return [row.id for row in rows]


def _end_all(connection: Connection, rows: Sequence[Any], ending: Ending, now: datetime) -> None:
    changes = CountChanges()
    told = end(connection, rows, ending, now, changes)
    changes.apply(connection)
    append_to_kept(connection, told)


def end(
    connection: Connection, rows: Sequence[Any], ending: Ending, now: datetime, changes: CountChanges
) -> list[NewEvent]:
    """Write the end of deliveries that the transaction holds (rows with `COLUMNS`): state and timeline; count it.

    The caller applies the changes, and then appends these events: everybody locks them in that order.
    """
    ended = {"state": ending.state, "error_code": ending.code, "finished_at": now}
    by_message: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        changes.move(row.project_id, row.platform_id, row.platform, row.state, ending.state)
        by_message[_message(row, ending)].append(row.id)
    for message, some in by_message.items():
        for ids in chunks(some):
            values = ended | {"error_message": message}
            connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(values))
    _INSERT_ATTEMPTS.run(connection, [_timeline_row(row, ending, now) for row in rows])
    if ending.told is None:
        return []
    told = (outcome_event(row, ending.told, _event_data(row, ending, now), now) for row in rows)
    return [event for event in told if event is not None]


def _message(row: Any, ending: Ending) -> str:
    """Why it ended, and how much of it had been sent."""
    return ending.message + sent_so_far(len(split_parts(row.part_ids)))


def _event_data(row: Any, ending: Ending, now: datetime) -> dict[str, Any]:
    if ending.told == "cancelled":
        return {"attempts": row.attempts, "error_code": ending.code, "cancelled_at": to_iso(now)}
    return failed_data(ending.state, ending.code, _message(row, ending), row.attempts, now)


def _timeline_row(row: Any, ending: Ending, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "delivery_id": row.id,
        "number": 0,
        "outcome": ending.state,
        "error_code": ending.code,
        "error_message": _message(row, ending),
        "reached": "yes" if row.part_ids else "no",
        "retry_at": None,
        "started_at": now,
        "finished_at": now,
    }

"""Changing when deliveries are due, before anything was tried.

Whoever holds a delivery in memory must learn of its new time. A scheduler in the same process is
told at once; any other one looks at what was rescheduled after its last look (`Feed.rescheduled_after`). Until then
`WorkLog.begin` leaves out what was put off, so nothing is sent before its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, or_, select, update

from msgcore.core.clock import to_iso
from msgcore.core.deliveries import DeliveryState
from msgcore.core.errors import FieldError, InvalidInputError
from msgcore.store.bulk import chunks
from msgcore.store.database import Database
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.ledger.feed import OpenDelivery
from msgcore.store.tables import deliveries

_UNTRIED = (DeliveryState.QUEUED, DeliveryState.SCHEDULED)
_COLUMNS = (
    *(deliveries.c.id, deliveries.c.project_id, deliveries.c.platform_id, deliveries.c.platform),
    *(deliveries.c.lane, deliveries.c.rank, deliveries.c.state, deliveries.c.due_at, deliveries.c.expires_at),
    *(deliveries.c.fallback_after, deliveries.c.fallback_at),
)


@dataclass(frozen=True, slots=True)
class Rescheduled:
    """The deliveries that have the new time, and how many others the message has: tried, sent or ended.

    Fallbacks that stand by are none of them: they go by the one before them.
    """

    moved: list[OpenDelivery]
    others: int


async def reschedule(database: Database, message_id: str, due_at: datetime, now: datetime) -> Rescheduled:
    """Make those deliveries of a message that nobody tried yet due at `due_at` (which is not before `now`).

    Raises InvalidInputError, with nothing changed, where that is not before a delivery's `expiresAt`.
    """
    return await database.transact(lambda connection: _reschedule(connection, message_id, due_at, now))


def _reschedule(connection: Connection, message_id: str, due_at: datetime, now: datetime) -> Rescheduled:
    of_message = deliveries.c.message_id == message_id
    is_untried = deliveries.c.state.in_(_UNTRIED) & (deliveries.c.attempts == 0) & deliveries.c.part_ids.is_(None)
    chosen = select(*_COLUMNS).where(of_message, or_(is_untried, deliveries.c.state == DeliveryState.STANDBY))
    # In the order in which workers lock them too.
    found = connection.execute(chosen.order_by(deliveries.c.id).with_for_update()).all()
    standbys = [row for row in found if row.state == DeliveryState.STANDBY]
    rows = [row for row in found if row.state != DeliveryState.STANDBY]
    _check_expiry(rows, due_at)
    state = DeliveryState.SCHEDULED if due_at > now else DeliveryState.QUEUED
    changes = CountChanges()
    for row in rows:
        changes.move(row.project_id, row.platform_id, row.platform, row.state, state)
    moved = {"state": state, "due_at": due_at, "first_due_at": due_at, "rescheduled_at": now}
    for ids in chunks([row.id for row in rows]):
        connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(moved))
    changes.apply(connection)
    if rows:
        _look_at_fallbacks_later(connection, standbys, due_at)
    total = connection.execute(select(func.count()).select_from(deliveries).where(of_message)).scalar_one()
    return Rescheduled([OpenDelivery.of_project(row, due_at) for row in rows], total - len(found))


def _look_at_fallbacks_later(connection: Connection, standbys: Sequence[Any], due_at: datetime) -> None:
    """Or sooner: by the new time of the delivery before them."""
    for row in standbys:
        if row.fallback_at is not None and row.fallback_after is not None:
            moment = due_at + timedelta(seconds=row.fallback_after)
            connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(fallback_at=moment))


def _check_expiry(rows: Sequence[Any], due_at: datetime) -> None:
    for row in rows:
        if row.expires_at is not None and row.expires_at <= due_at:
            until = to_iso(row.expires_at)
            raise InvalidInputError.of(
                [FieldError("/scheduled", f"scheduled must be before the message's options.expiresAt, {until}")]
            )

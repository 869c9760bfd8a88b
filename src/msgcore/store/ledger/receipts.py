"""Receipts: what platforms tell of messages after they took them, and what that makes of their deliveries.

A delivery goes from sent to delivered to read, and never back; one that was sent only may still fail. A receipt
may come before the sending is recorded, with the platform's id in it: it is kept for a minute and tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from msgcore.core.clock import to_iso
from msgcore.core.deliveries import OPEN_STATES, UNDELIVERED, DeliveryState
from msgcore.core.ids import earliest_id, new_id
from msgcore.store.bulk import Among, Bulk
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append_to_kept
from msgcore.store.ledger import fallbacks
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.ledger.outcome_events import about_delivery, failed_data, outcome_event
from msgcore.store.tables import attempts, deliveries, delivery_counts, pending_receipts, platform_logs

PATIENCE = timedelta(minutes=1)
"""How long before the sending is recorded a receipt may be read: both may have waited until then for the database."""

AT_ONCE = 500

_PLACES = {DeliveryState.SENT: 0, DeliveryState.DELIVERED: 1, DeliveryState.READ: 2}
_TOLD = ("state", "delivered_at", "read_at", "error_code", "error_message", "finished_at")


class DeliveryReceipt(msgspec.Struct, frozen=True):
    """What a platform told; `status` is delivered, read or failed, and `data` what its event has in any case.

    `id` is made when it is read.
    """

    id: str
    project_id: str
    platform_id: str
    chat_id: str
    provider_message_id: str
    status: str
    error: str | None
    told_at: datetime
    received_at: datetime
    data: dict[str, Any]


@dataclass(slots=True)
class Taken:
    """What became of receipts: the `events` by the receipts' ids, and those that wait for their delivery.

    A receipt that changes nothing is in neither.
    """

    events: dict[str, NewEvent] = field(default_factory=dict[str, NewEvent])
    waiting: list[DeliveryReceipt] = field(default_factory=list[DeliveryReceipt])


_MATCHING = (
    select(
        *(deliveries.c.id, deliveries.c.message_id, deliveries.c.project_id, deliveries.c.platform_id),
        *(deliveries.c.platform, deliveries.c.target_type, deliveries.c.target_id, deliveries.c.action),
        *(deliveries.c.state, deliveries.c.attempts, deliveries.c.provider_message_id),
        deliveries.c.fallback_rank,
        *(deliveries.c.delivered_at, deliveries.c.read_at, deliveries.c.finished_at),
    )
    .where(deliveries.c.platform_id == bindparam("platform"), Among(deliveries.c.provider_message_id, "provider_ids"))
    .order_by(deliveries.c.id)  # as everybody locks them
    .with_for_update()
)
_CHANGE = Bulk(
    lambda _: (
        update(deliveries)
        .where(deliveries.c.id == bindparam("b_id"))
        .values({name: bindparam(f"b_{name}") for name in _TOLD})
    ),
    ("b_id", *(f"b_{name}" for name in _TOLD)),
)
_INSERT_ATTEMPTS = Bulk(lambda _: insert(attempts), attempts.c.keys())
_INSERT_LOGS = Bulk(lambda _: insert(platform_logs), platform_logs.c.keys())
_KEEP = Bulk(lambda _: insert(pending_receipts), pending_receipts.c.keys())
_SENDING = select(func.sum(delivery_counts.c.count)).where(
    delivery_counts.c.project_id == bindparam("project"),  # the key begins with it
    delivery_counts.c.platform_id == bindparam("platform"),
    delivery_counts.c.state == DeliveryState.SENDING,
)


def take(connection: Connection, platform_id: str, receipts: Sequence[DeliveryReceipt], now: datetime) -> Taken:
    """Change the deliveries that receipts of one platform are about, within the caller's transaction.

    The events are the caller's to append, last. What waits is kept, if it is not already.
    """
    if not receipts:
        return Taken()
    of_platform = {"project": receipts[0].project_id, "platform": platform_id}
    # Before looking for the deliveries: what is being sent after that was not sent when the receipt came.
    is_sending = bool(connection.scalar(_SENDING, of_platform))
    ids = sorted({receipt.provider_message_id for receipt in receipts})
    found = _Deliveries(connection.execute(_MATCHING, {"platform": platform_id, "provider_ids": ids}).all())
    taken, given_up = Taken(), earliest_id(now - PATIENCE)
    for receipt in receipts:
        delivery = found.of(receipt)
        is_early = is_sending if delivery is None else delivery.state in OPEN_STATES  # between its parts
        if is_early and receipt.id > given_up:
            taken.waiting.append(receipt)
        elif delivery is not None:
            if (event := delivery.take(receipt)) is not None:
                taken.events[receipt.id] = event
        else:  # sent by somebody else with the same account, or long ago
            data = receipt.data | {"message_id": receipt.provider_message_id, "job_id": None}
            taken.events[receipt.id] = _event(receipt, data)
    found.write(connection, now)
    return taken


def keep(connection: Connection, waiting: Sequence[DeliveryReceipt]) -> None:
    """Keep receipts that came too early."""
    _KEEP.run(connection, [msgspec.structs.asdict(receipt) for receipt in waiting])


async def waiting_platforms(database: Database) -> list[str]:
    """The configured platforms that have receipts which came too early."""
    async with database.read() as connection:
        return list((await connection.execute(select(pending_receipts.c.platform_id).distinct())).scalars())


def take_waiting(connection: Connection, platform_id: str, now: datetime) -> list[NewEvent]:
    """Try again receipts of a platform that came too early; gives the events that were appended."""
    mine = select(pending_receipts).where(pending_receipts.c.platform_id == platform_id)
    # What another process has in hand is no business of ours.
    rows = connection.execute(
        mine.order_by(pending_receipts.c.id).limit(AT_ONCE).with_for_update(skip_locked=True)
    ).mappings()
    receipts = [DeliveryReceipt(**row) for row in rows]
    taken = take(connection, platform_id, receipts, now)
    left = {receipt.id for receipt in taken.waiting}
    done = [receipt.id for receipt in receipts if receipt.id not in left]
    connection.execute(delete(pending_receipts).where(pending_receipts.c.id.in_(done)))
    told = list(taken.events.values())
    append_to_kept(connection, told)
    return told


class _Delivery:
    """A delivery that receipts are about: as the ledger has it, and as they change it."""

    def __init__(self, row: Any) -> None:
        self.row = row
        self.state = DeliveryState(row.state)
        self.values = {name: getattr(row, name) for name in ("delivered_at", "read_at", "finished_at")}
        self.error: str | None = None

    def take(self, receipt: DeliveryReceipt) -> NewEvent | None:
        """What it tells that is new."""
        if receipt.status == DeliveryState.FAILED:
            return self._fail(receipt)
        after = DeliveryState(receipt.status)
        if self.state not in _PLACES or _PLACES[after] <= _PLACES[self.state]:
            return None
        self.state = after
        self.values[f"{after}_at"] = receipt.told_at
        if self.row.action is not None:
            return None  # that a reaction or an edit arrived, or was seen, is no news
        more = {f"{after}_at": to_iso(receipt.told_at)}
        return _event(receipt, receipt.data | about_delivery(self.row) | more)

    def _fail(self, receipt: DeliveryReceipt) -> NewEvent | None:
        if self.state != DeliveryState.SENT:
            return None
        self.state = DeliveryState.FAILED
        self.error = receipt.error or "The platform could not deliver the message"
        self.values["finished_at"] = receipt.told_at
        more = failed_data(self.state, UNDELIVERED, self.error, self.row.attempts, receipt.told_at)
        return outcome_event(self.row, "failed", receipt.data | about_delivery(self.row) | more, receipt.received_at)


class _Deliveries:
    """Those that receipts are about, by the platform's ids."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._found: dict[str, list[_Delivery]] = {}
        for row in rows:
            self._found.setdefault(row.provider_message_id, []).append(_Delivery(row))

    def of(self, receipt: DeliveryReceipt) -> _Delivery | None:
        """The newest with that id; of several, those of the receipt's chat, where an id is one in its chat only."""
        several = self._found.get(receipt.provider_message_id, [])
        mine = [each for each in several if each.row.target_id == receipt.chat_id]
        return (mine or several or [None])[-1]

    def write(self, connection: Connection, now: datetime) -> None:
        """Write what changed: states, timeline, log, the fallbacks that are needed again, and counts."""
        changed = [each for some in self._found.values() for each in some if each.state != each.row.state]
        changed.sort(key=lambda each: each.row.id)
        failed = [each for each in changed if each.state == DeliveryState.FAILED]
        counts = CountChanges()
        for each in changed:
            counts.move(each.row.project_id, each.row.platform_id, each.row.platform, each.row.state, each.state)
        _CHANGE.run(connection, [_change(each) for each in changed])
        _INSERT_ATTEMPTS.run(connection, [_timeline_row(each) for each in failed])
        _INSERT_LOGS.run(connection, [_log_row(each) for each in failed])
        fallbacks.revive(connection, [each.row for each in failed], now, counts)
        counts.apply(connection)


def _event(receipt: DeliveryReceipt, data: dict[str, Any]) -> NewEvent:
    kind = f"message.{receipt.status}"
    return NewEvent(receipt.project_id, kind, data, receipt.received_at, receipt.platform_id)


def _change(delivery: _Delivery) -> dict[str, Any]:
    return {
        "b_id": delivery.row.id,
        "b_state": delivery.state,
        "b_delivered_at": delivery.values["delivered_at"],
        "b_read_at": delivery.values["read_at"],
        "b_error_code": delivery.error and UNDELIVERED,
        "b_error_message": delivery.error,
        "b_finished_at": delivery.values["finished_at"],
    }


def _timeline_row(delivery: _Delivery) -> dict[str, Any]:
    at = delivery.values["finished_at"]
    return {
        "id": new_id(),
        "delivery_id": delivery.row.id,
        "number": 0,
        "outcome": "failed",
        "error_code": UNDELIVERED,
        "error_message": delivery.error,
        "reached": "yes",
        "retry_at": None,
        "started_at": at,
        "finished_at": at,
    }


def _log_row(delivery: _Delivery) -> dict[str, Any]:
    row = delivery.row
    return {
        "id": new_id(),
        "project_id": row.project_id,
        "platform_id": row.platform_id,
        "platform": row.platform,
        "level": "error",
        "category": "message",
        "message": f"Delivery to {row.target_type} failed: {UNDELIVERED}",
        "metadata": {"deliveryId": row.id, "jobId": row.message_id, "attempts": row.attempts},
        "error": delivery.error,
        "timestamp": delivery.values["finished_at"],
    }

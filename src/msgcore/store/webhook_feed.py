"""Reading the event log for webhooks: which are behind, and what each is still to get."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from msgcore.store.bulk import Bulk
from msgcore.store.database import Database
from msgcore.store.events import Event, is_full, next_events
from msgcore.store.tables import event_sequences, webhook_cursors, webhook_deliveries, webhooks

_INSERT_DELIVERIES = Bulk(
    lambda _: insert(webhook_deliveries),
    ("id", "webhook_id", "event", "event_id", "payload", "attempts", "status", "created_at"),
)


@dataclass(frozen=True, slots=True)
class Behind:
    """What webhooks of a project are still to get.

    `webhooks` are the active ones that are farthest behind, each with its `sequence` (up to where it has all);
    `events` the next of the log after the least of those. `last` is up to where they have all, once they got
    these, and `more` tells whether they, or others, may still be behind then.
    """

    webhooks: Sequence[Row[Any]]
    events: Sequence[Event]
    last: int
    more: bool


async def projects_behind(database: Database, among: Collection[str] | None = None) -> set[str]:
    """The projects with an active webhook that is still to get, or to pass over, an event; of all, or of these."""
    query = (
        select(webhooks.c.project_id)
        .join(webhook_cursors, webhook_cursors.c.webhook_id == webhooks.c.id)
        .join(event_sequences, event_sequences.c.project_id == webhooks.c.project_id)
        .where(webhooks.c.is_active, event_sequences.c.last > webhook_cursors.c.sequence)
        .distinct()
    )
    if among is not None:
        query = query.where(webhooks.c.project_id.in_(among))
    async with database.read() as connection:
        return set((await connection.execute(query)).scalars())


def take(connection: Connection, project_id: str, limit: int, largest: int) -> Behind:
    """What is next, with the webhooks' places held until the transaction ends.

    At most `limit` events, and so few of them, to so few webhooks, that what is posted of them has about `largest`
    bytes.
    """
    # In this order, which those who change a webhook keep as well: first it, then its place.
    mine = select(webhooks.c.id).where(webhooks.c.project_id == project_id, webhooks.c.is_active)
    ids = connection.execute(mine.order_by(webhooks.c.id).with_for_update(read=True, key_share=True)).scalars().all()
    query = (
        select(webhooks, webhook_cursors.c.sequence)
        .join(webhook_cursors, webhook_cursors.c.webhook_id == webhooks.c.id)
        .where(webhooks.c.id.in_(ids))
        .order_by(webhooks.c.id)
        .with_for_update(of=webhook_cursors)
    )
    found: Sequence[Row[Any]] = connection.execute(query).all() if ids else ()
    if not found:
        return Behind((), (), 0, more=False)
    # Before the events: all up to here are committed.
    end = connection.scalar(select(event_sequences.c.last).where(event_sequences.c.project_id == project_id)) or 0
    each = max(1, largest // len(found))
    events = next_events(connection, project_id, min(row.sequence for row in found), limit, each)
    more = is_full(events, limit, each)
    last = events[-1].sequence if more else max(end, events[-1].sequence if events else 0)
    some = _some_of(found, 2 * largest // max(1, sum(event.size for event in events)))
    return Behind(some, events, last, more or len(some) < len(found))


def _some_of(found: Sequence[Row[Any]], number: int) -> Sequence[Row[Any]]:
    """So many of the webhooks, at least one: first those that are farthest behind."""
    if number >= len(found):
        return found
    return sorted(found, key=attrgetter("sequence"))[: max(1, number)]


def move_on(connection: Connection, behind: Behind) -> None:
    """The webhooks have all of it."""
    ids = [row.id for row in behind.webhooks if row.sequence < behind.last]
    if ids:
        cursors = update(webhook_cursors).where(webhook_cursors.c.webhook_id.in_(ids))
        connection.execute(cursors.values(sequence=behind.last))


def add_deliveries(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Note deliveries that begin."""
    _INSERT_DELIVERIES.run(connection, rows)

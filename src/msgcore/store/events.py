"""The event log: what happened in a project, in one order, kept for subscribers to read again.

Events are appended in the transaction of what they tell about. Each project counts its events in the
order of their commits: whoever read up to a number has missed nothing before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import CTE, BigInteger, Connection, String, bindparam, cast, delete, exists, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from msgcore.core.errors import NotFoundError
from msgcore.core.ids import earliest_id, new_id
from msgcore.store.bulk import Bulk
from msgcore.store.database import Database
from msgcore.store.tables import event_sequences, events, projects, webhook_cursors, webhooks

PURGED_AT_ONCE = 5000

PAGE_BYTES = 1024 * 1024
"""What the data of the events of a page may have together, but for the last one, which may reach beyond."""


class NewEvent(msgspec.Struct, frozen=True):
    """An event to be appended. `data` is what subscribers get, with names in snake_case."""

    project_id: str
    type: str
    data: dict[str, Any]
    created_at: datetime
    platform_id: str | None = None


class Event(msgspec.Struct, frozen=True):
    """An event of the log; `sequence` is its place, from 1, and `size` about how many bytes its data has."""

    sequence: int
    id: str
    project_id: str
    type: str
    platform_id: str | None
    data: Any
    created_at: datetime
    size: int


_INSERT = Bulk(lambda _: insert(events), events.c.keys())
_COLUMNS = (
    events.c.sequence,
    events.c.id,
    events.c.project_id,
    events.c.type,
    events.c.platform_id,
    events.c.data,
    events.c.created_at,
    func.length(events.c.data),
)


_IS_AWAITED = (
    exists()
    .select_from(webhooks.join(webhook_cursors, webhook_cursors.c.webhook_id == webhooks.c.id))
    .where(
        webhooks.c.project_id == events.c.project_id,
        webhooks.c.is_active,
        webhook_cursors.c.sequence < events.c.sequence,
    )
)


def _page_statement() -> Any:
    """The next events of a project after a place: so many, and no more once they have so many bytes.

    It goes from one event to the next, so that what is not given is not read either: to tell how long a text is,
    SQLite reads all of it.
    """
    project, after = bindparam("of_project", type_=String()), bindparam("after", type_=BigInteger())
    first = select(func.min(events.c.sequence)).where(events.c.project_id == project, events.c.sequence > after)
    page = select(
        first.scalar_subquery().label("sequence"), cast(0, BigInteger).label("bytes"), cast(1, BigInteger).label("n")
    ).cte("page", recursive=True)
    this, later = events.alias("this"), events.alias("later")
    following = select(func.min(later.c.sequence)).where(
        later.c.project_id == project, later.c.sequence > page.c.sequence
    )
    size = page.c.bytes + func.length(this.c.data)
    page = page.union_all(
        select(following.scalar_subquery(), size, page.c.n + 1)
        .join_from(page, this, (this.c.project_id == project) & (this.c.sequence == page.c.sequence))
        .where(page.c.n < bindparam("most", type_=BigInteger()), size < bindparam("largest", type_=BigInteger()))
    )
    last = select(func.max(page.c.sequence)).scalar_subquery()
    own = (events.c.project_id == project, events.c.sequence > after, events.c.sequence <= last)
    return select(*_COLUMNS).where(*own).order_by(events.c.sequence)


_PAGE = _page_statement()


def append(connection: Connection, new: Sequence[NewEvent]) -> None:
    """Append events within the caller's transaction, those of a project in the order given.

    Others who append to the same projects wait until it ends: do it last. Raises IntegrityError for a
    project that does not exist.
    """
    by_project: defaultdict[str, list[NewEvent]] = defaultdict(list)
    for event in new:
        by_project[event.project_id].append(event)
    rows: list[dict[str, Any]] = []
    for project_id, some in sorted(by_project.items()):  # in one order everywhere, so that nobody can deadlock
        first = _reserve(connection, project_id, len(some))
        rows += (_row(event, sequence) for sequence, event in enumerate(some, first))
    _INSERT.run(connection, rows)


def append_to_kept(connection: Connection, new: Sequence[NewEvent]) -> None:
    """The same, but for events of projects that were deleted meanwhile, which are left out."""
    kept = kept_projects(connection, {event.project_id for event in new})
    append(connection, [event for event in new if event.project_id in kept])


def kept_projects(connection: Connection, ids: Collection[str]) -> set[str]:
    """Which of these projects were not deleted; nobody deletes them before the transaction ends."""
    if not ids:
        return set()
    # Locked as foreign keys would, and before their sequences, as whoever deletes a project does.
    kept = select(projects.c.id).where(projects.c.id.in_(ids)).order_by(projects.c.id)
    return set(connection.execute(kept.with_for_update(read=True, key_share=True)).scalars())


def appending(due: CTE) -> CTE:
    """For a statement of PostgreSQL: the part that appends the events of `due`, those of a project by their ids.

    `due` gives all columns but `sequence`. Whoever runs it holds the projects' rows, as `kept_projects` does.
    """
    numbers = select(due.c.project_id, func.count().label("last")).group_by(due.c.project_id)
    # As Python sorts, whatever the database's collation: see `append`.
    places = postgresql.insert(event_sequences).from_select(
        ["project_id", "last"], numbers.order_by(due.c.project_id.collate("C"))
    )
    reserved = (
        places.on_conflict_do_update(
            index_elements=["project_id"], set_={"last": event_sequences.c.last + places.excluded.last}
        )
        .returning(event_sequences.c.project_id, event_sequences.c.last)
        .cte("reserved")
    )
    number = func.count().over(partition_by=due.c.project_id)
    place = func.row_number().over(partition_by=due.c.project_id, order_by=due.c.id)
    columns = [reserved.c.last - number + place if name == "sequence" else due.c[name] for name in events.c.keys()]  # noqa: SIM118 - columns are no mapping
    placed = select(*columns).join(reserved, reserved.c.project_id == due.c.project_id)
    return insert(events).from_select(events.c.keys(), placed).returning(events.c.id).cte("told")


class Log(msgspec.Struct, frozen=True):
    """A project's log; `since` tells it from that of an earlier project with the same id, which was deleted."""

    project_id: str
    since: datetime


class Bounds(msgspec.Struct, frozen=True):
    """The places of the oldest event that is kept, and of the newest that ever was (0 for none)."""

    log: Log
    oldest: int
    newest: int


async def read_after(database: Database, of: Log, after: int, *, limit: int) -> list[Event]:
    """The next events of a log after a place, oldest first; none once its project was deleted.

    A page has at most `limit` of them, and about `PAGE_BYTES`: `is_full` tells whether there may be more.
    """
    same = exists().where(projects.c.id == of.project_id, projects.c.created_at == of.since)
    arguments = {"of_project": of.project_id, "after": after, "most": limit, "largest": PAGE_BYTES}
    async with database.read() as connection:
        return [Event(*row) for row in await connection.execute(_PAGE.where(same), arguments)]


def next_events(
    connection: Connection, project_id: str, after: int, limit: int, largest: int = PAGE_BYTES
) -> list[Event]:
    """The same within the caller's transaction, with about `largest` bytes."""
    arguments = {"of_project": project_id, "after": after, "most": limit, "largest": largest}
    return [Event(*row) for row in connection.execute(_PAGE, arguments)]


def is_full(page: Sequence[Event], limit: int, largest: int = PAGE_BYTES) -> bool:
    """Whether a page ended because it may have no more, so that there may be more in the log."""
    return len(page) >= limit or sum(event.size for event in page) >= largest


async def bounds(database: Database, project_id: str) -> Bounds:
    """Where a project's log begins and ends. Raises NotFoundError for a project that was just deleted."""
    oldest = select(func.min(events.c.sequence)).where(events.c.project_id == project_id).scalar_subquery()
    last = select(event_sequences.c.last).where(event_sequences.c.project_id == project_id).scalar_subquery()
    query = select(projects.c.created_at, oldest.label("oldest"), last.label("last")).where(projects.c.id == project_id)
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError(f"Project {project_id!r} not found")
    newest = row.last or 0
    return Bounds(Log(project_id, row.created_at), row.oldest or newest + 1, newest)


async def purge(database: Database, before: datetime) -> int:
    """Delete up to 5,000 events from before a moment; returns how many, to be called again while any were.

    By when they were appended: what they tell of may have waited for long. Those that a webhook is still to get stay.
    """
    old = select(events.c.id).where(events.c.id < earliest_id(before), ~_IS_AWAITED).order_by(events.c.id)
    async with database.write() as connection:
        found = old.limit(PURGED_AT_ONCE)
        return (await connection.execute(delete(events).where(events.c.id.in_(found)))).rowcount


def _reserve(connection: Connection, project_id: str, number: int) -> int:
    """The first of so many places at the end of a project's log; nobody else gets any until the commit."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = (
        dialect.insert(event_sequences)
        .values(project_id=project_id, last=number)
        .on_conflict_do_update(index_elements=["project_id"], set_={"last": event_sequences.c.last + number})
        .returning(event_sequences.c.last)
    )
    return connection.execute(statement).scalar_one() - number + 1


def _row(event: NewEvent, sequence: int) -> dict[str, Any]:
    return {
        "id": new_id(),
        "project_id": event.project_id,
        "type": event.type,
        "platform_id": event.platform_id,
        "data": event.data,
        "created_at": event.created_at,
        "sequence": sequence,
    }

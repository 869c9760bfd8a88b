"""What comes in: requests as they came, and what was read out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

import msgspec
from sqlalchemy import Connection, Executable, bindparam, delete, func, insert, select, true, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import UpdateBase

from msgcore.store.bulk import Among, Bulk, ListOf, insert_once
from msgcore.store.database import Database
from msgcore.store.tables import (
    chats,
    inbound_requests,
    inbound_seen,
    message_attachments,
    platform_logs,
    received_messages,
    received_reactions,
)
from msgcore.store.tables.base import Id, UtcDateTime
from msgcore.store.tables.inbound import IS_WAITING

Row = dict[str, Any]
PURGED_AT_ONCE = 5000
LARGEST_BATCH = 8_000_000
"""Bytes of the requests that are read in one transaction."""


class RawRequest(msgspec.Struct, frozen=True):
    """A verified request of a platform, as it came. `id` is given when it comes."""

    id: str
    project_id: str
    platform_id: str
    platform: str
    headers: Mapping[str, str]
    query: str
    body: bytes
    received_at: datetime


_REQUEST = ("id", "project_id", "platform_id", "platform", "headers", "query", "body", "received_at")
_KEEP_REQUESTS = Bulk(insert_once(inbound_requests), _REQUEST)
_KEEP_MESSAGES = Bulk(insert_once(received_messages), received_messages.c.keys())
_KEEP_FILES = Bulk(lambda _: insert(message_attachments), message_attachments.c.keys())
_KEEP_REACTIONS = Bulk(lambda _: insert(received_reactions), received_reactions.c.keys())
_LOG = Bulk(lambda _: insert(platform_logs), platform_logs.c.keys())
_SAME = received_messages.c.id == bindparam("b_id")
_EDIT = Bulk(
    lambda _: (
        update(received_messages).where(_SAME).values(message_text=bindparam("b_text"), edited_at=bindparam("b_at"))
    ),
    ("b_id", "b_text", "b_at"),
)
_TAKE_BACK = Bulk(
    lambda _: update(received_messages).where(_SAME).values(deleted_at=bindparam("b_at")), ("b_id", "b_at")
)


def _touch_chats(dialect: str) -> UpdateBase:
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(chats)
    given = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["platform_id", "provider_chat_id"],
        set_={
            "name": func.coalesce(given.name, chats.c.name),
            "last_message_at": func.coalesce(given.last_message_at, chats.c.last_message_at),
            "updated_at": given.updated_at,
        },
    )


_TOUCH_CHATS = Bulk(_touch_chats, chats.c.keys())


def _see(dialect: str) -> Executable:
    """Note a list of ids; gives those that are new."""
    ids = bindparam("event_ids", type_=ListOf(inbound_seen.c.provider_event_id.type))
    listed = func.json_each(ids).table_valued("value")
    if dialect == "postgresql":
        listed = func.unnest(ids).table_valued("value").render_derived()
    platform_id, now = bindparam("platform_id", type_=Id()), bindparam("now", type_=UtcDateTime())
    # "true": else SQLite takes ON for a part of a join (sqlite.org/lang_upsert.html, section 2.2).
    source = select(platform_id, listed.c.value, now).where(true())
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(inbound_seen)
    noted = statement.from_select(["platform_id", "provider_event_id", "received_at"], source)
    return noted.on_conflict_do_nothing().returning(inbound_seen.c.provider_event_id)


_SEE = {"sqlite": _see("sqlite"), "postgresql": _see("postgresql")}
_SIZES = (
    select(inbound_requests.c.number, func.length(inbound_requests.c.body))
    .where(inbound_requests.c.platform_id == bindparam("platform_id"), IS_WAITING)
    .order_by(inbound_requests.c.number)
    .limit(bindparam("limit"))
)
# The bounds are for PostgreSQL, which for a list goes through whatever else is waiting, once it has a plan from a time
# when there was next to nothing.
_THESE = (
    (inbound_requests.c.platform_id == bindparam("platform_id"))
    & inbound_requests.c.number.between(bindparam("first"), bindparam("last"))
    & Among(inbound_requests.c.number, "numbers")
    & IS_WAITING
)
_TAKE = (
    select(*(inbound_requests.c[name] for name in ("number", *_REQUEST)))
    .where(_THESE)
    .order_by(inbound_requests.c.number)
)
_STILL_WAITING = select(inbound_requests.c.number, inbound_requests.c.id).where(_THESE)
_FINISH = delete(inbound_requests).where(_THESE)
# For the same reason: a table of one page is best read as a whole.
_READ_ALONE = select(
    func.set_config("enable_seqscan", "off", true()),
    func.pg_advisory_xact_lock(func.hashtextextended(bindparam("platform"), 0)),
)


def _these(platform_id: str, numbers: Sequence[int]) -> Row:
    """The arguments of `_THESE`; there is one at least."""
    return {"platform_id": platform_id, "first": min(numbers), "last": max(numbers), "numbers": list(numbers)}


def _message_ids(dialect: str) -> Executable:
    """Messages by a list of the platform's ids."""
    platform_id = received_messages.c.platform_id == bindparam("platform_id")
    columns = (received_messages.c.provider_message_id, received_messages.c.id)
    if dialect == "sqlite":
        return select(*columns).where(platform_id, Among(received_messages.c.provider_message_id, "provider_ids"))
    ids = bindparam("provider_ids", type_=ListOf(received_messages.c.provider_message_id.type))
    given = func.unnest(ids).table_valued("value").render_derived()
    # One by one, each the first at or after its id in the order of the unique index. Without an order, any index that
    # begins with the platform seems as good to PostgreSQL while it has no statistics, and gives all of its messages.
    provider_id = received_messages.c.provider_message_id
    first = select(*columns).where(platform_id, provider_id >= given.c.value).order_by(provider_id).limit(1)
    found = first.lateral("found")
    query = select(found.c.provider_message_id, found.c.id)
    return query.select_from(given.join(found, found.c.provider_message_id == given.c.value))


_MESSAGE_IDS = {"sqlite": _message_ids("sqlite"), "postgresql": _message_ids("postgresql")}


def keep(connection: Connection, requests: Sequence[RawRequest]) -> None:
    """Store requests in their order; those that are stored already stay as they are."""
    _KEEP_REQUESTS.run(connection, [msgspec.structs.asdict(request) for request in requests])


async def waiting_platforms(database: Database) -> list[str]:
    """Ids of the configured platforms that have requests nobody has read."""
    query = select(inbound_requests.c.platform_id).where(IS_WAITING).distinct()
    async with database.read() as connection:
        return list((await connection.execute(query)).scalars())


@dataclass(frozen=True, slots=True)
class Taken:
    """Requests with their numbers, and whether more are waiting."""

    requests: Sequence[tuple[int, RawRequest]]
    more: bool


async def peek(database: Database, platform_id: str, limit: int) -> Taken:
    """The oldest unread requests of a platform, of 8 MB together unless one alone is larger."""
    async with database.read() as connection:
        sizes = (await connection.execute(_SIZES, {"platform_id": platform_id, "limit": limit + 1})).all()
        total = accumulate(size for _, size in sizes[:limit])
        numbers = [number for (number, _), so_far in zip(sizes, total, strict=False) if so_far <= LARGEST_BATCH]
        numbers = numbers or [number for number, _ in sizes[:1]]
        rows = (await connection.execute(_TAKE, _these(platform_id, numbers))).all() if numbers else ()
    return Taken([(number, RawRequest(*rest)) for number, *rest in rows], more=len(numbers) < len(sizes))


def hold(connection: Connection, platform_id: str, numbers: Sequence[int]) -> set[tuple[int, str]]:
    """The numbers and ids of these requests that nobody has read yet; nobody else does until the transaction ends.

    Whoever else reads for the platform waits: what comes first is read first, in whichever process. With their ids,
    as SQLite gives the number of the last request again once it is forgotten (sqlite.org/autoinc.html, section 2).
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_READ_ALONE, {"platform": f"inbound:{platform_id}"})
    return {(number, id_) for number, id_ in connection.execute(_STILL_WAITING, _these(platform_id, numbers))}


def finish(connection: Connection, platform_id: str, numbers: Sequence[int]) -> None:
    """Forget requests that were read."""
    if numbers:
        connection.execute(_FINISH, _these(platform_id, numbers))


def set_aside(connection: Connection, number: int, error: str, now: datetime) -> None:
    """Keep a request that cannot be read, and never look at it again by itself."""
    same = inbound_requests.c.number == number
    connection.execute(update(inbound_requests).where(same).values(failed_at=now, error=error))


def forget_platform(connection: Connection, platform_id: str) -> None:
    """Drop all requests of a platform that is gone."""
    connection.execute(delete(inbound_requests).where(inbound_requests.c.platform_id == platform_id))


def unseen(connection: Connection, platform_id: str, event_ids: Sequence[str], now: datetime) -> set[str]:
    """Which of a platform's own ids came for the first time; from now on they have been seen."""
    arguments = {"platform_id": platform_id, "event_ids": sorted(set(event_ids)), "now": now}
    return set(connection.execute(_SEE[connection.dialect.name], arguments).scalars())


def keep_messages(connection: Connection, messages: Sequence[Row], files: Sequence[Row]) -> None:
    """Store received messages with their files, which are those of rows that are new here."""
    _KEEP_MESSAGES.run(connection, messages)
    _KEEP_FILES.run(connection, files)


def keep_reactions(connection: Connection, rows: Sequence[Row]) -> None:
    """Store reactions, those that were taken away too."""
    _KEEP_REACTIONS.run(connection, rows)


def edit_messages(connection: Connection, edits: Sequence[Row]) -> None:
    """Change received messages: rows of b_id, b_text and b_at."""
    _EDIT.run(connection, edits)


def take_back_messages(connection: Connection, deletions: Sequence[Row]) -> None:
    """Mark received messages as taken back: rows of b_id and b_at."""
    _TAKE_BACK.run(connection, deletions)


def touch_chats(connection: Connection, rows: Sequence[Row]) -> None:
    """Note that something happened in chats; each comes once. What is not known of one stays as it was."""
    _TOUCH_CHATS.run(connection, rows)


def message_ids(connection: Connection, platform_id: str, provider_ids: Sequence[str]) -> dict[str, str]:
    """Our ids of received messages, by the platform's."""
    arguments = {"platform_id": platform_id, "provider_ids": list(provider_ids)}
    found = connection.execute(_MESSAGE_IDS[connection.dialect.name], arguments)
    return {row.provider_message_id: row.id for row in found}


def log(connection: Connection, rows: Sequence[Row]) -> None:
    """Write lines of the platforms' log."""
    _LOG.run(connection, rows)


async def purge_seen(database: Database, before: datetime) -> int:
    """Forget up to 5,000 of what was seen before a moment; returns how many, to be called while any were."""
    key = tuple_(inbound_seen.c.platform_id, inbound_seen.c.provider_event_id)
    old = select(inbound_seen.c.platform_id, inbound_seen.c.provider_event_id).where(
        inbound_seen.c.received_at < before
    )
    async with database.write() as connection:
        result = await connection.execute(delete(inbound_seen).where(key.in_(old.limit(PURGED_AT_ONCE))))
        return result.rowcount


async def purge_set_aside(database: Database, before: datetime) -> int:
    """Delete up to 5,000 requests that were set aside before a moment; returns how many, as above."""
    old = select(inbound_requests.c.number).where(inbound_requests.c.failed_at < before).limit(PURGED_AT_ONCE)
    async with database.write() as connection:
        return (await connection.execute(delete(inbound_requests).where(inbound_requests.c.number.in_(old)))).rowcount

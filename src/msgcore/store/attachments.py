"""Files of received messages: which are to be fetched, what became of them, and what the blob store has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.attachments import AttachmentState
from msgcore.core.ids import earliest_id
from msgcore.store import inbound
from msgcore.store.bulk import Among, Bulk, insert_once
from msgcore.store.database import Database
from msgcore.store.tables import blobs, message_attachments, received_messages
from msgcore.store.tables.inbound import IS_PENDING

_NOTE = Bulk(insert_once(blobs), ("id", "created_at"))
_FORGET = delete(blobs).where(Among(blobs.c.id))
_IS_WANTED = message_attachments.c.state.in_([AttachmentState.PENDING, AttachmentState.STORED])
_EXPIRE = (
    update(message_attachments)
    .where(Among(message_attachments.c.id), _IS_WANTED)
    .values(state=AttachmentState.EXPIRED, reason=bindparam("b_reason"), due_at=None)
)
_WANTED = select(message_attachments.c.id).where(Among(message_attachments.c.id), _IS_WANTED)
_CLAIM = (
    update(message_attachments)
    .where(Among(message_attachments.c.id))
    .values(attempts=message_attachments.c.attempts + 1, due_at=bindparam("b_until"))
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How fetching a file went: its new state, or when it is tried again; and a line for the platform's log."""

    state: AttachmentState
    reason: str | None = None
    due_at: datetime | None = None
    size: int | None = None
    mime_type: str | None = None
    line: dict[str, Any] | None = None


# --- what is fetched


async def platforms_with_pending(database: Database, now: datetime) -> list[str]:
    """Ids of the configured platforms with files that are due to be fetched."""
    query = select(message_attachments.c.platform_id).where(IS_PENDING, message_attachments.c.due_at <= now).distinct()
    async with database.read() as connection:
        return [id_ for id_ in (await connection.execute(query)).scalars() if id_ is not None]


def claim(connection: Connection, platform_id: str, *, now: datetime, until: datetime, limit: int) -> list[Row[Any]]:
    """The next files of a platform, for nobody else to fetch until a moment; they are noted as about to be stored.

    Each row has its attempts, this one included.
    """
    table = message_attachments.c
    due = select(table.id).where(IS_PENDING, table.platform_id == platform_id, table.due_at <= now)
    taken = due.order_by(table.due_at).limit(limit).with_for_update(skip_locked=True)
    ids = list(connection.execute(taken).scalars())
    if not ids:
        return []
    connection.execute(_CLAIM, {"ids": ids, "b_until": until})
    note(connection, ids, now)
    query = select(message_attachments).where(table.id.in_(ids)).order_by(table.id)
    return list(connection.execute(query).all())


def finish(connection: Connection, attachment_id: str, attempts: int, ending: Ending) -> bool:
    """Note how an attempt went. False where it counts no more: the message is gone, or another took over."""
    table = message_attachments.c
    changes: dict[str, Any] = {"state": ending.state, "reason": ending.reason, "due_at": ending.due_at}
    if ending.state == AttachmentState.STORED:
        changes |= {"size": ending.size, "mime_type": ending.mime_type}
    mine = update(message_attachments).where(table.id == attachment_id, table.attempts == attempts, IS_PENDING)
    is_mine = connection.execute(mine.values(changes)).rowcount == 1
    if is_mine and ending.line is not None:
        inbound.log(connection, [ending.line])
    return is_mine


# --- what the blob store has


def note(connection: Connection, ids: Sequence[str], now: datetime) -> None:
    """Remember what is about to be put into the blob store, so that it is found there whatever happens."""
    _NOTE.run(connection, [{"id": id_, "created_at": now} for id_ in ids])


async def oldest_blobs(database: Database, before: datetime, limit: int) -> list[str]:
    """The oldest files of the blob store, of before a moment."""
    query = select(blobs.c.id).where(blobs.c.id < earliest_id(before)).order_by(blobs.c.id).limit(limit)
    async with database.read() as connection:
        return list((await connection.execute(query)).scalars())


async def blobs_after(database: Database, after: str, before: datetime, limit: int) -> tuple[list[str], set[str]]:
    """The next files of the blob store by their ids, and which of them no message has, those of before a moment."""
    query = select(blobs.c.id, blobs.c.created_at).where(blobs.c.id > after).order_by(blobs.c.id).limit(limit)
    async with database.read() as connection:
        found = (await connection.execute(query)).all()
        ids = [row.id for row in found]
        wanted = set((await connection.execute(_WANTED, {"ids": ids})).scalars()) if ids else set[str]()
    return ids, {row.id for row in found if row.created_at < before} - wanted


async def expire(database: Database, ids: Sequence[str], reason: str) -> None:
    """Say of attachments that they were kept for as long as files are."""
    async with database.write() as connection:
        await connection.execute(_EXPIRE, {"ids": list(ids), "b_reason": reason})


async def forget(database: Database, ids: Sequence[str]) -> None:
    """These are no longer in the blob store."""
    async with database.write() as connection:
        await connection.execute(_FORGET, {"ids": list(ids)})


# --- what is shown


async def find(connection: AsyncConnection, attachment_id: str) -> Row[Any] | None:
    """One attachment."""
    query = select(message_attachments).where(message_attachments.c.id == attachment_id)
    return (await connection.execute(query)).one_or_none()


async def find_of_message(
    connection: AsyncConnection, project_id: str, message_id: str, attachment_id: str
) -> Row[Any] | None:
    """One attachment of a project's message."""
    query = (
        select(message_attachments)
        .join(received_messages, received_messages.c.id == message_attachments.c.message_id)
        .where(
            received_messages.c.project_id == project_id,
            received_messages.c.id == message_id,
            message_attachments.c.id == attachment_id,
        )
    )
    return (await connection.execute(query)).one_or_none()

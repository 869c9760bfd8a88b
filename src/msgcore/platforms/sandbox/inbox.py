"""The sandbox's inbox: what was sent to it, and what its people answered.

Rows are written by group commit, so that a flood of deliveries costs a few transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import to_iso
from msgcore.core.errors import PermanentError
from msgcore.store.bulk import Bulk, insert_once
from msgcore.store.database import Database
from msgcore.store.group_commit import GroupCommit
from msgcore.store.inbound import RawRequest, keep
from msgcore.store.tables import sandbox_inbox

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """A message as it arrived and, where a person answers it, the answer."""

    message: Row
    reply: RawRequest | None = None


class InboxWriter:
    """Writes entries to the inbox; one that is there already stays as it is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits: GroupCommit[InboxEntry, None] = GroupCommit(self._flush)

    async def write(self, entry: InboxEntry) -> None:
        """Store an entry; returns when it is committed.

        Raises PermanentError if the sandbox platform was deleted meanwhile.
        """
        await self._commits.submit(entry)

    async def drain(self) -> None:
        """Wait until everything written so far is committed."""
        await self._commits.drain()

    async def _flush(self, entries: Sequence[InboxEntry]) -> Sequence[Exception | None]:
        try:
            await self._insert(entries)
        except IntegrityError as error:
            if len(entries) > 1:  # one deleted platform must not fail the whole batch
                return [(await self._flush([entry]))[0] for entry in entries]
            gone = PermanentError("platform_deleted", "The sandbox platform was deleted before the message arrived")
            gone.__cause__ = error
            return [gone]
        return [None] * len(entries)

    async def _insert(self, entries: Sequence[InboxEntry]) -> None:
        messages = [entry.message for entry in entries]
        replies = [entry.reply for entry in entries if entry.reply is not None]

        def write(connection: Connection) -> None:
            _KEEP_MESSAGES.run(connection, messages)
            keep(connection, replies)

        await self._database.transact(write)


async def read_inbox(
    database: Database, platform_id: str, *, limit: int = 50, before: str | None = None
) -> list[dict[str, Any]]:
    """What arrived at a sandbox platform, newest first, as JSON objects in camelCase.

    `before` is the `id` of the last entry of the page before (keyset pagination). Each object has
    `id` (the delivery's), `messageId`, `target {type, id}`, `content`, `replyTo`, `receivedAt`.
    """
    query = select(sandbox_inbox).where(sandbox_inbox.c.platform_id == platform_id)
    if before is not None:
        query = query.where(sandbox_inbox.c.id < before)
    async with database.read() as connection:
        rows = await connection.execute(query.order_by(sandbox_inbox.c.id.desc()).limit(limit))
        return [
            {
                "id": row.id,
                "messageId": row.message_id,
                "target": {"type": row.target_type, "id": row.target_id},
                "content": row.content,
                "replyTo": row.reply_to,
                "receivedAt": to_iso(row.received_at),
            }
            for row in rows
        ]


async def clear_inbox(connection: AsyncConnection, platform_id: str) -> int:
    """Empty the inbox of a sandbox platform; returns how many messages were in it."""
    result = await connection.execute(delete(sandbox_inbox).where(sandbox_inbox.c.platform_id == platform_id))
    return result.rowcount


_KEEP_MESSAGES = Bulk(insert_once(sandbox_inbox), sandbox_inbox.c.keys())

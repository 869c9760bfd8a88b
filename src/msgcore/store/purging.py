"""Deleting what was made before a moment, a part at a time, so that nobody waits for it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.ids import earliest_id

PURGED_AT_ONCE: Final = 5000


async def purge_by_id(connection: AsyncConnection, table: Table, before: datetime) -> int:
    """Delete up to `PURGED_AT_ONCE` rows, the oldest first, whose ids (UUIDv7) are from before a moment; how many."""
    old = select(table.c.id).where(table.c.id < earliest_id(before)).order_by(table.c.id).limit(PURGED_AT_ONCE)
    return (await connection.execute(delete(table).where(table.c.id.in_(old)))).rowcount

"""What MsgCore knows about itself: single values by name."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.tables import system_state


async def read_state(connection: AsyncConnection, key: str) -> str | None:
    """A value, or None if it was never set."""
    query = select(system_state.c.value).where(system_state.c.key == key)
    return (await connection.execute(query)).scalar_one_or_none()


async def claim_state(connection: AsyncConnection, key: str, value: str) -> bool:
    """Set a value that is not set yet; of several who try at once, one gets True."""
    insert = (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(system_state)
    result = await connection.execute(insert.values(key=key, value=value).on_conflict_do_nothing())
    return result.rowcount == 1

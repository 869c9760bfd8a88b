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


async def claim_state(connection: AsyncConnection, key: str, value: str) -> None:
    """Set a value unless it is set already."""
    await connection.execute(_insert(connection, key, value).on_conflict_do_nothing())


async def put_state(connection: AsyncConnection, key: str, value: str) -> None:
    """Set a value. Transactions that put the same one take turns from here on."""
    statement = _insert(connection, key, value)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["key"], set_={"value": statement.excluded.value})
    )


def _insert(connection: AsyncConnection, key: str, value: str) -> sqlite.Insert | postgresql.Insert:
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return insert(system_state).values(key=key, value=value)

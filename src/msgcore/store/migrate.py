"""Bring the database up to date."""

from __future__ import annotations

from msgcore.store.database import Database
from msgcore.store.tables import metadata


async def upgrade(database: Database) -> list[str]:
    """Stand-in."""
    async with database.write() as connection:
        await connection.run_sync(metadata.create_all)
        if database.kind == "postgresql":
            for name in ("messages", "deliveries", "attempts"):
                await connection.exec_driver_sql(f"CREATE TABLE {name}_default PARTITION OF {name} DEFAULT")
    return ["0001"]

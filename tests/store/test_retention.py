"""What is kept for a time only: the platforms' logs go with the events that they are about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select

from msgcore.core.ids import earliest_id
from msgcore.store.database import Database
from msgcore.store.retention import Kept, forget_old
from msgcore.store.tables import platform_logs
from store.ledger_rows import PROJECT, add_project

NOW = datetime.now(UTC)
YEAR = timedelta(days=365)


def line(days: int) -> dict[str, Any]:
    moment = NOW - timedelta(days=days)
    return {
        "id": earliest_id(moment),
        "project_id": PROJECT,
        "platform": "slack",
        "level": "warn",
        "category": "connection",
        "message": f"{days} days ago",
        "timestamp": moment,
    }


async def test_old_lines_of_platforms_go_and_newer_ones_stay(database: Database) -> None:
    await add_project(database)
    async with database.write() as connection:
        await connection.execute(insert(platform_logs), [line(days) for days in (40, 31, 29, 0)])
    await forget_old(database, Kept(events=NOW - timedelta(days=30), audit=NOW - YEAR, usage=NOW - YEAR))
    async with database.read() as connection:
        left = await connection.execute(select(platform_logs.c.message).order_by(platform_logs.c.id))
        assert left.scalars().all() == ["29 days ago", "0 days ago"]

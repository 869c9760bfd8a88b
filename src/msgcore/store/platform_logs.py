"""Queries on platform logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.database import Database
from msgcore.store.purging import purge_by_id
from msgcore.store.tables import platform_logs, project_platforms

MOST_COUNTED = 10_000
"""Counting stops here, so that a long log does not make its list slow."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which entries of a project's log; None leaves a condition out. The times are inclusive."""

    project_id: str
    platform_id: str | None = None
    platform: str | None = None
    level: str | None = None
    category: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        table = platform_logs.c
        equal = {
            table.platform_id: self.platform_id,
            table.platform: self.platform,
            table.level: self.level,
            table.category: self.category,
        }
        conditions = [table.project_id == self.project_id]
        conditions += [column == value for column, value in equal.items() if value is not None]
        if self.since is not None:
            conditions.append(table.timestamp >= self.since)
        if self.until is not None:
            conditions.append(table.timestamp <= self.until)
        return conditions


async def list_logs(connection: AsyncConnection, chosen: LogFilter, *, limit: int, offset: int) -> Sequence[Row[Any]]:
    """A page, newest first, with `is_active` of the platform that each entry is about."""
    query = (
        select(platform_logs, project_platforms.c.is_active)
        .outerjoin(project_platforms, project_platforms.c.id == platform_logs.c.platform_id)
        .where(*chosen.conditions())
        .order_by(platform_logs.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return (await connection.execute(query)).all()


async def count_logs(connection: AsyncConnection, chosen: LogFilter) -> int:
    """How many entries there are, at most `MOST_COUNTED`."""
    found = select(literal(1)).select_from(platform_logs).where(*chosen.conditions()).limit(MOST_COUNTED).subquery()
    return (await connection.execute(select(func.count()).select_from(found))).scalar_one()


async def summarize_logs(connection: AsyncConnection, project_id: str) -> Sequence[Row[Any, Any, int]]:
    """`level`, `category` and `number` of a project's entries."""
    number = func.count().label("number")
    query = (
        select(platform_logs.c.level, platform_logs.c.category, number)
        .where(platform_logs.c.project_id == project_id)
        .group_by(platform_logs.c.level, platform_logs.c.category)
        .order_by(platform_logs.c.level.desc(), platform_logs.c.category)
    )
    return (await connection.execute(query)).all()


async def purge(database: Database, before: datetime) -> int:
    """Delete up to 5,000 entries from before a moment; returns how many, to be called while any were."""
    async with database.write() as connection:
        return await purge_by_id(connection, platform_logs, before)

"""What happened on a project's platforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgcore.core.errors import NotFoundError
from msgcore.core.ids import canonical_id
from msgcore.store.database import Database
from msgcore.store.platform_logs import LogFilter, count_logs, list_logs, summarize_logs
from msgcore.store.platforms import find_platform

_RECENT_ERRORS = 5


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries, newest first, how many there are (counted up to a limit), and whether more follow."""

    rows: Sequence[Any]
    total: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class LogStats:
    """Entries by level and category, and the newest errors."""

    summary: Sequence[Any]
    recent_errors: Sequence[Any]


class PlatformLogService:
    """Lists and counts log entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, chosen: LogFilter, *, limit: int, offset: int) -> LogPage:
        """A page of a project's entries."""
        async with self._database.read() as connection:
            rows = await list_logs(connection, chosen, limit=limit + 1, offset=offset)
            total = await count_logs(connection, chosen)
        return LogPage(rows[:limit], total, has_more=len(rows) > limit)

    async def list_of_platform(self, chosen: LogFilter, platform_id: str, *, limit: int, offset: int) -> LogPage:
        """A page of one platform's entries, which outlive it.

        Raises NotFoundError where there are none, and no such platform in the project either.
        """
        known_id = canonical_id(platform_id)
        if known_id is not None:
            page = await self.list(replace(chosen, platform_id=known_id), limit=limit, offset=offset)
            if page.total:
                return page
            async with self._database.read() as connection:
                if await find_platform(connection, chosen.project_id, known_id) is not None:
                    return page
        raise NotFoundError(f"Platform with id '{platform_id[:64]}' not found")

    async def stats(self, project_id: str) -> LogStats:
        """Counts by level and category, and the newest errors."""
        errors = LogFilter(project_id, level="error")
        async with self._database.read() as connection:
            return LogStats(
                await summarize_logs(connection, project_id),
                await list_logs(connection, errors, limit=_RECENT_ERRORS, offset=0),
            )

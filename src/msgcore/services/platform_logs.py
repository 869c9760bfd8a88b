"""What happened on a project's platforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgcore.store.database import Database
from msgcore.store.platform_logs import LogFilter, count_logs, list_logs, summarize_logs

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

    async def stats(self, project_id: str) -> LogStats:
        """Counts by level and category, and the newest errors."""
        errors = LogFilter(project_id, level="error")
        async with self._database.read() as connection:
            return LogStats(
                await summarize_logs(connection, project_id),
                await list_logs(connection, errors, limit=_RECENT_ERRORS, offset=0),
            )

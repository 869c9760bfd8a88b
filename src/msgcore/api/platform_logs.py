"""Logs of what happened on a project's platforms."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from litestar import Controller, get
from litestar.params import FromPath, QueryParameter

from msgcore.api.access import ApiRequest, Injected, requires
from msgcore.api.answers import Answer, Pagination, Timestamp
from msgcore.api.parameters import EndDate, Limit, Offset, StartDate, read_moment
from msgcore.core.clock import to_iso
from msgcore.core.scopes import ApiScope, Principal
from msgcore.services.platform_logs import LogPage, PlatformLogService
from msgcore.store.platform_logs import LogFilter

Level = Annotated[Literal["debug", "info", "warn", "error"] | None, QueryParameter(description="Only of this level")]
Category = Annotated[
    Literal["connection", "webhook", "message", "error", "auth", "general"] | None,
    QueryParameter(description="Only of this category"),
]
PlatformName = Annotated[
    str | None, QueryParameter(max_length=32, pattern=r"^[a-z0-9-]*$", description="Only of this platform")
]

_OF_MESSAGES: Final = frozenset(("message", "auth"))
"""Categories whose errors may repeat a message."""


class LoggedPlatform(Answer):
    """The configured platform that an entry is about."""

    id: str
    platform: str
    is_active: bool


class LogEntry(Answer):
    """One thing that happened.

    The `error` of sending and of refused credentials (`message` and `auth`) has the platform's words, which may repeat
    what was sent: it is null for keys without `messages:read`.
    """

    id: str
    project_id: str
    platform_id: str | None
    platform: str
    level: str
    category: str
    message: str
    metadata: Any
    error: str | None
    timestamp: Timestamp
    platform_config: LoggedPlatform | None


class LogsAnswer(Answer):
    """A page of entries, newest first. `pagination.total` stops counting at 10,000; `hasMore` is always right."""

    logs: list[LogEntry]
    pagination: Pagination


class LogCount(Answer):
    """How many entries of a level and category there are."""

    level: str
    category: str
    count: int


class RecentError(Answer):
    """A recent error."""

    message: str
    category: str
    timestamp: Timestamp
    platform: str


class LogStatsAnswer(Answer):
    """Counts, and the newest errors."""

    summary: list[LogCount]
    recent_errors: list[RecentError]


class PlatformLogsController(Controller):
    """Platform logs."""

    path = "/api/v1/projects/{project:str}/platforms"
    tags = ("Platform logs",)

    @get("/logs", opt=requires(ApiScope.PLATFORMS_READ), summary="List platform logs")
    async def list_all(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_logs: Injected[PlatformLogService],
        platform: PlatformName = None,
        level: Level = None,
        category: Category = None,
        start_date: StartDate = None,
        end_date: EndDate = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> LogsAnswer:
        """Of all platforms of a project, newest first."""
        chosen = LogFilter(
            project,
            platform=platform,
            level=level,
            category=category,
            since=_moment("startDate", start_date),
            until=_moment("endDate", end_date),
        )
        page = await platform_logs.list(chosen, limit=limit, offset=offset)
        return _answer(request.user, page, limit, offset)

    @get("/{platform_id:str}/logs", opt=requires(ApiScope.PLATFORMS_READ), summary="List the logs of one platform")
    async def list_of_platform(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_id: FromPath[str],
        platform_logs: Injected[PlatformLogService],
        level: Level = None,
        category: Category = None,
        start_date: StartDate = None,
        end_date: EndDate = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> LogsAnswer:
        """Newest first, also of a platform that was deleted."""
        chosen = LogFilter(
            project,
            level=level,
            category=category,
            since=_moment("startDate", start_date),
            until=_moment("endDate", end_date),
        )
        page = await platform_logs.list_of_platform(chosen, platform_id, limit=limit, offset=offset)
        return _answer(request.user, page, limit, offset)

    @get("/logs/stats", opt=requires(ApiScope.PLATFORMS_READ), summary="Count platform logs")
    async def stats(self, project: FromPath[str], platform_logs: Injected[PlatformLogService]) -> LogStatsAnswer:
        """By level and category, with the newest errors."""
        found = await platform_logs.stats(project)
        return LogStatsAnswer(
            summary=[LogCount(level=row.level, category=row.category, count=row.number) for row in found.summary],
            recent_errors=[
                RecentError(
                    message=row.message, category=row.category, timestamp=to_iso(row.timestamp), platform=row.platform
                )
                for row in found.recent_errors
            ],
        )


def _moment(name: str, text: str | None) -> datetime | None:
    return read_moment(name, f"/query/{name}", text)


def _answer(reader: Principal, page: LogPage, limit: int, offset: int) -> LogsAnswer:
    return LogsAnswer(
        logs=[_entry(reader, row) for row in page.rows],
        pagination=Pagination(total=page.total, limit=limit, offset=offset, has_more=page.has_more),
    )


def _entry(reader: Principal, row: Any) -> LogEntry:
    config = None
    if row.is_active is not None:
        config = LoggedPlatform(id=row.platform_id, platform=row.platform, is_active=row.is_active)
    return LogEntry(
        id=row.id,
        project_id=row.project_id,
        platform_id=row.platform_id,
        platform=row.platform,
        level=row.level,
        category=row.category,
        message=row.message,
        metadata=row.metadata,
        error=None if row.category in _OF_MESSAGES and not reader.reads_messages else row.error,
        timestamp=to_iso(row.timestamp),
        platform_config=config,
    )

"""What API keys are used for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from litestar import Controller, get
from litestar.params import FromPath, QueryParameter

from msgcore.api.access import Injected, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.api.parameters import read_moment
from msgcore.core.clock import to_iso
from msgcore.core.scopes import ApiScope
from msgcore.services.usage import Usage, UsageService
from msgcore.store.key_usage import read_moment as moment_of

By: TypeAlias = Annotated[Literal["day", "hour"], QueryParameter(description="What an entry is about, in UTC")]
Since: TypeAlias = Annotated[
    str | None, QueryParameter(description="From the hour of this ISO 8601 time on; else 30 days ago, or 1 by the hour")
]
Until: TypeAlias = Annotated[str | None, QueryParameter(description="Before this ISO 8601 time; else now")]


class CountAnswer(Answer):
    """Requests, those of them that were answered with 400 or more, and how long answers took."""

    requests: int
    errors: int
    average_ms: float
    longest_ms: int


class UsageEntry(CountAnswer):
    """What one endpoint answered with one class of status (2xx) in a day or an hour, which began at `begin`."""

    begin: Timestamp
    method: str
    endpoint: str
    status: str


class UsageAnswer(Answer):
    """The sum, and its parts, newest first.

    `limited`: there are more than these 1000 parts, so ask for a shorter time. `lastAddress`: from where the newest
    request came.
    """

    project_id: str
    key_id: str | None
    interval: str
    since: Timestamp
    until: Timestamp
    total: CountAnswer
    last_address: str | None
    entries: list[UsageEntry]
    limited: bool


class UsageController(Controller):
    """Counted by the hour, and written every few seconds. Requests that no key was known for are nobody's."""

    path = "/api/v1/projects/{project:str}"
    tags = ("Usage",)

    @get("/usage", opt=requires(ApiScope.KEYS_READ), summary="What a project's API keys are used for")
    async def of_project(
        self,
        project: FromPath[str],
        usage: Injected[UsageService],
        interval: By = "day",
        since: Since = None,
        until: Until = None,
    ) -> UsageAnswer:
        """All keys together, those that were revoked too."""
        begin, end = _times(since, until)
        return _answer(await usage.of_project(project, interval, since=begin, until=end), interval)

    @get("/keys/{key_id:str}/usage", opt=requires(ApiScope.KEYS_READ), summary="What an API key is used for")
    async def of_key(
        self,
        project: FromPath[str],
        key_id: FromPath[str],
        usage: Injected[UsageService],
        interval: By = "day",
        since: Since = None,
        until: Until = None,
    ) -> UsageAnswer:
        """Also of one that was revoked."""
        begin, end = _times(since, until)
        return _answer(await usage.of_key(project, key_id, interval, since=begin, until=end), interval)


def _times(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    return read_moment("since", "/query/since", since), read_moment("until", "/query/until", until)


def _answer(found: Usage, interval: str) -> UsageAnswer:
    return UsageAnswer(
        project_id=found.chosen.project_id,
        key_id=found.chosen.key_id,
        interval=interval,
        since=to_iso(found.chosen.since),
        until=to_iso(found.chosen.until),
        total=CountAnswer(**_counts(found.total)),
        last_address=found.last_address,
        entries=[
            UsageEntry(
                begin=to_iso(moment_of(row.moment)),
                method=row.method,
                endpoint=row.endpoint,
                status=f"{row.status_class}xx",
                **_counts(row),
            )
            for row in found.parts
        ],
        limited=found.limited,
    )


def _counts(row: Any) -> dict[str, Any]:
    requests = int(row.requests)  # PostgreSQL sums whole numbers to decimals
    return {
        "requests": requests,
        "errors": int(row.errors),
        "average_ms": round(int(row.total_ms) / max(1, requests), 1),
        "longest_ms": row.longest_ms,
    }

"""What a project's API keys are used for, as it was counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from msgcore.core.clock import Clock
from msgcore.core.errors import FieldError, InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id
from msgcore.store import key_usage as store
from msgcore.store.api_keys import find_key
from msgcore.store.database import Database
from msgcore.store.key_usage import Interval, UsageFilter

MOST_ENTRIES = 1000
LONGEST: dict[Interval, timedelta] = {"day": timedelta(days=92), "hour": timedelta(days=7)}
"""What may be asked for at once, by interval."""

_NOTHING_BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
_USUAL: dict[Interval, timedelta] = {"day": timedelta(days=30), "hour": timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class Usage:
    """The sums of a time, and its parts, newest first; `limited`: there are more parts than are given."""

    chosen: UsageFilter
    total: Any
    parts: Sequence[Any]
    limited: bool
    last_address: str | None


class UsageService:
    """Reads what was counted; the last seconds are still to come."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def of_project(
        self, project_id: str, interval: Interval, *, since: datetime | None, until: datetime | None
    ) -> Usage:
        """Of all keys of a project. Raises InvalidInputError for a time that is too long."""
        return await self._read(self._filter(project_id, interval, since, until), interval)

    async def of_key(
        self, project_id: str, key_id: str, interval: Interval, *, since: datetime | None, until: datetime | None
    ) -> Usage:
        """Of one key, also one that was revoked. Raises NotFoundError, and InvalidInputError as above."""
        canonical = canonical_id(key_id)
        async with self._database.read() as connection:
            row = None if canonical is None else await find_key(connection, project_id, canonical)
        if row is None:
            raise NotFoundError(f"API key '{key_id[:64]}' not found")
        return await self._read(self._filter(project_id, interval, since, until, row.id), interval)

    def _filter(
        self,
        project_id: str,
        interval: Interval,
        since: datetime | None,
        until: datetime | None,
        key_id: str | None = None,
    ) -> UsageFilter:
        end = max(until or self._clock.now(), _NOTHING_BEFORE)
        begin = since or _beginning(end - _USUAL[interval], interval)
        if not timedelta(0) < end - begin <= LONGEST[interval]:
            days = LONGEST[interval].days
            problem = f"since must be before until, and at most {days} days for the interval {interval}"
            raise InvalidInputError.of([FieldError("/query/since", problem)])
        # Counted by the hour: an hour that had begun is given as a whole.
        return UsageFilter(project_id, _beginning(begin, "hour"), end, key_id)

    async def _read(self, chosen: UsageFilter, interval: Interval) -> Usage:
        async with self._database.read() as connection:
            total = await store.sum_usage(connection, chosen)
            parts = await store.list_usage(connection, chosen, interval, limit=MOST_ENTRIES + 1)
            address = await store.last_address(connection, chosen)
        return Usage(chosen, total, parts[:MOST_ENTRIES], len(parts) > MOST_ENTRIES, address)


def _beginning(moment: datetime, interval: Interval) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour.replace(hour=0) if interval == "day" else hour

"""What API keys are used for: requests counted by key, hour, endpoint and status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, Connection, Row, String, case, func, select, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import UpdateBase

from msgcore.store.bulk import Among, Bulk
from msgcore.store.database import Database
from msgcore.store.purging import purge_by_id
from msgcore.store.tables import api_key_usage, api_keys

Interval: TypeAlias = Literal["hour", "day"]

_FIRST_ERROR = 400
_SAME = ("api_key_id", "timestamp", "endpoint", "method", "status_code")


def _adding(dialect: str) -> UpdateBase:
    table = api_key_usage.c
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(api_key_usage)
    new = statement.excluded
    longest = case((new.response_time_ms > table.response_time_ms, new.response_time_ms), else_=table.response_time_ms)
    changes = {
        "requests": table.requests + new.requests,
        "total_ms": table.total_ms + new.total_ms,
        "response_time_ms": longest,
        "ip_address": new.ip_address,
    }
    return statement.on_conflict_do_update(index_elements=_SAME, set_=changes)


_ADD = Bulk(_adding, api_key_usage.c.keys())
_KEPT = select(api_keys.c.id).where(Among(api_keys.c.id)).order_by(api_keys.c.id)


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Whose requests: of a project's keys, or of one of them, from `since` up to `until`, which is left out."""

    project_id: str
    since: datetime
    until: datetime
    key_id: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        own = select(api_keys.c.id).where(api_keys.c.project_id == self.project_id)
        if self.key_id is not None:
            own = own.where(api_keys.c.id == self.key_id)
        times = api_key_usage.c.timestamp
        return [api_key_usage.c.api_key_id.in_(own), times >= self.since, times < self.until]


async def add_usage(database: Database, rows: Sequence[dict[str, Any]]) -> None:
    """Add to what was counted; keys that are gone with their project are left out.

    Give the rows in one order everywhere, so that processes that count the same cannot wait for each other.
    """

    def work(connection: Connection) -> None:
        # Held, as the foreign key would: a project that goes meanwhile waits, and takes these rows along.
        ids = sorted({row["api_key_id"] for row in rows})
        kept = set(connection.execute(_KEPT.with_for_update(read=True, key_share=True), {"ids": ids}).scalars())
        _ADD.run(connection, [row for row in rows if row["api_key_id"] in kept])

    await database.transact(work)


async def list_usage(
    connection: AsyncConnection, chosen: UsageFilter, interval: Interval, *, limit: int
) -> Sequence[Row[Any]]:
    """By `moment` (as text), endpoint and status class (`status_class` is 2 for 200 to 299), the newest first."""
    table, moment = api_key_usage.c, _moment(connection, interval).label("moment")
    status_class = (table.status_code // 100).label("status_class")
    groups = (moment, table.method, table.endpoint, status_class)
    query = (
        select(*groups, *_sums())
        .where(*chosen.conditions())
        .group_by(*groups)
        .order_by(moment.desc(), table.endpoint, table.method, status_class)
    )
    return (await connection.execute(query.limit(limit))).all()


async def sum_usage(connection: AsyncConnection, chosen: UsageFilter) -> Row[Any]:
    """All of it together, in the same columns."""
    return (await connection.execute(select(*_sums()).where(*chosen.conditions()))).one()


async def last_address(connection: AsyncConnection, chosen: UsageFilter) -> str | None:
    """From where the newest request came."""
    table = api_key_usage.c
    newest = select(table.ip_address).where(*chosen.conditions()).order_by(table.timestamp.desc(), table.id.desc())
    return (await connection.execute(newest.limit(1))).scalar_one_or_none()


async def purge(database: Database, before: datetime) -> int:
    """Forget up to 5,000 rows of hours before a moment; returns how many, to be called while any were."""
    async with database.write() as connection:
        return await purge_by_id(connection, api_key_usage, before)


def read_moment(text: str) -> datetime:
    """The beginning of an hour or a day that `list_usage` gave."""
    return datetime.fromisoformat(text if len(text) == len("2030-01-31") else f"{text}:00").replace(tzinfo=UTC)


def _sums() -> tuple[ColumnElement[Any], ...]:
    table = api_key_usage.c
    errors = case((table.status_code >= _FIRST_ERROR, table.requests), else_=0)
    return (
        func.coalesce(func.sum(table.requests), 0).label("requests"),
        func.coalesce(func.sum(errors), 0).label("errors"),
        func.coalesce(func.sum(table.total_ms), 0).label("total_ms"),
        func.coalesce(func.max(table.response_time_ms), 0).label("longest_ms"),
    )


def _moment(connection: AsyncConnection, interval: Interval) -> ColumnElement[str]:
    """`2030-01-31`, or `2030-01-31 12`."""
    times = api_key_usage.c.timestamp
    if connection.dialect.name == "sqlite":
        return func.substr(type_coerce(times, String), 1, 10 if interval == "day" else 13)
    return func.to_char(func.timezone("UTC", times), "YYYY-MM-DD" if interval == "day" else "YYYY-MM-DD HH24")

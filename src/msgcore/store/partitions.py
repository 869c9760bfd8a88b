"""Monthly partitions of the big tables, on PostgreSQL.

Ids are UUIDv7, so a range of ids is a range of time. What fits no month is in the default partition.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.ids import earliest_id
from msgcore.store.database import Database

PARTITIONED = ("messages", "deliveries", "attempts")

PARTITION_LOCK = 0x6D73_6763_6F72_0002
"""Key of the PostgreSQL advisory lock under which partitions are made."""

LOCK_TIMEOUT = "2s"
"""How long a table may be waited for: meanwhile everybody else waits behind us."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Partition:
    """A table's rows of one month (UTC): ids from `start` on and below `end`."""

    table: str
    name: str
    start: str
    end: str


async def ensure_partitions(database: Database, now: datetime, months_ahead: int = 2) -> list[str]:
    """Make the partitions of this and the coming months that are missing; returns their names.

    Safe in several processes at once. A partition that cannot be made (the table is busy, the role
    may not) is left for the next call: its rows go to the default partition, and are moved then.
    """
    if database.kind != "postgresql":
        return []
    made: list[str] = []
    for partition in await _missing(database, now, months_ahead):
        try:
            async with database.write() as connection:
                if await _make(connection, partition):
                    made.append(partition.name)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            log.warning("partition_postponed", partition=partition.name, reason=str(error.orig))
    return made


def partitions_of(now: datetime, months_ahead: int) -> list[Partition]:
    """What `ensure_partitions` wants to be there."""
    starts = [_month(now.astimezone(UTC), offset) for offset in range(months_ahead + 2)]
    return [
        Partition(table, f"{table}_{start:%Y_%m}", earliest_id(start), earliest_id(end))
        for table in PARTITIONED
        for start, end in pairwise(starts)
    ]


def _month(now: datetime, offset: int) -> datetime:
    """The start of the month that is `offset` months after this one."""
    years, month = divmod(now.month - 1 + offset, 12)
    return datetime(now.year + years, month + 1, 1, tzinfo=UTC)


async def _missing(database: Database, now: datetime, months_ahead: int) -> list[Partition]:
    wanted = partitions_of(now, months_ahead)
    async with database.read() as connection:
        found = await connection.scalars(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = ANY(CAST(:tables AS regclass[]))"),
            {"tables": list(PARTITIONED)},
        )
        existing = set(found)
    return [partition for partition in wanted if partition.name not in existing]


async def _make(connection: AsyncConnection, partition: Partition) -> bool:
    """Make one partition, with the rows that the default partition has of it."""
    table, name = partition.table, partition.name
    bounds = f"id >= '{partition.start}' AND id < '{partition.end}'"
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PARTITION_LOCK})
    if await connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None:
        return False  # another process was quicker
    # In the order in which a writer locks them, and without keeping writers off the other partitions.
    for statement in (
        f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'",
        f"LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE",
        f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE",
        f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)",
        f"WITH moved AS (DELETE FROM {table}_default WHERE {bounds} RETURNING *) INSERT INTO {name} TABLE moved",  # noqa: S608 - names and ids of ours
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{partition.start}') TO ('{partition.end}')",
    ):
        await connection.exec_driver_sql(statement)
    return True

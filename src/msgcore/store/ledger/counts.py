"""Counts of deliveries by state, kept in the transactions that change states."""

from __future__ import annotations

import os
from collections import Counter

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.deliveries import DeliveryState
from msgcore.store.database import Database
from msgcore.store.tables import delivery_counts

SLOTS = 16
"""Rows that one count is spread over, so that processes seldom wait for each other's row lock."""

SLOT = os.getpid() % SLOTS

Key = tuple[str, str, str, str]
"""Project, account, platform name, state."""


class CountChanges:
    """Adds up the changes of one transaction, to be written with one statement."""

    def __init__(self) -> None:
        self._changes: Counter[Key] = Counter()

    def enter(self, project_id: str, platform_id: str, platform: str, state: str, number: int = 1) -> None:
        """`number` deliveries came into `state` (negative: left it)."""
        self._changes[project_id, platform_id, platform, state] += number

    def move(self, project_id: str, platform_id: str, platform: str, before: str, after: str) -> None:
        """One delivery went from one state to another."""
        if before != after:
            self.enter(project_id, platform_id, platform, before, -1)
            self.enter(project_id, platform_id, platform, after)

    async def apply(self, connection: AsyncConnection) -> None:
        """Write the changes. Rows are touched in one order everywhere, so writers cannot deadlock."""
        rows = [
            {
                "project_id": project,
                "platform_id": account,
                "platform": platform,
                "state": state,
                "slot": SLOT,
                "count": number,
            }
            for (project, account, platform, state), number in sorted(self._changes.items())
            if number
        ]
        if rows:
            await connection.execute(_UPSERTS[connection.dialect.name], rows)


def _upsert(dialect: str) -> sqlite.Insert | postgresql.Insert:
    insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(delivery_counts)
    return insert.on_conflict_do_update(
        index_elements=["project_id", "platform_id", "state", "slot"],
        set_={"count": delivery_counts.c.count + insert.excluded.count},
    )


_UPSERTS = {dialect: _upsert(dialect) for dialect in ("sqlite", "postgresql")}


async def count_by_state(
    database: Database, *, project_id: str | None = None, platform_id: str | None = None, platform: str | None = None
) -> dict[DeliveryState, int]:
    """How many deliveries are in each state, for the whole system or narrowed down.

    Reads a handful of rows however many deliveries there are.
    """
    conditions: list[ColumnElement[bool]] = []
    for column, value in (
        (delivery_counts.c.project_id, project_id),
        (delivery_counts.c.platform_id, platform_id),
        (delivery_counts.c.platform, platform),
    ):
        if value is not None:
            conditions.append(column == value)
    query = (
        select(delivery_counts.c.state, func.sum(delivery_counts.c.count))
        .where(*conditions)
        .group_by(delivery_counts.c.state)
    )
    async with database.read() as connection:
        rows = await connection.execute(query)
    counts = dict.fromkeys(DeliveryState, 0)
    counts.update({DeliveryState(state): int(number) for state, number in rows})
    return counts


async def count_by_platform(database: Database, project_id: str) -> list[tuple[str, DeliveryState, int]]:
    """A project's deliveries by platform name and state, largest platform name first in order."""
    query = (
        select(delivery_counts.c.platform, delivery_counts.c.state, func.sum(delivery_counts.c.count))
        .where(delivery_counts.c.project_id == project_id)
        .group_by(delivery_counts.c.platform, delivery_counts.c.state)
        .order_by(delivery_counts.c.platform, delivery_counts.c.state)
    )
    async with database.read() as connection:
        rows = await connection.execute(query)
    return [(platform, DeliveryState(state), int(number)) for platform, state, number in rows if number]

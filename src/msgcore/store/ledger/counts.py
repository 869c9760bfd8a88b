"""Counts of deliveries by state, kept in the transactions that change states."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy import CTE, ColumnElement, CompoundSelect, Connection, SmallInteger, bindparam, case, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from msgcore.core.deliveries import DeliveryState
from msgcore.store.bulk import Bulk
from msgcore.store.database import Database
from msgcore.store.tables import delivery_counts, project_platforms
from msgcore.store.tables.platforms import IS_HELD, IS_OF_PAUSED_PROJECT

SLOTS = 16
"""Rows that one count is spread over, so that transactions seldom wait for each other's row lock."""

_turns = count(os.getpid())


def next_slot() -> int:
    """Another one for each transaction: of one process, too, several run at once."""
    return next(_turns) % SLOTS


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

    def apply(self, connection: Connection) -> None:
        """Write the changes."""
        ADD_COUNTS.run(connection, self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """The changes as rows for `ADD_COUNTS`, in one order everywhere, so that writers cannot deadlock."""
        slot = next_slot()
        return [
            {
                "project_id": project,
                "platform_id": account,
                "platform": platform,
                "state": state,
                "slot": slot,
                "count": number,
            }
            for (project, account, platform, state), number in sorted(self._changes.items())
            if number
        ]


def _upsert(dialect: str) -> sqlite.Insert | postgresql.Insert:
    insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(delivery_counts)
    return insert.on_conflict_do_update(
        index_elements=["project_id", "platform_id", "state", "slot"],
        set_={"count": delivery_counts.c.count + insert.excluded.count},
    )


ADD_COUNTS = Bulk(_upsert, ("project_id", "platform_id", "platform", "state", "slot", "count"))


def add_moves(moves: CompoundSelect[*tuple[Any, ...]]) -> CTE:
    """For a statement of PostgreSQL that moves deliveries: the part that counts them.

    `moves` gives project_id, platform_id, platform, state and change; the statement is given a `slot`.
    """
    moved = moves.subquery("moves").c
    sums = (
        select(
            *(moved.project_id, moved.platform_id, moved.platform, moved.state),
            bindparam("slot", type_=SmallInteger),
            func.sum(moved.change),
        )
        .group_by(moved.project_id, moved.platform_id, moved.platform, moved.state)
        # As Python sorts, whatever the database's collation: see `CountChanges.rows`.
        .order_by(moved.project_id.collate("C"), moved.platform_id, moved.state.collate("C"))
    )
    addition = postgresql.insert(delivery_counts).from_select(
        ["project_id", "platform_id", "platform", "state", "slot", "count"], sums
    )
    return (
        addition.on_conflict_do_update(
            index_elements=["project_id", "platform_id", "state", "slot"],
            set_={"count": delivery_counts.c.count + addition.excluded.count},
        )
        .returning(delivery_counts.c.slot)
        .cte("counted")
    )


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


@dataclass(frozen=True, slots=True)
class QueueCount:
    """How many deliveries are in a state; `held` are those whose account, or its project, is off or paused."""

    state: DeliveryState
    held: bool
    number: int


async def count_queue(database: Database, project_id: str) -> list[QueueCount]:
    """A project's deliveries by state, those of held accounts apart. Reads a handful of rows, as above."""
    held = case((or_(IS_HELD, IS_OF_PAUSED_PROJECT), True), else_=False)
    query = (
        select(delivery_counts.c.state, held, func.sum(delivery_counts.c.count))
        .outerjoin(project_platforms, project_platforms.c.id == delivery_counts.c.platform_id)
        .where(delivery_counts.c.project_id == project_id)
        .group_by(delivery_counts.c.state, held)
    )
    async with database.read() as connection:
        rows = await connection.execute(query)
    return [QueueCount(DeliveryState(state), bool(is_held), int(number)) for state, is_held, number in rows]


@dataclass(frozen=True, slots=True)
class PlatformCount:
    """How many deliveries of a platform (`email`) are in a state."""

    platform: str
    state: DeliveryState
    number: int


async def count_by_platform(database: Database, project_id: str) -> list[PlatformCount]:
    """A project's deliveries by platform and state. Reads a handful of rows, as above."""
    counted = delivery_counts.c
    query = (
        select(counted.platform, counted.state, func.sum(counted.count))
        .where(counted.project_id == project_id)
        .group_by(counted.platform, counted.state)
    )
    async with database.read() as connection:
        rows = await connection.execute(query)
    return [PlatformCount(platform, DeliveryState(state), int(number)) for platform, state, number in rows]

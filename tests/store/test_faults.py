"""Which errors mean that the database is away."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from msgcore.api.errors import explain
from msgcore.core.errors import NotFoundError
from msgcore.core.ids import new_id
from msgcore.store.database import Database
from msgcore.store.faults import is_away, is_broken, is_orphan
from msgcore.store.members import insert_invite
from msgcore.store.tables import events, users
from msgcore.store.users import update_user
from servers.clock import FakeClock
from servers.patience import PATIENCE
from store.ledger_rows import NOW, PROJECT, add_project


def wrapped(cause: Exception, *, invalidated: bool = False) -> DBAPIError:
    """As SQLAlchemy wraps a driver's error: in one of its adapter, whose cause is the driver's own."""
    orig = RuntimeError(str(cause))
    orig.__cause__ = cause
    return DBAPIError("SELECT 1", {}, orig, connection_invalidated=invalidated)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionRefusedError(), True),
        (wrapped(asyncpg.CannotConnectNowError("starting up")), True),
        (wrapped(asyncpg.AdminShutdownError("shutting down")), True),
        (wrapped(asyncpg.CrashShutdownError("crashed")), True),
        (wrapped(asyncpg.TooManyConnectionsError("full")), True),
        (wrapped(asyncpg.DiskFullError("full")), True),
        (wrapped(asyncpg.ConnectionDoesNotExistError("gone")), True),
        (wrapped(ValueError("x"), invalidated=True), True),
        (wrapped(asyncpg.UndefinedColumnError("no such column")), False),
        (wrapped(ValueError("x")), False),
        (IntegrityError("INSERT", {}, Exception("twice")), False),
        (ValueError("x"), False),
    ],
)
def test_is_away(error: Exception, away: bool) -> None:
    assert is_away(error) is away


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (wrapped(asyncpg.PostgresIOError("could not read block 7")), True),
        (wrapped(asyncpg.DataCorruptedError("invalid page")), True),
        (wrapped(asyncpg.IndexCorruptedError("right sibling")), True),
        (wrapped(asyncpg.NumericValueOutOfRangeError("too large")), False),
        (wrapped(sqlite3.IntegrityError("twice")), False),
        (ValueError("x"), False),
    ],
)
def test_is_broken(error: Exception, broken: bool) -> None:
    assert is_broken(error) is broken


async def test_a_damaged_file_is_broken(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as file:
        place = "SELECT (rootpage - 1) * page_size FROM sqlite_master, pragma_page_size WHERE name = 'events'"
        (start,) = file.execute(place).fetchone()
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xee" * 100 + content[start + 100 :])
    database = Database.open(sqlite_url)
    with pytest.raises(DBAPIError) as raised:
        await database.transact(lambda connection: connection.execute(select(events)).all())
    await database.close()
    assert is_broken(raised.value)


async def test_what_belongs_to_nothing_is_not_found(database: Database) -> None:
    """A project that is deleted while something is added to it."""
    await add_project(database)
    now = FakeClock().now()
    row = {"id": new_id(), "email": "ann@example.com", "role": "viewer", "expires_at": now, "created_at": now}
    row |= {"token_hash": "x", "project_id": PROJECT}
    await add_invite(database, row)
    with pytest.raises(IntegrityError) as twice:
        await add_invite(database, row | {"id": new_id()})
    with pytest.raises(IntegrityError) as orphan:
        await add_invite(database, row | {"id": new_id(), "token_hash": "y", "project_id": "gone"})
    assert [is_orphan(error.value) for error in (twice, orphan)] == [False, True]
    assert isinstance(explain(orphan.value, "r-1"), NotFoundError)


async def add_invite(database: Database, row: dict[str, Any]) -> None:
    async with database.write() as connection:
        await insert_invite(connection, row)


@pytest.mark.parametrize("setting", ["deadlock", "serialization"])
async def test_who_is_given_up_for_another_is_told_to_come_again(postgres_url: str, setting: str) -> None:
    """Two transactions that PostgreSQL cannot both let through: a deadlock, or no order in which they would fit."""
    database = Database.open(postgres_url)
    ids = [new_id(), new_id()]
    rows = [
        {"id": id_, "email": f"{id_}@example.com", "is_admin": False, "created_at": NOW, "updated_at": NOW}
        for id_ in ids
    ]
    async with database.write() as connection:
        await connection.execute(insert(users), rows)
    both = asyncio.Barrier(2)

    async def change(first: str, second: str) -> None:
        async with database.write() as connection:
            if setting == "serialization":
                await connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
                await connection.execute(select(users))
            else:
                await connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
                await update_user(connection, first, {"name": "x"})
            await both.wait()
            await update_user(connection, second, {"name": "y"})

    async with asyncio.timeout(PATIENCE):
        outcomes = await asyncio.gather(change(*ids), change(*reversed(ids)), return_exceptions=True)
    await database.close()
    [error] = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    problem = explain(error, "r-1")
    assert (problem.status, problem.retry_after) == (503, 1.0)

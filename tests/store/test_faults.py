"""Which errors mean that the database is away."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError

from msgcore.api.errors import explain
from msgcore.core.errors import NotFoundError
from msgcore.core.ids import new_id
from msgcore.store.database import Database
from msgcore.store.faults import is_away, is_broken, is_orphan
from msgcore.store.members import insert_invite
from msgcore.store.tables import events
from servers.clock import FakeClock
from store.ledger_rows import PROJECT, add_project


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

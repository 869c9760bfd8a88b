"""Which errors mean that the database is away."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from msgcore.store.faults import is_away


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

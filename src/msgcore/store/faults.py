"""Telling a database that is away from a query that is wrong."""

from __future__ import annotations

import sqlite3

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_AWAY = (
    OperationalError,
    InterfaceError,
    PoolTimeoutError,
    OSError,
    # Raised as they are while connecting, before SQLAlchemy wraps anything.
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
)


_AWAY_STATES = ("08", "25006", "53", "57P")
"""How SQLSTATEs begin (PostgreSQL, appendix A): connection lost, read-only standby, out of resources, shutting down
or starting. SQLAlchemy gives these as errors of no particular kind."""


_PASSING_STATES = ("40", "55P03", "57014")
"""Of transactions that were given up for another's sake: deadlock, serialization, lock and statement time-outs."""


def is_passing(error: BaseException) -> bool:
    """Whether the same transaction may well succeed when it is tried again, with the database there all the time."""
    return any(state.startswith(_PASSING_STATES) for state, _ in _causes(error))


_BROKEN_STATES = ("58", "XX001", "XX002")
"""Errors of the system below, and damage to tables and indexes."""
_BROKEN_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_broken(error: BaseException) -> bool:
    """Whether the database itself is damaged, so that nothing that was to be written is to blame."""
    return any(
        state.startswith(_BROKEN_STATES) or code & 0xFF in _BROKEN_CODES  # the rest of a code says what is damaged
        for state, code in _causes(error)
    )


_ORPHAN_STATE = "23503"
_ORPHAN_CODE = sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY


def is_orphan(error: BaseException) -> bool:
    """Whether something was to be written that belongs to what is not there any more: a foreign key was broken."""
    if not isinstance(error, IntegrityError):
        return False
    return any(state == _ORPHAN_STATE or code == _ORPHAN_CODE for state, code in _causes(error))


def is_away(error: BaseException) -> bool:
    """Whether this error means that the database cannot be used just now, whatever was asked of it."""
    if isinstance(error, _AWAY):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or any(state.startswith(_AWAY_STATES) for state, _ in _causes(error))


def _causes(error: BaseException) -> list[tuple[str, int]]:
    """SQLSTATE and SQLite's code of the driver's error and of what that was raised from, as far as they have one."""
    orig = error.orig if isinstance(error, DBAPIError) else None
    causes = (orig, orig.__cause__ if orig is not None else None)
    return [(getattr(cause, "sqlstate", None) or "", getattr(cause, "sqlite_errorcode", 0)) for cause in causes]

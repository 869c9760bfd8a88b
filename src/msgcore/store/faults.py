"""Telling a database that is away from a query that is wrong."""

from __future__ import annotations

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
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


def is_away(error: BaseException) -> bool:
    """Whether this error means that the database cannot be used just now, whatever was asked of it."""
    return isinstance(error, _AWAY) or (isinstance(error, DBAPIError) and error.connection_invalidated)

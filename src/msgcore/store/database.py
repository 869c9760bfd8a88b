"""The connection to SQLite or PostgreSQL, and the two ways to use it: read and write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from msgcore.core.errors import StartupError

DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}


def database_url(text: str) -> URL:
    """The URL with the driver that MsgCore uses; Prisma's `?schema=` parameter is dropped.

    Raises StartupError for a URL that is none, or names another database.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StartupError(
            "MSGCORE_DATABASE_URL is not a database URL; "
            "use postgresql://user:password@host:5432/name or sqlite:////path/to/file"
        ) from None
    driver = DRIVERS.get(url.get_backend_name())
    if driver is None:
        raise StartupError(
            f"MSGCORE_DATABASE_URL names {url.get_backend_name()!r}; use postgresql:// or sqlite://"
        )
    return url.set(drivername=driver).difference_update_query(["schema"])


class Database:
    """An engine, with one writer at a time on SQLite (its file has one write lock)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.kind: Literal["sqlite", "postgresql"] = "sqlite" if engine.dialect.name == "sqlite" else "postgresql"
        self._write_turn = asyncio.Lock()

    @classmethod
    def open(cls, url: str, *, pool: int = 10, synchronous: str = "full") -> Database:
        """Make the engine; connects on first use."""
        parsed = database_url(url)
        if parsed.get_backend_name() != "sqlite":
            return cls(_postgres_engine(parsed, pool))
        engine = create_async_engine(parsed, pool_size=5, max_overflow=0)
        _set_pragmas(engine, synchronous)
        return cls(engine)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for queries; nothing is committed."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits when the block ends, and rolls back when it raises."""
        if self.kind == "sqlite":
            # Waiting for our turn here is fair and quick; SQLite's own busy handler sleeps.
            async with self._write_turn, self.engine.begin() as connection:
                yield connection
        else:
            async with self.engine.begin() as connection:
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _postgres_engine(url: URL, pool: int) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool,
        max_overflow=0,
        pool_pre_ping=False,
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
    )


def _set_pragmas(engine: AsyncEngine, synchronous: str) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:  # pyright: ignore[reportUnusedFunction]
        cursor: Any = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={synchronous.upper()}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=10000")
        cursor.execute("PRAGMA cache_size=-32000")
        cursor.close()

"""The connections to SQLite or PostgreSQL, and the two ways to use them: read and write."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from msgcore.core.errors import StartupError
from msgcore.store.sqlite import SqliteThread, sqlite_reader, sqlite_writer

T = TypeVar("T")

DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}

PRISMA = frozenset({"schema", "connection_limit", "pool_timeout", "connect_timeout"})
"""Parameters of the original's database URLs that say nothing to us."""

CONNECT_SECONDS = 10

GONE_AFTER = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 25_000}
"""Options of the sockets: a server that went without a word is known to be away after 25 s. Else whoever waits for its
answer just then, to read what came say, would wait for ever."""

BATCHES_AT_ONCE = 4
"""Of one kind, on PostgreSQL: the next need not wait for the round trips of the one before it."""


def database_url(text: str) -> URL:
    """The URL with the driver that MsgCore uses, and its parameters as that driver names them.

    Raises StartupError for a URL that is none, names another database, holds an unknown parameter,
    or is SQLite without a file (every connection would see a database of its own).
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
        raise StartupError(f"MSGCORE_DATABASE_URL names {url.get_backend_name()!r}; use postgresql:// or sqlite://")
    url = url.set(drivername=driver)
    if driver == DRIVERS["sqlite"]:
        if not url.database or url.database.startswith((":memory:", "file:")):
            raise StartupError("MSGCORE_DATABASE_URL names no SQLite file; use sqlite:////path/to/file")
        return url
    return _postgres_url(url)


def _postgres_url(url: URL) -> URL:
    query = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items() if name not in PRISMA}
    unknown = sorted(query.keys() - {"ssl", "host", "port"})
    if unknown:
        raise StartupError(
            f"MSGCORE_DATABASE_URL has the unknown parameter {unknown[0]!r}; allowed are sslmode and host"
        )
    return url.set(query=query)


class Database:
    """The ways to the data: `read` for queries, `write` and `transact` for transactions."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, thread: SqliteThread | None = None) -> None:
        self.engine = writer
        self._thread = thread
        self.kind: Literal["sqlite", "postgresql"] = "sqlite" if writer.dialect.name == "sqlite" else "postgresql"
        self._reader = reader
        self._write_turn = asyncio.Lock()

    @classmethod
    def open(cls, url: str, *, pool: int = 10, synchronous: str = "full") -> Database:
        """Make the engines; they connect on first use.

        `pool` is how many connections PostgreSQL gets, `synchronous` the SQLite pragma.
        """
        parsed = database_url(url)
        if parsed.get_backend_name() == "sqlite":
            thread = SqliteThread(parsed, synchronous)
            return cls(sqlite_writer(parsed, synchronous), sqlite_reader(parsed, synchronous), thread)
        engine = postgres_engine(parsed, pool_size=pool, max_overflow=0)
        # Single queries need no transaction: this saves the round trips of its BEGIN and ROLLBACK.
        return cls(engine, engine.execution_options(isolation_level="AUTOCOMMIT"))

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """A connection for queries, each of which sees what is committed when it starts.

        SQLite refuses to write on it. PostgreSQL commits each statement by itself: only what is a whole
        transaction in one statement may write here.
        """
        async with self._reader.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that commits when the block ends, and rolls back when it raises."""
        if self.kind == "sqlite":
            # Waiting for our turn here is fair and quick; SQLite's own busy handler sleeps.
            async with self._write_turn, self.engine.begin() as connection:
                yield connection
        else:
            async with self.engine.begin() as connection:
                yield connection

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run a function over a plain (blocking) connection in a transaction; for the hot paths.

        It commits when the function returns and rolls back when it raises. On SQLite the function
        runs on another thread, so it must touch nothing that changes meanwhile.
        """
        if self._thread is None:
            async with self.engine.begin() as connection:
                return await connection.run_sync(work)
        async with self._write_turn:
            return await self._thread.run(work)

    async def execute_at_once(self, text: str, arguments: tuple[Any, ...]) -> None:
        """Run one statement of PostgreSQL that is a transaction by itself: one round trip instead of three or more."""
        async with self._reader.connect() as connection:
            await connection.exec_driver_sql(text, arguments)

    @property
    def parallel(self) -> int:
        """How many of a process's batches gain from transactions side by side: SQLite has one writer."""
        return 1 if self.kind == "sqlite" else BATCHES_AT_ONCE

    def connections(self) -> dict[str, int]:
        """How many connections are `in_use` and how many `idle`, over all pools."""
        pools = {id(engine.pool): engine.pool for engine in (self.engine, self._reader)}.values()
        queues = [pool for pool in pools if isinstance(pool, QueuePool)]
        return {
            "in_use": sum(pool.checkedout() for pool in queues),
            "idle": sum(pool.checkedin() for pool in queues),
        }

    def unusable(self, error: Exception) -> StartupError:
        """What to tell the operator when connecting raised this OSError or SQLAlchemyError; without the password."""
        url = self.engine.url
        reason = _reason(getattr(error, "orig", None) or error)
        if self.kind == "sqlite":
            return StartupError(
                f"cannot open the database {url.database}: {reason}; MsgCore must be able to write the file and its "
                "folder, which MSGCORE_DATABASE_URL or MSGCORE_DATA_DIR names"
            )
        return StartupError(f"MSGCORE_DATABASE_URL: cannot connect to {url.host}:{url.port or 5432}: {reason}")

    async def close(self) -> None:
        """Close every connection."""
        await self._reader.dispose()
        await self.engine.dispose()
        if self._thread is not None:
            await self._thread.close()


def _reason(cause: Exception) -> str:
    """The first line of what went wrong; of the operating system's errors in its own words."""
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).splitlines()[0]


def postgres_engine(url: URL, **options: Any) -> AsyncEngine:
    """An engine for a URL of `database_url`; `options` are those of SQLAlchemy's create_engine."""
    connecting = {"timeout": CONNECT_SECONDS, "server_settings": {"application_name": "msgcore"}}
    # What was to be stored is in no error: messages of people would stand in the log.
    engine = create_async_engine(url, connect_args=connecting, hide_parameters=True, **options)
    event.listen(engine.sync_engine, "connect", _keep_an_eye_on)
    return engine


def _keep_an_eye_on(connection: Any, _record: ConnectionPoolEntry) -> None:
    """Have the system ask, while nothing comes, whether the server is still there; the driver does not."""
    server: socket.socket = connection.driver_connection._transport.get_extra_info("socket")  # noqa: SLF001 - no other way
    if server.family == socket.AF_UNIX:
        return
    server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in GONE_AFTER.items():
        if (option := getattr(socket, name, None)) is not None:  # systems differ
            server.setsockopt(socket.IPPROTO_TCP, option, value)

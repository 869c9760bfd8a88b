"""The connections to a SQLite file: one that writes for asyncio code, some that read, and one on a thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from msgcore.core.private_files import FILE_MODE, keep_private

T = TypeVar("T")

BUSY_SECONDS = 10
"""How long to wait for another process that writes."""

BLOCKING_DRIVER = "sqlite+pysqlite"

_OPTIONS: dict[str, Any] = {
    # None switches off the transactions of Python's driver.
    "connect_args": {"isolation_level": None},
    # What was to be stored is in no error: messages of people would stand in the log.
    "hide_parameters": True,
}


def sqlite_writer(url: URL, synchronous: str) -> AsyncEngine:
    """An engine with one connection, whose transactions take the write lock at their start."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0, **_OPTIONS)
    _set_pragmas(engine.sync_engine, synchronous)
    _begin_immediately(engine.sync_engine)
    return engine


def sqlite_reader(url: URL, synchronous: str) -> AsyncEngine:
    """An engine whose connections refuse to write."""
    engine = create_async_engine(url, pool_size=4, max_overflow=0, skip_autocommit_rollback=True, **_OPTIONS)
    _set_pragmas(engine.sync_engine, synchronous, "query_only=ON")
    return engine


class SqliteThread:
    """A thread with a connection of its own, where a whole transaction costs one hop there and back.

    A connection for asyncio code makes such a hop for each statement, and each waits for the event
    loop to let go of the interpreter.
    """

    def __init__(self, url: URL, synchronous: str) -> None:
        self._engine = create_engine(url.set(drivername=BLOCKING_DRIVER), pool_size=1, max_overflow=0, **_OPTIONS)
        _set_pragmas(self._engine, synchronous)
        _begin_immediately(self._engine)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function in a transaction there."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _transact(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)


def _set_pragmas(engine: Engine, synchronous: str, *more: str) -> None:
    pragmas = (f"synchronous={synchronous.upper()}", "foreign_keys=ON", "cache_size=-32000", *more)

    @event.listens_for(engine, "do_connect")
    def before_connect(*_arguments: object) -> None:  # pyright: ignore[reportUnusedFunction]
        _close_to_others(Path(engine.url.database or ""))

    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:  # pyright: ignore[reportUnusedFunction]
        try:
            cursor: Any = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS}")
            _switch_to_wal(cursor)
            for pragma in pragmas:
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()
        except BaseException:
            connection.close()  # nobody else knows of it yet, and it has a thread
            raise


def _close_to_others(path: Path) -> None:
    """Make the file for its owner alone if it is missing, and close it, and what lies beside it, if it is not.

    SQLite gives the files beside it the same mode. One that is there is never opened: closing it again would end all
    locks of this process on it.
    """
    with suppress(OSError):  # connecting meets the same, and says what is wrong; so does who may not change a mode
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
    for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(OSError):
            keep_private(each)


def _switch_to_wal(cursor: Any) -> None:
    """Turn on the write-ahead log. Of processes that do so at once on a new file, SQLite fails all but one at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_immediately(engine: Engine) -> None:
    # The driver's own BEGIN comes late (not before DDL, SELECT or WITH) and takes the write lock
    # later still, when another process may have written what this transaction read.
    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.exec_driver_sql("BEGIN IMMEDIATE")

"""The right to dispatch: one process at a time may work off a ledger by itself, or lead those that share it.

The lock is the operating system's or the database server's, so it ends with the process however
that ends. It is lost only when the PostgreSQL server is restarted or the connection to it breaks.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from msgcore.core.errors import StartupError
from msgcore.store.database import Database, postgres_engine

DISPATCH_LOCK = 0x6D73_6763_6F72_0003
"""Key of the PostgreSQL advisory lock. It is a session's: a pooler must not share its connection."""

ANSWER_SECONDS = 10
"""How long the server may take to answer."""

TAKEN = (
    "another MsgCore process already dispatches from this database; run only one worker, "
    "or let any number share the work: set MSGCORE_REDIS_URL for all of them"
)


API_TAKEN = (
    "another MsgCore process already serves the API from this SQLite file, and would not hear when an API key is "
    "revoked here; run only one, or let any number share a PostgreSQL database (MSGCORE_DATABASE_URL)"
)


class _Lock(Protocol):
    async def take(self) -> bool:
        """Take the lock unless it is held already; whether it is held now."""
        ...

    async def drop(self) -> None:
        """Give it back."""
        ...


class DispatchLock:
    """The exclusive right to dispatch, held until `release` or the end of the process."""

    def __init__(self, lock: _Lock) -> None:
        self._lock = lock

    @classmethod
    async def acquire(cls, database: Database) -> DispatchLock:
        """Take the right. Raises StartupError when another process has it, or nobody can."""
        lock = _FileLock(database, ".lock") if database.kind == "sqlite" else _ServerLock(database)
        try:
            taken = await lock.take()
        except (OSError, SQLAlchemyError) as error:
            raise database.unusable(error) from None
        if not taken:
            raise StartupError(TAKEN)
        return cls(lock)

    async def check(self) -> None:
        """Take the right again if it got lost. Raises StartupError when another process has it now.

        While the database server does not answer, nobody can dispatch, so that is no reason to give up.
        """
        with suppress(OSError, SQLAlchemyError):
            if not await self._lock.take():
                raise StartupError(TAKEN)

    async def release(self) -> None:
        """Give the right back."""
        await self._lock.drop()


@asynccontextmanager
async def serving_alone(database: Database) -> AsyncGenerator[None]:
    """While this process serves the API: on a SQLite file no other one does. Raises StartupError where one does."""
    if database.kind != "sqlite":
        yield
        return
    lock = _FileLock(database, ".api.lock")
    try:
        taken = await lock.take()
    except OSError as error:
        raise database.unusable(error) from None
    if not taken:
        raise StartupError(API_TAKEN)
    try:
        yield
    finally:
        await lock.drop()


class Leadership:
    """Which of the processes that share a scheduler feeds it: the one that has the dispatch lock.

    A process that dispatches by itself has the same lock, so the two ways never mix.
    """

    def __init__(self, database: Database) -> None:
        self._lock = _ServerLock(database)

    async def holds(self) -> bool:
        """Whether this process leads now; it does from then on if nobody else does.

        Raises what the database raises when it does not answer: then nobody leads.
        """
        return await self._lock.take()

    async def release(self) -> None:
        """Let another process lead."""
        await self._lock.drop()


class _ServerLock:
    """A PostgreSQL advisory lock on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._engine = postgres_engine(database.engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._connection: AsyncConnection | None = None

    async def take(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._connection is None:
                    return await self._connect()
                await self._connection.execute(select(1))  # as long as the session lives, it has the lock
                return True
        except BaseException:
            await self._abandon()
            raise

    async def drop(self) -> None:
        if self._connection is not None:
            with suppress(OSError, SQLAlchemyError):  # a broken session has lost the lock anyway
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._connection.execute(select(func.pg_advisory_unlock(DISPATCH_LOCK)))
            await self._abandon()

    async def _connect(self) -> bool:
        self._connection = await self._engine.connect()
        taken = bool(await self._connection.scalar(select(func.pg_try_advisory_lock(DISPATCH_LOCK))))
        if not taken:
            await self._abandon()
        return taken

    async def _abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()


class _FileLock:
    """A lock on a file beside the SQLite file. The file stays: deleting it would let two in."""

    def __init__(self, database: Database, suffix: str) -> None:
        self._path = Path(f"{Path(database.engine.url.database or '').resolve()}{suffix}")
        self._descriptor: int | None = None

    async def take(self) -> bool:
        if self._descriptor is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            if not _lock_file(descriptor):
                os.close(descriptor)
                return False
            self._descriptor = descriptor
        return True

    async def drop(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock_file(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _lock_file(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

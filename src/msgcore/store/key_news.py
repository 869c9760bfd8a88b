"""News of API keys that ended, from the transaction that ended them to every process that keeps what it read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from msgcore.core.tasks import end
from msgcore.store.database import Database, postgres_engine

CHANNEL = "msgcore_keys"
RETRY_SECONDS = 1.0
CHECK_SECONDS = 2.0
"""How often it is checked that the connection still is one."""
ANSWER_SECONDS = 2.0

log = structlog.stdlib.get_logger(__name__)


async def tell_key(connection: AsyncConnection, key_id: str) -> None:
    """A key ends, with the commit of this transaction."""
    await _tell(connection, f"key:{key_id}")


async def tell_project(connection: AsyncConnection, project_id: str) -> None:
    """All keys of a project end, with the commit of this transaction."""
    await _tell(connection, f"project:{project_id}")


async def _tell(connection: AsyncConnection, news: str) -> None:
    if connection.dialect.name == "postgresql":  # one process alone serves a SQLite file (`lock`)
        await connection.execute(select(func.pg_notify(CHANNEL, news)))


class KeyNews:
    """Hears of keys that ended in any process. On a connection of its own, which a pooler must not share."""

    def __init__(
        self,
        database: Database,
        *,
        on_key: Callable[[str], None],
        on_project: Callable[[str], None],
        on_hearing: Callable[[bool], None],
    ) -> None:
        """`on_hearing` is told from when on everything is heard, and from when on it is not."""
        self._database = database
        self._tellers = {"key": on_key, "project": on_project}
        self._on_hearing = on_hearing
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to hear."""
        if self._database.kind == "sqlite":
            self._on_hearing(True)
        else:
            self._task = asyncio.create_task(self._run(), name="key-news")

    async def stop(self) -> None:
        """Hear nothing more."""
        await end(self._task)

    async def _run(self) -> None:
        engine = postgres_engine(self._database.engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        while True:
            try:
                await self._listen(await engine.connect())
            except Exception as error:  # noqa: BLE001 - whatever it was, deafness is not an answer
                log.warning("key_news_lost", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, connection: AsyncConnection) -> None:
        """Hear until the connection ends."""
        ended = asyncio.Event()
        try:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            driver.add_termination_listener(_setter(ended))
            await driver.add_listener(CHANNEL, self._heard)
            self._on_hearing(True)
            while not ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_SECONDS):
                        await ended.wait()
                        return
                async with asyncio.timeout(ANSWER_SECONDS):
                    await driver.execute(f"LISTEN {CHANNEL}")  # as it does already
        finally:
            self._on_hearing(False)
            with suppress(OSError, SQLAlchemyError):
                await connection.invalidate()
                await connection.close()

    def _heard(self, *told: Any) -> None:
        kind, _, name = str(told[-1]).partition(":")
        if kind in self._tellers:
            self._tellers[kind](name)


def _setter(event: asyncio.Event) -> Callable[[object], None]:
    return lambda _: event.set()

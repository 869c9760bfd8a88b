"""When API keys were last used: noted in memory, written in the background."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context
from datetime import datetime, timedelta

import structlog

from msgcore.store.api_keys import touch_keys
from msgcore.store.database import Database

PRECISION = timedelta(minutes=1)
"""A key's time is written at most this often by one process."""

_GATHER_SECONDS = 1.0

log = structlog.stdlib.get_logger(__name__)


class KeyUsage:
    """Collects which keys are used, and writes them down together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[str, datetime] = {}
        self._unwritten: set[str] = set()
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def note(self, key_id: str, now: datetime) -> None:
        """A key was used."""
        last = self._noted.get(key_id)
        if last is not None and now - last < PRECISION:
            return
        self._noted[key_id] = now
        self._unwritten.add(key_id)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon(), name="key-usage", context=Context())

    async def close(self) -> None:
        """Write what is noted now."""
        self._closing.set()
        if self._writer is not None:
            await self._writer

    async def _write_soon(self) -> None:
        """Until all is written: keys are also used while others are being written down."""
        while self._unwritten:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_SECONDS):
                    await self._closing.wait()
            await self._write()

    async def _write(self) -> None:
        used = {key_id: self._noted[key_id] for key_id in self._unwritten}
        self._unwritten.clear()
        newest = max(used.values())
        self._noted = {key_id: moment for key_id, moment in self._noted.items() if newest - moment < PRECISION}
        try:
            async with self._database.write() as connection:
                await touch_keys(connection, used)
        except Exception as error:  # noqa: BLE001 - that a key was used is not worth a stop that fails
            log.warning("key_usage_not_written", keys=len(used), error=type(error).__name__)

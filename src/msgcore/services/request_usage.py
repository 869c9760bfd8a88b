"""What API keys are used for: counted in memory at each request, and written together in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import structlog

from msgcore.core.clock import Clock
from msgcore.core.ids import new_id
from msgcore.store.bulk import CHUNK
from msgcore.store.database import Database
from msgcore.store.key_usage import add_usage

MOST_COUNTED = 10_000
"""Combinations of key, endpoint and status that are kept until they are written; what is beyond is not counted."""

GATHER_SECONDS = 2.0
"""How long requests are counted before they are written. They count for the hour in which that began."""

log = structlog.stdlib.get_logger(__name__)


class _What(NamedTuple):
    key_id: str
    endpoint: str
    method: str
    status: int


class _Tally:
    """How many requests, and how long they took."""

    __slots__ = ("address", "longest", "requests", "seconds")

    def __init__(self) -> None:
        self.requests = 0
        self.seconds = 0.0
        self.longest = 0.0
        self.address: str | None = None

    def add(self, other: _Tally) -> None:
        """Count what another one did, which is newer."""
        self.requests += other.requests
        self.seconds += other.seconds
        self.longest = max(self.longest, other.longest)
        self.address = other.address


class RequestUsage:
    """Counts requests of API keys. Noting one costs a look into a dictionary; nothing waits for the database.

    What cannot be written is kept for the next time, up to `MOST_COUNTED` combinations.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._counted: dict[_What, _Tally] = {}
        self._unwritten: dict[tuple[datetime, _What], _Tally] = {}
        self._since = clock.now()
        self._lost = 0
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def note(
        self, key_id: str, method: str, endpoint: str, status: int, *, seconds: float, address: str | None
    ) -> None:
        """A request of a key was answered."""
        what = _What(key_id, endpoint, method, status)
        tally = self._counted.get(what)
        if tally is None:
            tally = self._begin(what)
            if tally is None:
                return
        tally.requests += 1
        tally.seconds += seconds
        tally.longest = max(tally.longest, seconds)
        tally.address = address

    async def close(self) -> None:
        """Write what is counted now."""
        self._closing.set()
        if self._writer is not None:
            await self._writer

    def _begin(self, what: _What) -> _Tally | None:
        if len(self._counted) + len(self._unwritten) >= MOST_COUNTED:
            self._lost += 1
            return None
        if not self._counted:
            self._since = self._clock.now()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon(), name="request-usage", context=Context())
        tally = self._counted[what] = _Tally()
        return tally

    async def _write_soon(self) -> None:
        """Until all is written, or nothing can be and the process ends."""
        while self._counted or self._unwritten:
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._closing.wait()
            is_last = self._closing.is_set()
            self._take()
            try:
                await self._write()
            except Exception as error:  # noqa: BLE001 - what is counted is not worth a request or a stop that fails
                log.warning("usage_not_written", entries=len(self._unwritten), error=type(error).__name__)
                if is_last:
                    return

    def _take(self) -> None:
        """Put what was counted to what is to be written, each under its hour."""
        hour = self._since.replace(minute=0, second=0, microsecond=0)
        counted, self._counted = self._counted, {}
        for what, tally in counted.items():
            self._unwritten.setdefault((hour, what), _Tally()).add(tally)
        if self._lost:
            log.warning("usage_not_counted", requests=self._lost, most=MOST_COUNTED)
            self._lost = 0

    async def _write(self) -> None:
        """In the order that `add_usage` asks for, a part at a time: nobody waits for the writer for long."""
        self._unwritten = dict(sorted(self._unwritten.items()))
        while part := dict(islice(self._unwritten.items(), CHUNK)):
            await add_usage(self._database, _rows(part))
            for written in part:
                del self._unwritten[written]


def _rows(tallies: Mapping[tuple[datetime, _What], _Tally]) -> list[dict[str, Any]]:
    return [
        {
            "id": new_id(),
            "api_key_id": what.key_id,
            "endpoint": what.endpoint,
            "method": what.method,
            "status_code": what.status,
            "response_time_ms": round(1000 * tally.longest),
            "timestamp": hour,
            "ip_address": (tally.address or "")[:45],
            "requests": tally.requests,
            "total_ms": round(1000 * tally.seconds),
        }
        for (hour, what), tally in tallies.items()
    ]

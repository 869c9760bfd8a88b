"""What is told of refused requests: a line of the log and one in the platform's, so few that nobody can fill either."""

from __future__ import annotations

import asyncio

import structlog
from cachetools import LRUCache

from msgcore.core.clock import Clock
from msgcore.core.ids import new_id
from msgcore.dispatch.accounts import AccountRecord
from msgcore.inbound.translation import Row, plain
from msgcore.store import inbound as store
from msgcore.store.database import Database
from msgcore.store.faults import is_away

log = structlog.stdlib.get_logger(__name__)

MOST_LINES = 10
"""Of one account within `PERIOD` seconds; how many more there were is told with the next line after those."""
PERIOD = 60.0
MOST_ACCOUNTS = 10_000
MOST_WAITING = 1000
"""Lines that wait to be stored; while the database is away, those beyond are in the server's log only."""


class _Told:
    """What was told of an account since a moment."""

    __slots__ = ("left_out", "lines", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.lines = 0
        self.left_out = 0


class RefusalLog:
    """Notes refused requests. Lines are stored after the answer, which does not depend on that."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._told = LRUCache[str, _Told](MOST_ACCOUNTS)
        self._waiting: list[Row] = []
        self._storing: asyncio.Task[None] | None = None

    def note(self, record: AccountRecord, status: int, reason: str) -> None:
        """A request to an account was answered with this status; `reason` holds no secrets."""
        now = self._clock.monotonic()
        told = self._told.get(record.id)
        left_out = 0
        if told is None or now - told.since >= PERIOD:
            left_out = 0 if told is None else told.left_out
            told = self._told[record.id] = _Told(now)
        if told.lines == MOST_LINES:
            told.left_out += 1
            return
        told.lines += 1
        about = {"status": status} | ({"leftOut": left_out} if left_out else {})
        log.warning("inbound_refused", platform=record.platform, platform_id=record.id, reason=reason, **about)
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(self._line(record, reason, about))
            if self._storing is None or self._storing.done():
                self._storing = asyncio.create_task(self._store(), name="refusals")

    async def stop(self) -> None:
        """Store what waits, unless the database is away."""
        if self._storing is not None:
            await asyncio.wait([self._storing])

    async def _store(self) -> None:
        while self._waiting:
            rows, self._waiting = self._waiting, []
            try:
                await self._database.transact(lambda connection, rows=rows: store.log(connection, rows))
            except Exception as error:
                if not is_away(error):
                    log.exception("refusals_not_stored", lines=len(rows))

    def _line(self, record: AccountRecord, reason: str, about: Row) -> Row:
        return {
            "id": new_id(),
            "project_id": record.project_id,
            "platform_id": record.id,
            "platform": record.platform,
            "level": "warn",
            "category": "webhook",
            "message": "A request was refused",
            "metadata": about,
            "error": plain(reason),
            "timestamp": self._clock.now(),
        }

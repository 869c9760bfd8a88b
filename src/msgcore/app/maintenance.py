"""What is done to the database every few hours, in every process."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from msgcore.core.clock import Clock
from msgcore.core.tasks import end
from msgcore.store.database import Database
from msgcore.store.partitions import ensure_partitions
from msgcore.store.retention import forget_old
from msgcore.store.sign_in_attempts import forget_attempts

log = structlog.stdlib.get_logger(__name__)

MAINTENANCE_SECONDS = 6 * 3600.0


class Maintenance:
    """Makes coming months' partitions long before they are needed, and lets old events go."""

    def __init__(self, database: Database, clock: Clock, *, event_days: int) -> None:
        self._database = database
        self._clock = clock
        self._event_days = event_days
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="maintenance")

    async def stop(self) -> None:
        """End; whoever starts next goes on."""
        await end(self._task)

    async def _run(self) -> None:
        while True:
            try:
                await ensure_partitions(self._database, self._clock.now())
                while await forget_attempts(self._database, self._clock.now()):
                    continue
                await forget_old(self._database, self._clock.now() - timedelta(days=self._event_days))
            except Exception:  # the months ahead leave time for many more tries
                log.warning("maintenance_failed", exc_info=True)
            await asyncio.sleep(MAINTENANCE_SECONDS)

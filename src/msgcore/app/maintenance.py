"""What is done to the database every few hours, in every process."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from msgcore.config import Settings
from msgcore.core.clock import Clock
from msgcore.core.tasks import end
from msgcore.store.database import Database
from msgcore.store.partitions import ensure_partitions
from msgcore.store.retention import Kept, forget_old
from msgcore.store.sessions import purge_sessions
from msgcore.store.sign_in_attempts import forget_attempts

log = structlog.stdlib.get_logger(__name__)

MAINTENANCE_SECONDS = 6 * 3600.0


class Maintenance:
    """Makes coming months' partitions long before they are needed, and lets go what is kept for a time only."""

    def __init__(self, database: Database, clock: Clock, settings: Settings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
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
                while await purge_sessions(self._database, self._clock.now()):
                    continue
                await forget_old(self._database, self._kept())
            except Exception:  # the months ahead leave time for many more tries
                log.warning("maintenance_failed", exc_info=True)
            await asyncio.sleep(MAINTENANCE_SECONDS)

    def _kept(self) -> Kept:
        now, settings = self._clock.now(), self._settings
        return Kept(
            events=now - timedelta(days=settings.event_days),
            audit=now - timedelta(days=settings.audit_days),
            usage=now - timedelta(days=settings.usage_days),
        )

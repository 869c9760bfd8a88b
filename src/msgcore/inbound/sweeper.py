"""The sweeper: takes out of the blob store what is too old, and what no message has any more.

A message may go with its project, its platform or by itself, and a process may end between storing a file and
writing down whose it is: so the store is gone through, and not each deletion followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from msgcore.blobs.store import BlobError, BlobStore
from msgcore.core.clock import Clock
from msgcore.core.tasks import end
from msgcore.store import attachments as store
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.ledger.feed import NIL

log = structlog.stdlib.get_logger(__name__)

SWEEP_SECONDS = 3600.0
GRACE = timedelta(hours=6)
"""How long a file may be in the store before the message that has it is written down."""
PAGE = 500


class Sweeper:
    """Goes through the blob store now and then. Only the process for which `leads` says so does."""

    def __init__(
        self, *, database: Database, blobs: BlobStore, clock: Clock, days: int, leads: Callable[[], bool]
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._days = days
        self._leads = leads
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def stop(self) -> None:
        """End; what is left is swept the next time."""
        await end(self._task)

    async def sweep(self) -> int:
        """Go through it once, oldest files first; how many were deleted. Raises BlobError."""
        now = self._clock.now()
        deleted = 0
        old = await store.oldest_blobs(self._database, now - timedelta(days=self._days), PAGE)
        while old:
            await store.expire(self._database, old, f"files are kept for {self._days} days")
            deleted += await self._delete(old)
            old = await store.oldest_blobs(self._database, now - timedelta(days=self._days), PAGE)
        ids, unused = await store.blobs_after(self._database, NIL, now - GRACE, PAGE)
        while ids:
            deleted += await self._delete(sorted(unused))
            ids, unused = await store.blobs_after(self._database, ids[-1], now - GRACE, PAGE)
        return deleted

    async def _delete(self, ids: Sequence[str]) -> int:
        """In this order: one that is interrupted is deleted again."""
        if ids:
            await self._blobs.delete(ids)
            await store.forget(self._database, ids)
        return len(ids)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                if self._leads() and (deleted := await self.sweep()):
                    log.info("blobs_swept", deleted=deleted)
            except BlobError as error:
                log.error("blobs_away", error=str(error))  # noqa: TRY400 - says all there is
            except Exception as error:
                if not is_away(error):
                    log.exception("blobs_sweep_failed")

"""Feeding webhooks from the event log: each event becomes a delivery to each webhook that wants it.

The place up to which a webhook has everything moves in the transaction that makes its deliveries, so that
nothing is left out and nothing made twice, wherever a process ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from sqlalchemy import Connection

from msgcore.core.clock import Clock
from msgcore.dispatch.scheduler import SchedulerAwayError
from msgcore.inbound.bus import EventBus
from msgcore.inbound.webhook_messages import postings_of
from msgcore.store import webhook_feed as store
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.ledger.accept import AcceptLog, NewMessage

log = structlog.stdlib.get_logger(__name__)

PAGE = 100
"""Events that are handed over in one transaction: with a hundred webhooks still some ten thousand rows."""
PAGE_BYTES = 8 * 1024 * 1024
"""And about how many bytes they have, over all webhooks; the rows hold each twice."""
SWEEP_SECONDS = 2.0
"""How often the log is looked into although nobody told of anything: another process may have no way to tell."""


class WebhookFeed:
    """Makes deliveries of events. Only the process for which `leads` says so does, to save the others the work."""

    def __init__(
        self,
        *,
        database: Database,
        accept_log: AcceptLog,
        bus: EventBus,
        clock: Clock,
        leads: Callable[[], bool],
        every: float = SWEEP_SECONDS,
    ) -> None:
        self._database = database
        self._accept_log = accept_log
        self._clock = clock
        self._leads = leads
        self._every = every
        self._told: set[str] = set()
        self._news = asyncio.Event()
        self._swept_at = float("-inf")
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        bus.listen(self._hear)

    def start(self) -> None:
        """Begin to feed."""
        self._task = asyncio.create_task(self._run(), name="webhook-feed")

    async def stop(self) -> None:
        """Finish the page that is being handed over; the rest is after the next start."""
        self._stopping = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _hear(self, project_id: str) -> None:
        self._told.add(project_id)
        self._news.set()

    async def _run(self) -> None:
        while not self._stopping:
            told, self._told = self._told, set()
            self._news.clear()
            try:
                if self._leads():
                    await self._feed(await self._behind(told))
            except Exception as error:
                if not (is_away(error) or isinstance(error, SchedulerAwayError)):
                    log.exception("webhook_feed_failed")
                await self._rest()
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if self._stopping else self._every):
                    await self._news.wait()

    async def _rest(self) -> None:
        """A database that is away is not pressed, however much is told meanwhile."""
        self._swept_at = float("-inf")
        if not self._stopping:
            await asyncio.sleep(min(1.0, self._every))

    async def _behind(self, told: set[str]) -> set[str]:
        """Of those that were told of, or now and then of all."""
        now = self._clock.monotonic()
        if now - self._swept_at >= self._every:
            self._swept_at = now
            return await store.projects_behind(self._database)
        return await store.projects_behind(self._database, told) if told else set()

    async def _feed(self, projects: set[str]) -> None:
        """A page of each, and again of those that have more, so that nobody waits for another's backlog."""
        while projects and not self._stopping:
            projects = {project_id for project_id in projects if await self._feed_page(project_id)}

    async def _feed_page(self, project_id: str) -> bool:
        """Hand over a page; tells whether there is more."""
        page = _Page(project_id, self._clock)
        try:
            await self._accept_log.accept_read(page.read)
        except Exception as error:
            if is_away(error):
                raise
            log.exception("webhook_page_failed", project_id=project_id)  # the others go on; the sweep comes back
            return False
        return page.more


class _Page:
    """The next events of a project as deliveries; the transaction's function."""

    def __init__(self, project_id: str, clock: Clock) -> None:
        self._project_id = project_id
        self._clock = clock
        self.more = False

    def read(self, connection: Connection) -> Sequence[NewMessage]:
        behind = store.take(connection, self._project_id, PAGE, PAGE_BYTES)
        now = self._clock.now()
        made = [
            posting
            for event in behind.events
            for posting in postings_of([w for w in behind.webhooks if w.sequence < event.sequence], event, now)
        ]
        store.add_deliveries(connection, [posting.row for posting in made])
        store.move_on(connection, behind)
        self.more = behind.more
        return [posting.message for posting in made]

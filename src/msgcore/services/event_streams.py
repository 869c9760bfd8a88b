"""Following a project's events: what is there, and then each as it comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Literal

import msgspec

from msgcore.core.errors import FieldError, InvalidInputError, TooManyStreamsError
from msgcore.inbound.bus import EventBus
from msgcore.inbound.tail import PAGE, EventTail
from msgcore.security.links import AttachmentLinks
from msgcore.store import events as store
from msgcore.store.database import Database
from msgcore.store.events import Event, Log

LOOK_SECONDS = 5.0
"""How often the log is looked into although nobody told of anything: another process may have no way to tell."""


FULL_SECONDS = 5.0
"""When to come again if too many follow."""

StreamKind = Literal["sse", "websocket", "poll"]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: of a project, of these types (none: of all), of one configured platform, of one chat."""

    project_id: str
    types: tuple[str, ...] = ()
    platform_id: str = ""
    chat_id: str = ""

    def takes(self, event: Event) -> bool:
        """Whether an event of the project is one of these."""
        return (
            (not self.types or event.type in self.types)
            and self.platform_id in ("", event.platform_id)
            and self.chat_id in ("", event.data.get("chat_id"))
        )


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order, and the place to go on after: that of the last one that was looked at.

    `more`: there may be more behind them already.
    """

    events: Sequence[Event]
    last: int
    more: bool


@dataclass(frozen=True, slots=True)
class Start:
    """Where following begins: after a place of a log, whose `newest` event is there already."""

    log: Log
    after: int
    newest: int


class EventStreamService:
    """Reads the event log for subscribers that come to us: streams, and long polling."""

    def __init__(
        self,
        *,
        database: Database,
        bus: EventBus,
        links: AttachmentLinks,
        most: int = 4096,
        most_of_project: int = 1000,
    ) -> None:
        """At most so many may follow at the same time, of all projects together and of one."""
        self._database = database
        self._bus = bus
        self._links = links
        self._tail = EventTail(database)
        self._ending = asyncio.Event()
        self._guests = 0
        self._most = most
        self._most_of_project = most_of_project
        self._of_projects: Counter[str] = Counter()
        self.open: Counter[str] = Counter({"sse": 0, "websocket": 0, "poll": 0})
        self._all_left = asyncio.Event()

    async def end(self, seconds: float) -> None:
        """Let all who follow or wait go, since the process stops; returns when they left, at most so much later."""
        self._ending.set()
        self._bus.wake_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._guests:
                    self._all_left.clear()
                    await self._all_left.wait()

    def require_room(self, project_id: str) -> None:
        """Raises TooManyStreamsError when one more would be too many."""
        if self._of_projects[project_id] >= self._most_of_project:
            message = (
                f"the project has {self._most_of_project} streams open here: close some, or let the server's "
                "administrator raise MSGCORE_PROJECT_STREAMS"
            )
        elif self.open.total() >= self._most:
            message = (
                f"{self._most} streams are open at this server: its administrator can raise MSGCORE_MAX_CONNECTIONS"
            )
        else:
            return
        raise TooManyStreamsError(message, retry_after=FULL_SECONDS)

    @contextmanager
    def counted(self, kind: StreamKind, project_id: str) -> Generator[None]:
        """Around following events in this way, for `open`. Raises TooManyStreamsError."""
        self.require_room(project_id)
        self.open[kind] += 1
        self._of_projects[project_id] += 1
        try:
            yield
        finally:
            self.open[kind] -= 1
            self._of_projects[project_id] -= 1
            if not self._of_projects[project_id]:
                del self._of_projects[project_id]

    @contextmanager
    def attending(self) -> Generator[None]:
        """Around what a subscriber does whose leave-taking is waited for when the process stops."""
        self._guests += 1
        try:
            yield
        finally:
            self._guests -= 1
            if not self._guests:
                self._all_left.set()

    async def ends_within(self, seconds: float) -> bool:
        """Wait for so long; whether the process stops."""
        try:
            async with asyncio.timeout(seconds):
                return await self._ending.wait()
        except TimeoutError:
            return False

    async def start_of(self, wanted: EventFilter, after: int | None) -> Start:
        """Where to begin: after the place that the subscriber names, else at the end of the log.

        Raises InvalidInputError for a place that the log has not reached.
        """
        bounds = await store.bounds(self._database, wanted.project_id)
        if after is None:
            return Start(bounds.log, bounds.newest, bounds.newest)
        if after > bounds.newest:
            text = f"after is {after}, but the newest event of the project is {bounds.newest}"
            raise InvalidInputError.of([FieldError("/query/after", text)])
        return Start(bounds.log, after, bounds.newest)

    async def page(self, wanted: EventFilter, start: Start, *, limit: int, seconds: float) -> EventPage:
        """The next events, at most `limit`; where there are none yet, waits for up to so many seconds."""
        after, deadline = start.after, monotonic() + seconds
        async with self._bus.subscribe(wanted.project_id) as news:
            while True:
                page = await self._read(wanted, start.log, after, limit)
                left = deadline - monotonic()
                if page.events or left <= 0 or self._ending.is_set():
                    # The page may be from memory, where others read on meanwhile.
                    return replace(page, more=page.more or page.last < start.newest)
                if not page.more:
                    await news.wait(min(left, LOOK_SECONDS))
                after = page.last

    async def follow(self, wanted: EventFilter, start: Start, *, idle: float) -> AsyncGenerator[EventPage]:
        """Each page as it comes, until the process stops; an empty one after each `idle` seconds without any."""
        after, spoken = start.after, monotonic()
        async with self._bus.subscribe(wanted.project_id) as news:
            while not self._ending.is_set():
                page = await self._read(wanted, start.log, after, PAGE)
                after = page.last
                if page.events or monotonic() - spoken >= idle:
                    yield page
                    spoken = monotonic()
                if not page.more:
                    await news.wait(min(idle, LOOK_SECONDS))

    async def _read(self, wanted: EventFilter, log: Log, after: int, limit: int) -> EventPage:
        """The next events that are wanted, of those that are next."""
        stretch = await self._tail.read(log, after)
        found = stretch.events[:limit]
        last = found[-1].sequence if found else after
        more = stretch.more or len(found) < len(stretch.events)
        shown = [self._shown(event) for event in found if wanted.takes(event)]
        return EventPage(shown, last, more)

    def _shown(self, event: Event) -> Event:
        """An event whose files have addresses of now; the event itself is shared by all who follow."""
        fresh: Any = self._links.refresh(event.data)
        return event if fresh is event.data else msgspec.structs.replace(event, data=fresh)

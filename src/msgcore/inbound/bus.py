"""The bus: wakes those who wait for a project's next events. It carries no events: those are in the log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Self

import structlog

from msgcore.core.tasks import end
from msgcore.dispatch.redis import RedisConnection
from msgcore.dispatch.scheduler import SchedulerAwayError

log = structlog.stdlib.get_logger(__name__)

RETRY_SECONDS = 1.0
GATHER_SECONDS = 0.05
"""How long news is gathered while it comes in a stream: each telling has whoever follows ask the database."""


class EventBus:
    """Between whoever appends events and whoever waits for them, in this process and over Redis in the others.

    What is not heard, because Redis is away or there is none between several processes, is found by
    looking into the log every now and then. What Redis did not take is told as soon as it takes it.
    """

    def __init__(self, redis: RedisConnection | None = None) -> None:
        self._redis = redis
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listeners: list[Callable[[str], None]] = []
        self._listening: asyncio.Task[None] | None = None
        self._untold: set[str] = set()
        self._telling: asyncio.Task[None] | None = None
        self._gathered: set[str] = set()
        self._gathering = False

    def start(self) -> None:
        """Begin to hear from other processes."""
        if self._redis is not None:
            self._listening = asyncio.create_task(self._listen(self._redis), name="events")

    async def stop(self) -> None:
        """Stop hearing, and let everybody who waits go."""
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=RETRY_SECONDS)
        await end(self._telling)
        await end(self._listening)
        self.wake_all()

    def announce(self, project_ids: Iterable[str]) -> None:
        """There are new events of these projects, committed."""
        ids = list(project_ids)
        self._wake(ids)
        if self._redis is not None and ids:
            self._untold.update(ids)
            if self._telling is None or self._telling.done():
                self._telling = asyncio.create_task(self._tell(self._redis), name="tell of events")

    def announce_soon(self, project_ids: Iterable[str]) -> None:
        """The same, but soon after another time together with what comes until then."""
        self._gathered.update(project_ids)
        if not self._gathering:
            self._announce_gathered()

    def wake_all(self) -> None:
        """Let everybody who waits here look again."""
        self._wake(list(self._waiting))

    def subscribe(self, project_id: str) -> Subscription:
        """To be woken by a project's events from when it is entered: look into the log after that."""
        return Subscription(self, project_id)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call it with the id of each project that has news, as far as this process hears of it."""
        self._listeners.append(listener)

    def add(self, project_id: str, event: asyncio.Event) -> None:
        """Set `event` whenever there is something new."""
        self._waiting[project_id].add(event)

    def remove(self, project_id: str, event: asyncio.Event) -> None:
        """No longer."""
        waiting = self._waiting[project_id]
        waiting.discard(event)
        if not waiting:
            del self._waiting[project_id]

    def _announce_gathered(self) -> None:
        self._gathering = bool(self._gathered)
        if self._gathering:
            gathered, self._gathered = self._gathered, set()
            self.announce(gathered)
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._announce_gathered)

    def _wake(self, project_ids: Iterable[str]) -> None:
        for project_id in project_ids:
            for event in self._waiting.get(project_id, ()):
                event.set()
            for listener in self._listeners:
                listener(project_id)

    async def _tell(self, redis: RedisConnection) -> None:
        """Tell the others, of all projects that have something new at once."""
        while self._untold:
            told, self._untold = self._untold, set()
            try:
                await redis.tell(CHANNEL, SEPARATOR.join(told))
            except SchedulerAwayError:
                # They listen again sooner than this process speaks again: its connections may all be dead still.
                self._untold |= told
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, redis: RedisConnection) -> None:
        while True:
            try:
                async for told in redis.hear(CHANNEL):
                    # An empty one: the connection is new, and what was told before it was heard by nobody here.
                    self._wake(told.split(SEPARATOR) if told else list(self._waiting))
            except Exception as error:  # noqa: BLE001 - whatever it was, deafness is not an answer
                log.warning("event_news_lost", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)


CHANNEL = "events"
SEPARATOR = " "
"""Between the projects of one telling; no project's id has it."""


class Subscription:
    """One who waits for a project's events; an asynchronous context manager."""

    def __init__(self, bus: EventBus, project_id: str) -> None:
        self._bus = bus
        self._project_id = project_id
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._bus.add(self._project_id, self._news)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._bus.remove(self._project_id, self._news)

    async def wait(self, seconds: float) -> bool:
        """Whether there was news since the last time, within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

"""The newest events of projects in memory, so that many who follow one project cost one query, not one each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from cachetools import LRUCache

from msgcore.store import events as store
from msgcore.store.database import Database
from msgcore.store.events import Event, Log, is_full

PROJECTS = 1000
KEPT = 512
KEPT_BYTES = 256 * 1024
"""Events of a project, and what they may have together; whoever is farther behind reads the log."""
PAGE = 200


@dataclass(frozen=True, slots=True)
class Stretch:
    """Events that follow each other, and whether there may be `more` right behind them."""

    events: Sequence[Event]
    more: bool


class EventTail:
    """Reads the event log through what was read of it just now."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ends = LRUCache[Log, _End](PROJECTS)

    async def read(self, of: Log, after: int) -> Stretch:
        """The next events of a project's log after a place, oldest first: at most 200, and about 1 MiB."""
        end = self._ends.get(of)
        if end is None:
            end = self._ends[of] = _End()
        known = end.after(after)
        if known.events:
            return known
        async with end.lock:  # the first one reads for all who wait here
            known = end.after(after)
            if known.events:
                return known
            page = await store.read_after(self._database, of, after, limit=PAGE)
            found = Stretch(page, is_full(page, PAGE))
            end.extend(after, found)
            return found


class _End:
    """The newest events that were read of one project: without gaps, up to the last that was read."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self._events: deque[Event] = deque()
        self._size = 0
        self._more = False

    def after(self, place: int) -> Stretch:
        """Those after a place; none where what follows the place is not known here."""
        if not self._events or not self._events[0].sequence - 1 <= place < self._events[-1].sequence:
            return Stretch((), more=False)
        start = place - self._events[0].sequence + 1
        known = list(islice(self._events, start, start + PAGE))
        return Stretch(known, more=self._more or start + PAGE < len(self._events))

    def extend(self, after: int, found: Stretch) -> None:
        """Take what was read after a place, if it is not older than what is known."""
        known_to = self._events[-1].sequence if self._events else None
        if not found.events:
            self._more = self._more and known_to != after
            return
        if known_to is not None and found.events[-1].sequence <= known_to:
            return
        self._more = found.more
        if known_to != after:
            self._clear()
        for event in found.events:
            if self._events and event.sequence != self._events[-1].sequence + 1:
                self._clear()  # some between were deleted with age
            self._events.append(event)
            self._size += event.size
        while len(self._events) > KEPT or self._size > KEPT_BYTES:
            self._size -= self._events.popleft().size

    def _clear(self) -> None:
        self._events.clear()
        self._size = 0

"""A clock that moves only when a test tells it to."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count


class FakeTimer:
    """A call to come."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeClock:
    """Stands still; what waits for a moment is woken when `advance` comes to it."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._seconds = 1000.0
        self._start = start
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._sequence = count()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def call_later(self, seconds: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self._seconds + seconds, next(self._sequence), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        until = self._seconds + seconds
        while (moment := self.next_moment()) <= until:
            self._seconds = max(self._seconds, moment)
            heapq.heappop(self._timers)[2].callback()
        self._seconds = until

    def next_moment(self) -> float:
        """When the next one is woken, on the scale of `monotonic`."""
        while self._timers and self._timers[0][2].is_cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else math.inf

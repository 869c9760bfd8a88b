"""What a scheduler needs to be put through the contract suite: itself, and a hand on its clock.

A new implementation (over Redis, say) adds a harness to `HARNESSES` and passes the same tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.scheduler import Scheduler

LEASE_SECONDS = 30.0


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self._seconds = 1000.0
        self._start = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        self._seconds += seconds


class Harness(Protocol):
    scheduler: Scheduler

    async def advance(self, seconds: float) -> None: ...

    async def close(self) -> None: ...


class MemoryHarness:
    def __init__(self) -> None:
        self._clock = FakeClock()
        self.scheduler: Scheduler = MemoryScheduler(self._clock, lease_seconds=LEASE_SECONDS)

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def close(self) -> None:
        """Nothing to release."""


HARNESSES = {"memory": MemoryHarness}

"""Time, injected so that tests can move it.

Wall time is for what people read and what outlives the process (due times in the ledger);
the scheduler compares due times and leases on the monotonic clock, which never steps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """Do not call it."""
        ...


class Clock(Protocol):
    """Where the time comes from, and what waits for a moment of it."""

    def now(self) -> datetime:
        """Wall time, UTC and aware."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow, from an arbitrary start."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call it from the event loop, so many seconds from now."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return so many seconds from now."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Wall time, UTC and aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only ever grow, from an arbitrary start."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call it from the event loop, so many seconds from now."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    async def sleep(self, seconds: float) -> None:
        """Return so many seconds from now."""
        await asyncio.sleep(seconds)


def to_iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and a Z, as JavaScript clients print and expect it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

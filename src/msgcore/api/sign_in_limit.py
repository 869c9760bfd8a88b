"""A limit on sign-in attempts, so that passwords cannot be tried at leisure."""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import TTLCache

from msgcore.core.errors import QueueFullError

_ADDRESSES = 100_000


class SignInLimit:
    """Counts attempts per client address, in windows that begin with the first one."""

    def __init__(self, *, most: int, seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._timer = timer
        self._windows: TTLCache[str, list[float]] = TTLCache(_ADDRESSES, seconds, timer=timer)

    def check(self, address: str) -> None:
        """Count an attempt. Raises QueueFullError (429) with the time to wait when there were too many."""
        window = self._windows.get(address)
        if window is None:
            self._windows[address] = [self._timer()]
            return
        if len(window) >= self._most:
            raise QueueFullError(
                f"Too many sign-in attempts from this address: at most {self._most} in {self._seconds:g} seconds",
                retry_after=max(1.0, window[0] + self._seconds - self._timer()),
            )
        window.append(self._timer())

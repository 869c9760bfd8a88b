"""When a failed delivery is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").

    A delivery is given up only when both `max_attempts` and `max_age` (seconds since it was first
    due) are spent, so that an outage of an hour drops nothing (dispatch contract, point 7).
    """

    max_attempts: int = 8
    max_age: float = 24 * 3600.0
    base: float = 1.0
    cap: float = 900.0

    def spent(self, attempts: int, age: float) -> bool:
        """Whether a delivery with this many attempts and this age (seconds) is given up."""
        return attempts >= self.max_attempts and age >= self.max_age

    def delay(self, attempts: int, rng: random.Random) -> float:
        """Seconds to wait after the `attempts`-th failed attempt (1 or more)."""
        ceiling = min(self.cap, self.base * 2.0 ** min(attempts - 1, 30))
        # Full jitter, but never a hot loop: at least a tenth of the ceiling.
        return rng.uniform(ceiling / 10, ceiling)

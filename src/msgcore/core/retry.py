"""When a failed delivery is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").

    A delivery is given up only when both `max_attempts` and `max_age` (seconds since it was first
    due) are spent, so that an outage of an hour drops nothing (dispatch contract, point 7). Being
    asked to wait is no attempt, but has an end too: `max_throttles` and `max_age`.
    """

    max_attempts: int = 8
    max_age: float = 24 * 3600.0
    base: float = 1.0
    cap: float = 900.0
    max_throttles: int = 100

    def spent(self, attempts: int, age: float) -> bool:
        """Whether a delivery with this many attempts and this age (seconds) is given up."""
        return attempts >= self.max_attempts and age >= self.max_age

    def throttled_out(self, throttles: int, age: float) -> bool:
        """Whether a platform that does nothing but ask to wait has done so for long enough."""
        return throttles >= self.max_throttles and age >= self.max_age

    def throttle_delay(self, asked: float, throttles: int) -> float:
        """Seconds to wait when a platform asks for `asked` seconds for the `throttles + 1`-th time.

        Exactly what it asks, but for one that keeps asking for next to nothing.
        """
        return max(asked, min(60.0, 0.05 * 2.0 ** min(throttles, 30)))

    def delay(self, attempts: int, rng: random.Random) -> float:
        """Seconds to wait after the `attempts`-th failed attempt (1 or more)."""
        ceiling = min(self.cap, self.base * 2.0 ** min(attempts - 1, 30))
        # Full jitter, but never a hot loop: at least a tenth of the ceiling.
        return rng.uniform(ceiling / 10, ceiling)

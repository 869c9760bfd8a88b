"""The circuit breaker of one account: closed, open, or half-open with one probe at a time."""

from __future__ import annotations

from msgcore.core.deliveries import BreakerState
from msgcore.core.limits import BREAKER


class Breaker:
    """Counts troubles in a row. Times are on the scheduler's scale."""

    __slots__ = ("_cooldown", "_failures", "probing", "until")

    def __init__(self) -> None:
        self._failures = 0
        self._cooldown = 0.0
        self.until = 0.0
        self.probing = False

    def state(self, now: float) -> BreakerState | None:
        """None when closed."""
        if not self.probing:
            return None
        return BreakerState.OPEN if now < self.until else BreakerState.HALF_OPEN

    def answered(self) -> bool:
        """The platform answered; whether that closed the breaker."""
        closed, self.probing = self.probing, False
        self._failures, self._cooldown, self.until = 0, 0.0, 0.0
        return closed

    def trouble(self, now: float) -> bool:
        """The account failed once more; whether that opened the breaker.

        What was under way when it opened is no probe: those failures change nothing.
        """
        self._failures += 1
        if now < self.until or (not self.probing and self._failures < BREAKER.failures):
            return False
        self._cooldown = min(BREAKER.longest, self._cooldown * 2) or BREAKER.cooldown
        self.until = now + self._cooldown
        self.probing = True
        return True

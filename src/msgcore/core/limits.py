"""Rate budgets: what a platform publishes about how fast it may be called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """`count` calls per `period` seconds, of which `burst` may come at once (GCRA).

    The default spaces calls evenly: a burst of the whole count would let nearly twice the count
    through in a window that starts just before the burst, which platforms answer with a 429.
    """

    count: int
    period: float
    burst: int = 1

    @property
    def interval(self) -> float:
        """Seconds between calls at the steady rate (GCRA's emission interval)."""
        return self.period / self.count

    @property
    def tolerance(self) -> float:
        """How far ahead of the steady rate calls may run, in seconds (GCRA's burst tolerance)."""
        return self.interval * (self.burst - 1)


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a platform bears: budgets of the whole account and of each lane (conversation).

    `in_flight` is how many deliveries of an account may be under way at once (0: any number).
    """

    account: tuple[Budget, ...] = ()
    lane: tuple[Budget, ...] = ()
    in_flight: int = 0


UNLIMITED = RateLimits()

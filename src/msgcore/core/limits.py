"""Rate budgets: what a platform publishes about how fast it may be called."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from msgcore.core.errors import Scope


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
    """What a platform bears: budgets of the whole account, of each lane (conversation) and of each route.

    A route is a kind of call that the platform counts by itself, whatever the conversation; deliveries
    name theirs. `in_flight` is how many deliveries of an account may be under way at once (0: any number).
    `kinds` are conversations for which other limits hold.
    """

    account: tuple[Budget, ...] = ()
    lane: tuple[Budget, ...] = ()
    route: tuple[Budget, ...] = ()
    in_flight: int = 0
    kinds: tuple[LaneKind, ...] = ()

    def of_lane(self, lane: str | None) -> RateLimits:
        """What holds for the deliveries of one lane, which is named `type:id` after its target."""
        if not self.kinds or lane is None:
            return self
        target = lane[lane.find(":") + 1 :]
        return next((kind.limits for kind in self.kinds if kind.targets.match(target)), self)


@dataclass(frozen=True, slots=True)
class LaneKind:
    """Conversations whose target's id begins as `targets` says, and all limits that hold for what goes there."""

    name: str
    targets: re.Pattern[str]
    limits: RateLimits


UNLIMITED = RateLimits()


class Pace(msgspec.Struct, frozen=True):
    """What a platform said about its own budget: `remaining` calls of `scope` for the next `reset_after` seconds.

    The scheduler keeps a scope with nothing left silent until then, whatever was declared.
    """

    scope: Scope
    remaining: int
    reset_after: float


@dataclass(frozen=True, slots=True)
class Pacing:
    """How budgets are kept to the moment, although what lies between a claim and its call takes time.

    A claim looks `ahead` so many seconds and says when each call may be made, so that the worker is ready by
    then. The first call of a budget that has rested opens connections, in several processes at once where
    there are some, and comes late: the second one leaves it a tenth of the interval, at least `least_start`
    and at most `most_start` seconds. Measured with
    `python -m bench limits`; without the two, calls that came late were too close to the next for a platform
    that counts in sliding windows.
    """

    ahead: float = 0.35
    least_start: float = 0.35
    most_start: float = 0.5


PACING = Pacing()
EXACT = Pacing(0.0, 0.0, 0.0)
"""Claims give what may go out now, and nothing is added."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When an account that only fails is left alone (Nygard, "Release It!", Circuit Breaker).

    After `failures` in a row without one answer it rests for `cooldown` seconds, then one delivery probes;
    each probe that fails doubles the rest, up to `longest`.
    """

    failures: int = 10
    cooldown: float = 2.0
    longest: float = 60.0


BREAKER = BreakerPolicy()

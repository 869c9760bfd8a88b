"""How often something may happen: the generic cell rate algorithm, which is a token bucket in one number.

For each name (a key, a project, an address) it is kept when its budget will be whole again. What is spent moves
that moment on by `interval`; once it is farther away than `window`, nothing is left.
"""

from __future__ import annotations

from typing import Final, NamedTuple

WINDOW: Final = 60.0
"""Seconds that a whole budget is for, and in which an empty one fills up."""

KEPT_NAMES: Final = 20_000
"""How many names are kept at least; the ones that were not seen for longest are forgotten, as if they had spent
nothing. Most of them have not, by then."""


class Allowance(NamedTuple):
    """What is left of a budget of `most`, and in how many seconds it is whole again."""

    most: int
    remaining: int
    whole_in: float


def spent_first(one: Allowance | None, other: Allowance | None) -> Allowance | None:
    """That of two budgets, if there are any, which allows fewer more; of equal ones, that which is whole sooner."""
    if one is None or other is None:
        return one or other
    return one if one[1:] <= other[1:] else other


class RateLimit:
    """At most `most` a minute for each name, at once or spread; no more than twice that in any one minute.

    Nothing here waits or looks at a clock: `now` is the caller's, in seconds that only ever grow.
    """

    __slots__ = ("_fresh", "_interval", "_kept", "_older", "_tolerance", "most")

    def __init__(self, most: int, *, kept: int = KEPT_NAMES) -> None:
        self.most = most
        self._interval = WINDOW / most
        # Half a one more, so that neither rounding nor the way to Redis takes the last one away.
        self._tolerance = WINDOW + self._interval / 2
        self._kept = kept
        self._fresh: dict[str, float] = {}
        self._older: dict[str, float] = {}

    def take(self, name: str, now: float) -> float:
        """Count one more if it is allowed.

        Returns in how many seconds the budget is whole again; or, below zero, how long it takes until one more is
        allowed, with the sign turned.
        """
        # Spelled out, for this is done at every request.
        whole_at = self._fresh.get(name)
        if whole_at is None:
            whole_at = self._older.get(name, now)
        if whole_at < now:  # noqa: PLR1730 - a call of max() takes as long as all of this
            whole_at = now
        whole_at += self._interval
        whole_in = whole_at - now
        if whole_in > self._tolerance:
            return self._tolerance - whole_in
        self._keep(name, whole_at)
        return whole_in

    def wait(self, name: str, now: float) -> float:
        """Seconds until one more is allowed; zero or less: it is now."""
        return max(self._whole_at(name), now) + self._interval - now - self._tolerance

    def spend(self, name: str, now: float, number: int) -> None:
        """Count so many, allowed or not; what is too much is missing later. Below zero it gives back."""
        self._keep(name, max(self._whole_at(name), now) + self.cost(number))

    def cost(self, number: int = 1) -> float:
        """The seconds of a budget that so many take."""
        return number * self._interval

    def allowance(self, whole_in: float) -> Allowance:
        """What is left of a budget that is whole again in so many seconds."""
        return Allowance(self.most, int((self._tolerance - whole_in) / self._interval), whole_in)

    def learn(self, name: str, whole_at: float) -> None:
        """Others have spent of the same budget: it is whole at that moment, or later."""
        if whole_at > self._whole_at(name):
            self._keep(name, whole_at)

    def _whole_at(self, name: str) -> float:
        found = self._fresh.get(name)
        return self._older.get(name, 0.0) if found is None else found

    def _keep(self, name: str, whole_at: float) -> None:
        # Two generations instead of an order of use: each name costs one look-up, and nothing is moved.
        if len(self._fresh) >= self._kept and name not in self._fresh:
            self._older, self._fresh = self._fresh, {}
        self._fresh[name] = whole_at

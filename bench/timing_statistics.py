"""Whether two samples of durations differ: Welch's t-test without the slowest, and the Mann-Whitney test of all.

As dudect does (Reparaz, Balasch, Verbauwhede: Dude, is my code constant time?, 2017): what interrupts a measurement
only ever makes it longer, so the slowest tenth is left out of means, and 4.5 standard errors are a difference.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

THRESHOLD = 4.5
"""By chance it is reached once in 150,000 comparisons."""

KEPT = 0.9


@dataclass(frozen=True)
class Comparison:
    """Two samples: their medians, `t` and `z` of the tests, and from which difference of means on `t` would tell."""

    medians: tuple[float, float]
    t: float
    z: float
    sees_from: float

    @property
    def differs(self) -> bool:
        """Whether either test sees a difference."""
        return max(abs(self.t), abs(self.z)) >= THRESHOLD

    def agrees(self, other: Comparison) -> bool:
        """Whether both see a difference, and the same sample as the slower one."""
        mine, its = (max(each.t, each.z, key=abs) for each in (self, other))
        return self.differs and other.differs and mine * its > 0


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Of two samples of durations; positive `t` and `z` say that the second takes longer."""
    limit = sorted((*first, *second))[int(KEPT * (len(first) + len(second))) - 1]
    quick, slow = ([each for each in sample if each <= limit] for sample in (first, second))
    error = math.sqrt(statistics.variance(quick) / len(quick) + statistics.variance(slow) / len(slow))
    difference = statistics.fmean(slow) - statistics.fmean(quick)
    return Comparison(
        medians=(statistics.median(first), statistics.median(second)),
        t=difference / error if error else math.copysign(math.inf, difference) if difference else 0.0,
        z=_mann_whitney(first, second),
        sees_from=THRESHOLD * error,
    )


def _mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """The normal approximation of U, with what ties take from its variance."""
    n, m = len(first), len(second)
    ranked = sorted([*((each, False) for each in first), *((each, True) for each in second)])
    ranks, ties, below = 0.0, 0.0, 0
    for _, group in groupby(ranked, key=lambda pair: pair[0]):
        members = [is_second for _, is_second in group]
        ranks += sum(members) * (below + (len(members) + 1) / 2)
        ties += len(members) ** 3 - len(members)
        below += len(members)
    u = ranks - m * (m + 1) / 2
    variance = n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1)))
    return (u - n * m / 2) / math.sqrt(variance) if variance > 0 else 0.0

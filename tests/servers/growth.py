"""How the work of a function grows with its input, told without asking how fast the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMES = 8
ROUNDS = 3
QUADRATIC = TIMES**2


def growth(work: Callable[[str], object], piece: str, pieces: int) -> float:
    """How much more processor time `work` takes for input `TIMES` times as long: about `TIMES` when linear, `QUADRATIC` when quadratic.

    The least of a few rounds on either side, so that what else the machine does falls out.
    """

    def least(text: str) -> float:
        taken: list[float] = []
        for _ in range(ROUNDS):
            started = time.process_time()
            work(text)
            taken.append(time.process_time() - started)
        return min(taken)

    return least(piece * pieces * TIMES) / max(least(piece * pieces), 1e-4)

"""How the time of a parser grows with the length of what it reads: in step with it, whatever is in it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

TIMES = 8
MOST = TIMES * TIMES / 2
"""So many times as long for an input that is `TIMES` as long is nearer to its square than to its length."""
ROUNDS = 3
NOTHING = 0.02
"""Seconds that are no reason to look closer, however they grew."""


def growth(read: Callable[[str], object], piece: str, size: int) -> float:
    """How many times as much processor time an input takes that is `TIMES` as long as one of `size` characters.

    Zero for one that takes next to none. What looks bad is measured again, so that what else the machine does falls out.
    """
    short, long = (piece * (1 + size * times // len(piece)) for times in (1, TIMES))
    least_short = least_long = float("inf")
    for _ in range(ROUNDS):
        least_long = min(least_long, _seconds(read, long))
        if least_long < NOTHING:
            return 0.0
        least_short = min(least_short, _seconds(read, short))
        if least_long < MOST * least_short:
            break
    return least_long / max(least_short, 1e-4)


def _seconds(read: Callable[[str], object], text: str) -> float:
    gc.disable()  # it looks at all objects of the process, which are none of the parser's
    try:
        began = time.process_time()
        read(text)
        return time.process_time() - began
    finally:
        gc.enable()

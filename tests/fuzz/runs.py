"""Runs of targets: a short one that is the same each time, and one that goes on for a while with figures of it."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field

import psutil
import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings

from fuzz.target import Target

EXAMPLES = 8
"""Of each target in the short run."""
ROUND = 100
MOST_SECONDS = 5.0
"""Of processor time for one case."""
MOST_BYTES = 64 * 1024 * 1024
"""That a target may hold after its run more than after its first round."""


def quietly() -> None:
    """Nothing is logged from here on."""
    structlog.configure(processors=[_drop])


def _drop(*_: object) -> dict[str, object]:
    raise structlog.DropEvent


def quick_run(target: Target) -> None:
    """A few cases, the same each time. Raises what the target does."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(target.cases)
    def run(case: object) -> None:
        target.look(case)

    run()


@dataclass
class Figures:
    """What a run was, in seconds of processor time: `longest` is that of one case; `grown` is in bytes of memory."""

    cases: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    grown: int = 0
    failure: BaseException | None = field(default=None, repr=False)

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong."""
        return self.failure is None and self.longest < MOST_SECONDS and self.grown < MOST_BYTES


def long_run(target: Target, seconds: float, first_seed: int) -> Figures:
    """Cases for so many seconds of processor time, in rounds of their own seeds; it ends with the first failure."""
    figures, began, number, before = Figures(), time.process_time(), first_seed, 0

    def run(case: object) -> None:
        started = time.process_time()
        try:
            target.look(case)
        finally:
            figures.cases += 1
            figures.longest = max(figures.longest, time.process_time() - started)

    while figures.failure is None and time.process_time() - began < seconds:
        one_round = settings(
            max_examples=ROUND,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )(seed(number)(given(target.cases)(run)))
        try:
            one_round()
        except BaseException as error:  # noqa: BLE001 - told in the end
            figures.failure = error
        if number == first_seed:
            before = _memory()
        number += 1
    figures.seconds = time.process_time() - began
    figures.grown = _memory() - before
    return figures


def _memory() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss

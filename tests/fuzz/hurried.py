"""An event loop in which no time passes: whatever is waited for, its moment comes at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

MOST_TURNS = 20_000
"""More turns of the loop are a task that never ends."""
THREAD_SECONDS = 10.0


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Lets the time pass for which it is told to wait."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None:
            self.passed += timeout
            return ready
        ready = super().select(THREAD_SECONDS)  # only a thread can still do something
        assert ready, "it waits for what never comes"
        return ready


class HurriedLoop(asyncio.SelectorEventLoop):
    """Its time is what was waited for."""

    def __init__(self) -> None:
        self._hurried = _Selector()
        self._turns = 0
        self.lost: list[str] = []
        """What tasks ended with that nobody waited for."""
        super().__init__(self._hurried)
        self.set_exception_handler(lambda _, context: self.lost.append(str(context.get("exception"))))

    def time(self) -> float:
        return 1000.0 + self._hurried.passed

    def _run_once(self) -> None:
        self._turns += 1
        assert self._turns < MOST_TURNS, "it never ends"
        super()._run_once()  # type: ignore[misc]


def hurried(work: Coroutine[Any, Any, T]) -> T:
    """What comes of it. Raises AssertionError for what waits for ever, never stops, or leaves an error behind."""
    loop = HurriedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        found = runner.run(work)
    assert not loop.lost, loop.lost
    return found

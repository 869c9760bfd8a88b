"""The places of a worker: how many attempts it makes at once, and how many more deliveries it holds beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PLANNED = 4
"""Deliveries may wait for a planned moment, so many times as many as places; the content of each is in memory."""


class Places:
    """Counts who has a place, and who holds the next ones back.

    `busy` are claimed, and their attempts not over. `planned` are begun, and the moment for the call is still to
    come. `unrecorded`: the attempt is over, and its outcome not in the ledger.
    """

    def __init__(self, number: int, on_half: Callable[[], None]) -> None:
        """`on_half` is called when half of all are free again: those that their share held back may have them."""
        self._number = number
        self._on_half = on_half
        self.busy = 0
        self.planned = 0
        self.unrecorded = 0
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """How many more may be claimed; nobody, if it is not above 0."""
        planned = max(0, self.planned - PLANNED * self._number)
        return self._number - self.busy - planned - max(0, self.unrecorded - self._number)

    @property
    def are_half_taken(self) -> bool:
        """Whether more than half are."""
        return self.busy > self._number // 2

    def look_again(self) -> None:
        """End a wait."""
        self._freed.set()

    async def wait(self) -> None:
        """Return when there may be more that are free."""
        self._freed.clear()
        await self._freed.wait()

    def take(self, number: int) -> None:
        """So many were claimed."""
        self.busy += number

    def leave(self, number: int = 1) -> None:
        """Give places back."""
        half, before = self._number // 2, self.busy
        self.busy -= number
        self._freed.set()
        if self.busy <= half < before:
            self._on_half()

    async def lend(self, until: Awaitable[None]) -> None:
        """Wait for a planned moment without a place, which somebody may use who can be sent to now."""
        self.planned += 1
        self.leave()
        try:
            await until
        finally:
            self.planned -= 1
            self.busy += 1

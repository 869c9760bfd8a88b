"""The places of a worker: how many attempts it makes at once, and how many more deliveries it holds beside them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

PLANNED = 4
"""Deliveries may wait for a planned moment, so many times as many as places; the content of each is in memory."""


class Places:
    """Counts who has a place, and who waits for one.

    `busy` are claimed, and their attempts not over. `planned` are begun, and the moment for the call, or a place
    for it, is still to come. `unrecorded`: the attempt is over, and its outcome not in the ledger.
    """

    def __init__(self, number: int, on_half: Callable[[], None]) -> None:
        """`on_half` is called when half of all are free again."""
        self._number = number
        self._on_half = on_half
        self.busy = 0
        self._asked = 0  # of the scheduler: until it answers, nobody knows how many of them it takes
        self.planned = 0
        self.unrecorded = 0
        self._returning: deque[asyncio.Future[None]] = deque()  # of the planned, those whose moment has come
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """How many more may be claimed; nobody, if it is not above 0."""
        planned = max(0, self.planned - PLANNED * self._number)
        unrecorded = max(0, self.unrecorded - self._number)
        return self._number - self.busy - len(self._returning) - planned - unrecorded

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

    def ask(self, number: int) -> None:
        """So many are being claimed: until `take` nobody else gets these places."""
        self._asked = number

    def take(self, number: int) -> None:
        """So many were claimed, if any."""
        self._asked = 0
        self.busy += number
        self._give()

    def leave(self, number: int = 1) -> None:
        """Give places back: first to those whose moment came, and then to anybody."""
        half, before = self._number // 2, self.busy
        self.busy -= number
        self._give()
        self._freed.set()
        if self.busy <= half < before:
            self._on_half()

    async def lend(self, until: Awaitable[None]) -> None:
        """Wait for a planned moment without a place, which somebody may use who can be sent to now."""
        self.planned += 1
        self.leave()
        try:
            await until
            await self._return()
        except BaseException:
            self.busy += 1  # whatever happens, it comes back to a place
            raise
        finally:
            self.planned -= 1

    async def _return(self) -> None:
        """Take a place again, before anybody new gets one: many planned moments may come at once."""
        if self._is_one_left and not self._returning:
            self.busy += 1
            return
        returning = asyncio.get_running_loop().create_future()
        self._returning.append(returning)
        try:
            await returning
        except asyncio.CancelledError:
            if returning.done() and not returning.cancelled():
                self.busy -= 1  # it was given one at the same moment
            raise

    @property
    def _is_one_left(self) -> bool:
        return self.busy + self._asked < self._number

    def _give(self) -> None:
        while self._returning and self._is_one_left:
            returning = self._returning.popleft()
            if not returning.done():
                self.busy += 1
                returning.set_result(None)

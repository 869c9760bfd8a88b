"""Group commit: many callers, one transaction.

While a batch is being written, what comes in meanwhile gathers into the next. There is no timer:
an idle system writes at once, a busy one writes large batches. A database that takes transactions
side by side may be given several batches at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")

Flush = Callable[[Sequence[Item]], Awaitable[Sequence["Result | Exception"]]]
"""Writes a batch; gives one result (or the error of that item alone) for each item, in order."""


def _one(_item: object) -> int:
    return 1


class GroupCommit(Generic[Item, Result]):
    """Collects items and hands them to `flush` in batches, `parallel` of them at a time.

    The items of a batch weigh `largest` at most, unless one alone weighs more; each weighs 1 unless
    `weigh` says otherwise. `waiting` is what those weigh that no batch has taken yet.
    """

    def __init__(
        self,
        flush: Flush[Item, Result],
        *,
        largest: int = 500,
        weigh: Callable[[Item], int] = _one,
        parallel: int = 1,
    ) -> None:
        self._flush = flush
        self._largest = largest
        self._weigh = weigh
        self._pending: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._parallel = parallel
        self._writers: set[asyncio.Task[None]] = set()
        self.waiting = 0

    async def submit(self, item: Item) -> Result:
        """Write an item; returns when its transaction is committed.

        Raises whatever the flush raised for the batch, or gave for this item.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        self.waiting += self._weigh(item)
        if len(self._writers) < self._parallel:
            # In a context of its own: what it logs is not about whoever happened to come first.
            self._writers.add(asyncio.create_task(self._write(), context=Context()))
        return await future

    async def drain(self) -> None:
        """Wait until everything submitted so far is written."""
        while self._writers:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(self._writers)

    async def _write(self) -> None:
        try:
            while self._pending:
                await self._write_batch()
        finally:
            # Here and not in a callback, which comes later: whoever submits meanwhile would wait for nobody.
            self._writers.remove(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _write_batch(self) -> None:
        batch = self._take()
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed to every caller of the batch
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            _settle(future, result)

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """The next batch."""
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        room = self._largest
        while self._pending:
            weight = self._weigh(self._pending[0][0])
            if batch and weight > room:
                break
            batch.append(self._pending.popleft())
            room -= weight
            self.waiting -= weight
        return batch


def _settle(future: asyncio.Future[Result], result: Result | Exception) -> None:
    if future.done():  # the caller went away; what was written stays written
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)

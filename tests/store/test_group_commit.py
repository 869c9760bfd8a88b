"""Group commit: one flush at a time, nothing lost, errors reach exactly those concerned."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from msgcore.store.group_commit import GroupCommit


class Recorder:
    """A flush that can be held shut, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.running = 0

    async def __call__(self, batch: Sequence[int]) -> Sequence[int | Exception]:
        self.running += 1
        assert self.running == 1, "two flushes at once"
        self.batches.append(list(batch))
        await self.open.wait()
        self.running -= 1
        if 13 in batch:
            raise OSError("disk gone")
        return [ValueError(n) if n == 7 else n * 10 for n in batch]


async def test_what_comes_during_a_flush_goes_into_the_next() -> None:
    flush = Recorder()
    flush.open.clear()
    writer = GroupCommit(flush)
    first = asyncio.create_task(writer.submit(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(writer.submit(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    flush.open.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40]
    assert flush.batches == [[1], [2, 3, 4]]


async def test_an_item_error_reaches_only_its_caller() -> None:
    writer = GroupCommit(Recorder())
    results = await asyncio.gather(*(writer.submit(n) for n in (6, 7, 8)), return_exceptions=True)
    assert results[0] == 60
    assert isinstance(results[1], ValueError)
    assert results[2] == 80


async def test_a_failed_flush_reaches_all_of_its_batch_and_the_next_goes_on() -> None:
    writer = GroupCommit(Recorder())
    results = await asyncio.gather(writer.submit(13), writer.submit(1), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    assert await writer.submit(2) == 20


async def test_batches_are_bounded() -> None:
    flush = Recorder()
    writer = GroupCommit(flush, largest=3)
    await asyncio.gather(*(writer.submit(n) for n in range(20, 30)))
    assert [len(batch) for batch in flush.batches] == [3, 3, 3, 1]


async def test_batches_are_bounded_by_weight() -> None:
    flush = Recorder()
    flush.open.clear()
    writer = GroupCommit(flush, largest=10, weigh=lambda n: n)
    tasks = [asyncio.create_task(writer.submit(n)) for n in (1, 4, 5, 1, 25, 2)]
    await asyncio.sleep(0)
    assert writer.waiting == 38
    flush.open.set()
    await asyncio.gather(*tasks)
    assert flush.batches == [[1, 4, 5], [1], [25], [2]]
    assert writer.waiting == 0


async def test_a_caller_that_goes_away_does_not_disturb_the_others() -> None:
    flush = Recorder()
    flush.open.clear()
    writer = GroupCommit(flush)
    gone = asyncio.create_task(writer.submit(1))
    stays = asyncio.create_task(writer.submit(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone.cancel()
    flush.open.set()
    assert await stays == 20
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_drain_waits_for_what_was_submitted() -> None:
    flush = Recorder()
    writer = GroupCommit(flush)
    task = asyncio.create_task(writer.submit(5))
    await asyncio.sleep(0)
    await writer.drain()
    assert flush.batches == [[5]]
    assert await task == 50


async def test_several_batches_at_a_time_where_the_database_takes_them() -> None:
    started: list[list[int]] = []
    gates = {1: asyncio.Event(), 2: asyncio.Event()}

    async def flush(batch: Sequence[int]) -> Sequence[int | Exception]:
        started.append(list(batch))
        await gates.get(batch[0], asyncio.Event()).wait()
        return [n * 10 for n in batch]

    writer = GroupCommit(flush, parallel=2)
    tasks: list[asyncio.Task[int]] = []
    for number in (1, 2, 3, 4):
        tasks.append(asyncio.create_task(writer.submit(number)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert started == [[1], [2]]  # the others wait for a writer, together
    gates[3] = asyncio.Event()
    gates[2].set()
    assert await tasks[1] == 20
    gates[3].set()
    gates[1].set()
    assert await asyncio.gather(*tasks) == [10, 20, 30, 40]
    assert started == [[1], [2], [3, 4]]
    await writer.drain()


async def test_what_is_submitted_while_a_writer_ends_is_written() -> None:
    flush = Recorder()
    writer = GroupCommit(flush)
    for number in range(50):
        assert await asyncio.wait_for(writer.submit(number * 100), 10) == number * 1000

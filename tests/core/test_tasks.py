"""A background task ends when it is told to, even when something loses the first word of it."""

from __future__ import annotations

import asyncio

import pytest

from msgcore.core import tasks
from msgcore.core.tasks import end


async def sleep_on() -> None:
    while True:
        await asyncio.sleep(3600)


async def test_a_task_ends() -> None:
    task = asyncio.create_task(sleep_on())
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled()


async def test_a_task_that_never_began_or_is_over_is_no_trouble() -> None:
    await end(None)
    over = asyncio.create_task(asyncio.sleep(0))
    await over
    await end(over)


async def test_a_lost_cancellation_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "REPEAT_SECONDS", 0.01)
    heard = 0

    async def deaf_once() -> None:
        nonlocal heard
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                heard += 1
                if heard > 1:
                    raise

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    await end(task)
    assert heard == 2


async def test_what_the_task_raised_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="broken"):
        await end(task)


async def test_whoever_ends_a_task_can_be_ended_itself() -> None:
    async def deaf() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    released = asyncio.Event()
    task = asyncio.create_task(deaf())
    ending = asyncio.create_task(end(task))
    await asyncio.sleep(0.01)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    released.set()
    await task

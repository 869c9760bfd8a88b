"""Long texts: one at a time for each project, nothing on the event loop, nothing kept of those who are done."""

from __future__ import annotations

import asyncio
import sys
import threading

from msgcore.core.content import LONG_CONTENT
from msgcore.outbound.long_texts import SHARE_SECONDS, LongTexts
from servers.deliveries import make_content


class Gate:
    """Work that goes on until it is let through."""

    def __init__(self) -> None:
        self.running = 0
        self.started = threading.Semaphore(0)
        self.through = threading.Semaphore(0)

    def pass_through(self) -> int:
        """The thread that it is done in."""
        self.running += 1
        self.started.release()
        assert self.through.acquire(timeout=30)
        self.running -= 1
        return threading.get_ident()


async def test_each_project_has_one_at_a_time_and_another_need_not_wait() -> None:
    usual = sys.getswitchinterval()
    texts, one, other = LongTexts(), Gate(), Gate()
    waiting = [asyncio.create_task(texts.aside("busy", one.pass_through)) for _ in range(3)]
    await asyncio.to_thread(one.started.acquire, timeout=30)
    other.through.release()
    assert await texts.aside("quiet", other.pass_through) != threading.get_ident()
    assert one.running == 1
    assert round(sys.getswitchinterval(), 6) == SHARE_SECONDS
    for _ in waiting:
        one.through.release()
    await asyncio.gather(*waiting)
    assert sys.getswitchinterval() == usual
    assert not texts._turns  # pyright: ignore[reportPrivateUsage] - nothing else tells whether it is kept
    texts.close()


async def test_a_stop_does_not_wait_and_begins_nothing() -> None:
    texts, gate = LongTexts(), Gate()
    waiting = [asyncio.create_task(texts.aside(f"project-{number}", gate.pass_through)) for number in range(4)]
    for _ in range(2):
        await asyncio.to_thread(gate.started.acquire, timeout=30)
    texts.close()
    for _ in waiting:
        gate.through.release()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in ended] == [False, False, True, True]


async def test_short_texts_are_read_at_once() -> None:
    texts = LongTexts()
    short, long = (make_content(text="x" * length) for length in (LONG_CONTENT, LONG_CONTENT + 1))
    assert await texts.run("one", short, threading.get_ident) == threading.get_ident()
    assert await texts.run("one", long, threading.get_ident) != threading.get_ident()
    embedded = make_content(embeds=[{"description": "x" * LONG_CONTENT, "fields": [{"name": "n", "value": "v"}]}])
    assert await texts.run("one", embedded, threading.get_ident) != threading.get_ident()
    texts.close()

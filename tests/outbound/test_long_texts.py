"""Long texts: one at a time for each project, nothing on the event loop, nothing kept of those who are done."""

from __future__ import annotations

import asyncio
import sys
import threading

from msgcore.core.content import WORK_AT_ONCE
from msgcore.outbound.long_texts import SHARE_SECONDS, LongTexts
from servers.deliveries import make_content

NORMAL = "- The **parcel** has [left](https://example.com/p/4711) our house, and *will* be there on `Friday`\n"


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


async def test_what_takes_little_is_done_at_once() -> None:
    texts = LongTexts()
    sign = "*" * WORK_AT_ONCE
    quick = ({"text": "x" * 4500}, {"markdown": 15 * NORMAL}, {"html": f"<p>{'x' * 4000}</p>"})
    slow = (
        *({"text": "x" * 10_000}, {"text": "x\n\n" * 200}, {"markdown": 30 * NORMAL}, {"html": "<li>x" * 300}),
        *({"markdown": sign}, {"embeds": [{"title": sign}]}, {"embeds": [{"footer": {"text": sign}}]}),
        {"embeds": [{"fields": [{"name": "n", "value": "v"}] * 63}]},
        *({"attachments": [{"url": "https://a.example/b", "caption": sign}]}, {"buttons": [{"text": sign}]}),
        {"poll": {"question": sign, "options": ["a", "b"]}},
    )
    for given in quick:
        assert await texts.run("one", make_content(**given), threading.get_ident) == threading.get_ident(), given
    for given in slow:
        assert await texts.run("one", make_content(**given), threading.get_ident) != threading.get_ident(), given
    texts.close()

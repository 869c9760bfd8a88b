"""Time that a test lets pass for a gateway in its own process, from one moment for which something waits to the next."""

from __future__ import annotations

import asyncio

from msgcore.app import Gateway
from msgcore.dispatch.memory import MemoryScheduler
from servers.clock import FakeClock
from servers.patience import PATIENCE


async def pass_time(gateway: Gateway, clock: FakeClock, seconds: float) -> None:
    """Let so many seconds pass, with what is done in each moment; `clock` is the gateway's."""
    until = clock.monotonic() + seconds
    async with asyncio.timeout(PATIENCE):
        await settled(gateway, clock)
        while (moment := clock.next_moment()) <= until:
            clock.advance(moment - clock.monotonic())
            await settled(gateway, clock)
    clock.advance(until - clock.monotonic())


async def settled(gateway: Gateway, clock: FakeClock) -> None:
    """Until nothing is under way: all that dispatch holds waits for a moment to come."""
    scheduler, dispatching = gateway._scheduling.scheduler, gateway._dispatching
    assert isinstance(scheduler, MemoryScheduler)
    assert dispatching is not None
    processor = dispatching.processor
    await asyncio.sleep(0)  # those who were just woken are under way
    while (
        scheduler._wake.is_set()
        or clock.next_moment() <= clock.monotonic()
        or processor._beginning
        or processor._places.busy
        or len(processor._running) > processor._places.planned
    ):
        await asyncio.sleep(0.0005)

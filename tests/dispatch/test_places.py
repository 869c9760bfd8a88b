"""Places: who gets one when several want it at the same moment."""

from __future__ import annotations

import asyncio

from msgcore.dispatch.places import Places


async def test_a_moment_that_comes_while_places_are_claimed_gets_what_the_claim_leaves() -> None:
    places, moment, returned = Places(2, on_half=lambda: None), asyncio.Event(), list[int]()
    places.take(2)

    async def planned(number: int) -> None:
        await places.lend(moment.wait())
        returned.append(number)

    waiting = [asyncio.create_task(planned(number)) for number in range(2)]
    await asyncio.sleep(0)
    assert places.free == 2
    places.ask(2)
    moment.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not returned
    places.take(1)
    await waiting[0]
    assert (returned, places.busy, places.free) == ([0], 2, -1)
    places.leave()
    await waiting[1]
    assert (returned, places.busy, places.free) == ([0, 1], 2, 0)

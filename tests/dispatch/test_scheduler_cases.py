"""What random work (`test_scheduler_model`) or a careful reading once found, case by case, for every scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contract.scheduler_harness import HARNESSES, LEASE_SECONDS, Harness
from msgcore.core.deliveries import Done, Lease, Release, Ticket, Wait
from msgcore.core.errors import Scope
from msgcore.core.limits import Budget, Pace, RateLimits

LANE_PACED = RateLimits(lane=(Budget(1, 10.0),))
ROUTE_PACED = RateLimits(route=(Budget(1, 60.0),))


@pytest.fixture(params=sorted(HARNESSES))
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    made = HARNESSES[request.param]()
    await made.open()
    yield made
    await made.close()


async def add(harness: Harness, *names: str, lane: str | None = "x", **rest: object) -> None:
    await harness.scheduler.enqueue([Ticket(name, "a", lane, **rest) for name in names])  # type: ignore[arg-type]


async def claim(harness: Harness) -> list[Lease]:
    return await harness.scheduler.claim(100)


async def claimed(harness: Harness) -> list[str]:
    return [lease.delivery_id for lease in await claim(harness)]


async def test_a_lease_renewed_at_once_ends_once(harness: Harness) -> None:
    await add(harness, "1", "2", lane=None)
    leases = await claim(harness)
    assert await harness.scheduler.renew(leases) == []
    await harness.advance(LEASE_SECONDS)
    assert sorted(await claimed(harness)) == ["1", "2"]
    assert await claimed(harness) == []
    assert (await harness.scheduler.counts()).active == 2


async def test_a_delivery_leased_twice_in_a_moment_is_given_back_once(harness: Harness) -> None:
    await add(harness, "1", "2")
    for _ in range(3):
        (lease,) = await claim(harness)
        await harness.scheduler.finish([Release(lease)])
    await claim(harness)
    await harness.advance(LEASE_SECONDS)
    (lease,) = await claim(harness)
    await harness.scheduler.finish([Done(lease)])
    assert await claimed(harness) == ["2"]
    counts = await harness.scheduler.counts()
    assert (counts.waiting, counts.active) == (0, 1)


async def test_what_is_due_later_does_not_go_when_the_one_before_it_is_removed(harness: Harness) -> None:
    await add(harness, "1")
    await add(harness, "2", delay=20.0, keeps_place=True)
    await harness.scheduler.remove(["1"])
    assert await claimed(harness) == []
    await harness.advance(20.1)
    assert await claimed(harness) == ["2"]


async def test_a_lane_is_not_forgotten_with_a_paused_account_that_became_empty(harness: Harness) -> None:
    await harness.scheduler.pause("a")
    await add(harness, "1")
    await harness.scheduler.remove(["1"])
    await add(harness, "2")
    await harness.scheduler.resume("a")
    assert await claimed(harness) == ["2"]


async def test_a_scheduled_delivery_joins_its_lane_even_if_that_was_empty_meanwhile(harness: Harness) -> None:
    await add(harness, "later", delay=10.0)
    await add(harness, "1")
    await harness.scheduler.finish([Done(lease) for lease in await claim(harness)])
    await add(harness, "2")
    assert await claimed(harness) == ["2"]
    await harness.advance(10.1)
    assert await claimed(harness) == [], "two of one lane under way"


async def test_a_lane_keeps_its_budget_for_what_is_scheduled(harness: Harness) -> None:
    await add(harness, "1", "2", delay=5.0, limits=LANE_PACED)
    await add(harness, "other", lane="y", limits=LANE_PACED)
    await harness.scheduler.finish([Done(lease) for lease in await claim(harness)])
    await harness.advance(5.1)
    first = await claim(harness)
    assert len(first) == 1
    await harness.scheduler.finish([Done(lease) for lease in first])
    assert await claimed(harness) == []
    await harness.advance(10.1)
    assert len(await claimed(harness)) == 1


async def test_a_lane_does_not_wait_for_the_route_of_a_removed_delivery(harness: Harness) -> None:
    await add(harness, "1", lane=None, route="edit", limits=ROUTE_PACED)
    await add(harness, "2", route="edit", limits=ROUTE_PACED)
    await add(harness, "3", limits=ROUTE_PACED)
    assert await claimed(harness) == ["1"]
    await harness.scheduler.remove(["2"])
    assert await claimed(harness) == ["3"]
    assert await claimed(harness) == []


async def test_limits_that_were_raised_count_at_once(harness: Harness) -> None:
    await add(harness, "1", "2", lane=None, limits=RateLimits(in_flight=1))
    assert await claimed(harness) == ["1"]
    await add(harness, "3", limits=RateLimits(in_flight=3), delay=60.0)
    assert await claimed(harness) == ["2"]


async def test_many_leases_that_end_together_are_all_given_back(harness: Harness) -> None:
    names = [str(number) for number in range(1200)]
    await add(harness, *names, lane=None)
    given = 0
    while given < len(names):
        given += len(await harness.scheduler.claim(len(names)))
    await harness.advance(LEASE_SECONDS + 0.25)
    again: set[str] = set()
    for _ in range(10):
        again.update(lease.delivery_id for lease in await harness.scheduler.claim(len(names)))
    assert again == set(names)


async def test_a_silent_account_that_became_empty_goes_on_as_usual(harness: Harness) -> None:
    await add(harness, "1", "2")
    (lease,) = await claim(harness)
    await harness.scheduler.finish([Wait(lease, 5.0, Scope.ACCOUNT)])
    await harness.scheduler.remove(["1", "2"])
    await harness.advance(6)
    await add(harness, "3")
    assert await claimed(harness) == ["3"]


async def test_nothing_is_kept_of_a_lane_that_rested_when_it_became_empty(harness: Harness) -> None:
    await add(harness, "1")
    await add(harness, "2", lane="y", limits=RateLimits(lane=(Budget(1, 1.0),)))
    spent = Pace(Scope.LANE, 0, 2.0)
    await harness.scheduler.finish([Done(lease, pace=spent) for lease in await claim(harness)])
    for _ in range(3):
        await harness.advance(LEASE_SECONDS)
        await claim(harness)
    assert await harness.left_over() == []

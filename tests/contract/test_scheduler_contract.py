"""The contract of every scheduler (docs/dispatch.md, points 1-3, 5-8 and 11)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from contract.scheduler_harness import HARNESSES, LEASE_SECONDS, Harness
from msgcore.core.deliveries import BreakerState, Done, Lease, Rank, Release, Retry, Shares, Ticket, Wait
from msgcore.core.errors import Scope
from msgcore.core.limits import BREAKER, PACING, Budget, Pace, RateLimits


@pytest.fixture(params=sorted(HARNESSES))
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    made = HARNESSES[request.param]()
    await made.open()
    yield made
    await made.close()


SHARES = Shares(account=3, tenant=7)


def tickets(*ids: str, account: str = "a", lane: str | None = None, **rest: object) -> list[Ticket]:
    return [Ticket(i, account, lane, **rest) for i in ids]  # type: ignore[arg-type]


def ids(leases: Sequence[Lease]) -> list[str]:
    return [lease.delivery_id for lease in leases]


async def claim_ids(harness: Harness, limit: int = 100) -> list[str]:
    return ids(await harness.scheduler.claim(limit))


class TestEnqueueAndClaim:
    async def test_gives_what_was_enqueued_oldest_first(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", "3"))
        assert await claim_ids(harness) == ["1", "2", "3"]

    async def test_nothing_is_given_twice(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", "3"))
        assert await claim_ids(harness, 2) == ["1", "2"]
        assert await claim_ids(harness) == ["3"]
        assert await claim_ids(harness) == []

    async def test_enqueue_is_idempotent_by_delivery_id(self, harness: Harness) -> None:
        assert await harness.scheduler.enqueue(tickets("1")) == 1
        assert await harness.scheduler.enqueue(tickets("1", "2")) == 1
        assert await harness.scheduler.remove(["2"]) == ["2"]
        assert await claim_ids(harness) == ["1"]
        await harness.scheduler.enqueue(tickets("1"))
        assert await claim_ids(harness) == [], "a leased delivery was enqueued again"

    async def test_a_finished_delivery_may_come_again(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1"))
        (lease,) = await harness.scheduler.claim(1)
        await harness.scheduler.finish([Done(lease)])
        await harness.scheduler.enqueue(tickets("1"))
        assert await claim_ids(harness) == ["1"]

    async def test_a_delayed_delivery_waits_for_its_time(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("later", delay=10.0) + tickets("now"))
        assert await claim_ids(harness) == ["now"]
        await harness.advance(9.5)
        assert await claim_ids(harness) == []
        await harness.advance(0.6)
        assert await claim_ids(harness) == ["later"]

    async def test_removed_deliveries_are_not_given(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets("plain") + tickets("lane-1", "lane-2", lane="l") + tickets("late", delay=5.0) + tickets("kept")
        )
        removed = await harness.scheduler.remove(["plain", "lane-1", "late", "unknown"])
        assert sorted(removed) == ["lane-1", "late", "plain"]
        await harness.advance(10)
        assert sorted(await claim_ids(harness)) == ["kept", "lane-2"]

    async def test_a_leased_delivery_is_not_removed(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1"))
        await harness.scheduler.claim(1)
        assert await harness.scheduler.remove(["1"]) == []


class TestLanes:
    async def test_one_in_flight_a_lane(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", lane="x") + tickets("3", lane="y"))
        assert await claim_ids(harness) == ["1", "3"]
        assert await claim_ids(harness) == []

    async def test_the_same_lane_name_of_two_accounts_is_two_lanes(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", lane="x") + tickets("2", account="b", lane="x"))
        assert sorted(await claim_ids(harness)) == ["1", "2"]

    async def test_the_next_comes_when_the_first_is_final(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", lane="x"))
        (lease,) = await harness.scheduler.claim(5)
        await harness.scheduler.finish([Done(lease)])
        assert await claim_ids(harness) == ["2"]

    async def test_a_retry_holds_its_lane(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", lane="x"))
        (lease,) = await harness.scheduler.claim(5)
        await harness.scheduler.finish([Retry(lease, delay=10)])
        assert await claim_ids(harness) == []
        await harness.advance(10.1)
        assert await claim_ids(harness) == ["1"]

    async def test_a_retry_without_lane_lets_others_pass(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2"))
        (lease,) = await harness.scheduler.claim(1)
        await harness.scheduler.finish([Retry(lease, delay=10)])
        assert await claim_ids(harness) == ["2"]
        await harness.advance(10.1)
        assert await claim_ids(harness) == ["1"]

    async def test_a_scheduled_delivery_does_not_hold_its_lane(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("tomorrow", lane="x", delay=1000.0) + tickets("now", lane="x"))
        assert await claim_ids(harness) == ["now"]

    async def test_a_tried_delivery_keeps_its_place_when_reloaded(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets("tried", lane="x", delay=20.0, keeps_place=True) + tickets("behind", lane="x")
        )
        assert await claim_ids(harness) == []
        await harness.advance(20.1)
        assert await claim_ids(harness) == ["tried"]

    async def test_order_survives_failures_and_lost_leases(self, harness: Harness) -> None:
        """One lane of 60 deliveries; each outcome in turn: retry, throttle, release, lost lease, done."""
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(60)), lane="x"))
        finished: list[str] = []
        step = 0
        while len(finished) < 60:
            leases = await harness.scheduler.claim(10)
            assert len(leases) <= 1
            for lease in leases:
                match step % 5:
                    case 0:
                        await harness.scheduler.finish([Retry(lease, delay=3)])
                    case 1:
                        await harness.scheduler.finish([Wait(lease, 2, Scope.LANE)])
                    case 2:
                        await harness.scheduler.finish([Release(lease)])
                    case 3:
                        await harness.advance(LEASE_SECONDS)
                    case _:
                        finished.append(lease.delivery_id)
                        await harness.scheduler.finish([Done(lease)])
                step += 1
            await harness.advance(1)
        assert finished == [str(n) for n in range(60)]


class TestLeases:
    async def test_an_expired_lease_is_due_again(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", lane="x") + tickets("2"))
        assert await claim_ids(harness) == ["1", "2"]
        await harness.advance(LEASE_SECONDS - 0.1)
        assert await claim_ids(harness) == []
        await harness.advance(0.2)
        assert sorted(await claim_ids(harness)) == ["1", "2"]

    async def test_a_renewed_lease_is_kept(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1"))
        leases = await harness.scheduler.claim(1)
        await harness.advance(LEASE_SECONDS - 1)
        assert await harness.scheduler.renew(leases) == []
        await harness.advance(LEASE_SECONDS - 1)
        assert await claim_ids(harness) == []
        assert (await harness.scheduler.finish([Done(leases[0])])).lost == []

    async def test_a_lost_lease_finishes_nothing(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1"))
        (old,) = await harness.scheduler.claim(1)
        await harness.advance(LEASE_SECONDS + 1)
        (new,) = await harness.scheduler.claim(1)
        assert (await harness.scheduler.finish([Done(old)])).lost == [old]
        assert await harness.scheduler.renew([old, new]) == [old]
        assert (await harness.scheduler.finish([Done(new)])).lost == []
        assert await claim_ids(harness) == []

    async def test_a_finished_lease_cannot_finish_again(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1"))
        (lease,) = await harness.scheduler.claim(1)
        await harness.scheduler.finish([Done(lease)])
        assert (await harness.scheduler.finish([Done(lease)])).lost == [lease]

    async def test_released_is_due_at_once(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", lane="x"))
        (lease,) = await harness.scheduler.claim(1)
        await harness.scheduler.finish([Release(lease)])
        assert await claim_ids(harness) == ["1"]


class TestThrottles:
    @pytest.mark.parametrize(
        ("scope", "free"),
        [
            (Scope.ACCOUNT, ["other account"]),
            (Scope.LANE, ["loose", "other account", "other lane"]),
        ],
    )
    async def test_a_throttle_silences_its_scope(self, harness: Harness, scope: Scope, free: list[str]) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", lane="x"))
        (lease,) = await harness.scheduler.claim(1)
        await harness.scheduler.enqueue(
            tickets("other lane", lane="y") + tickets("loose") + tickets("other account", account="b", lane="x")
        )
        await harness.scheduler.finish([Wait(lease, 30, scope)])
        assert sorted(await claim_ids(harness)) == free
        await harness.advance(30.1)
        assert "1" in await claim_ids(harness)

    async def test_a_throttled_delivery_without_lane_waits_alone(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2"))
        (lease,) = await harness.scheduler.claim(1)
        await harness.scheduler.finish([Wait(lease, 5, Scope.DELIVERY)])
        assert await claim_ids(harness) == ["2"]
        await harness.advance(5.1)
        assert await claim_ids(harness) == ["1"]


class TestBudgets:
    async def test_an_account_budget_is_kept_and_used(self, harness: Harness) -> None:
        limits = RateLimits(account=(Budget(10, 1.0),))
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(200)), limits=limits))
        given = 0
        for _ in range(1000):
            given += len(await harness.scheduler.claim(100))
            await harness.advance(0.01)
        assert 99 <= given <= 101

    async def test_a_burst_may_come_at_once(self, harness: Harness) -> None:
        limits = RateLimits(account=(Budget(10, 1.0, burst=5),))
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(20)), limits=limits))
        assert len(await harness.scheduler.claim(100)) == 5

    async def test_a_lane_budget_slows_only_its_lane(self, harness: Harness) -> None:
        limits = RateLimits(lane=(Budget(1, 1.0),))
        await harness.scheduler.enqueue(
            tickets("x1", "x2", lane="x", limits=limits) + tickets("y1", lane="y", limits=limits)
        )
        leases = await harness.scheduler.claim(10)
        assert sorted(ids(leases)) == ["x1", "y1"]
        await harness.scheduler.finish([Done(lease) for lease in leases])
        assert await claim_ids(harness) == []
        await harness.advance(1.01)
        assert await claim_ids(harness) == ["x2"]

    async def test_a_lane_budget_outlives_an_empty_lane(self, harness: Harness) -> None:
        limits = RateLimits(lane=(Budget(1, 60.0),))
        await harness.scheduler.enqueue(tickets("1", lane="x", limits=limits))
        (lease,) = await harness.scheduler.claim(1)
        await harness.scheduler.finish([Done(lease)])
        await harness.advance(1)
        await harness.scheduler.enqueue(tickets("2", lane="x", limits=limits))
        assert await claim_ids(harness) == []
        await harness.advance(60)
        assert await claim_ids(harness) == ["2"]

    async def test_several_budgets_hold_together(self, harness: Harness) -> None:
        limits = RateLimits(account=(Budget(30, 1.0, burst=30), Budget(60, 60.0, burst=40)))
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(100)), limits=limits))
        assert len(await harness.scheduler.claim(100)) == 30
        await harness.advance(1)
        assert len(await harness.scheduler.claim(100)) == 11, "40 at once, and 1 a second since"

    async def test_lanes_of_an_account_may_have_budgets_of_their_own(self, harness: Harness) -> None:
        slow, quick = RateLimits(lane=(Budget(20, 60.0),)), RateLimits(lane=(Budget(1, 1.0),))
        await harness.scheduler.enqueue(
            tickets("g1", "g2", lane="group", limits=slow) + tickets("c1", "c2", lane="chat", limits=quick)
        )
        await harness.scheduler.finish([Done(lease) for lease in await harness.scheduler.claim(10)])
        await harness.advance(1.01)
        assert await claim_ids(harness) == ["c2"]
        await harness.advance(2)
        assert await claim_ids(harness) == ["g2"]

    async def test_a_lane_with_nothing_left_is_silent_until_its_reset(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("x1", "x2", lane="x") + tickets("y1", "y2", lane="y"))
        first, second = await harness.scheduler.claim(10)
        spent, left = Pace(Scope.LANE, 0, 2.5), Pace(Scope.LANE, 3, 2.5)
        await harness.scheduler.finish([Done(first, pace=spent), Done(second, pace=left)])
        assert await claim_ids(harness) == ["y2"]
        await harness.advance(2.6)
        assert await claim_ids(harness) == ["x2"]


class TestPacing:
    """Claims look a little ahead, and say when each call may be made."""

    @pytest.fixture(params=sorted(HARNESSES))
    async def harness(self, request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
        made = type("Paced", (HARNESSES[request.param],), {"pacing": PACING})()
        await made.open()
        yield made
        await made.close()

    async def test_calls_of_a_budget_are_spaced_from_the_second_one_on(self, harness: Harness) -> None:
        limits = RateLimits(account=(Budget(20, 1.0),))
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(20)), limits=limits))
        waits = [lease.wait for lease in await harness.scheduler.claim(100)]
        assert waits == [0.0]  # the next one leaves it time to come late
        await harness.advance(PACING.least_start - 0.1)
        waits = [lease.wait for lease in await harness.scheduler.claim(100)]
        assert waits == pytest.approx([0.15, 0.2, 0.25, 0.3, 0.35], abs=1e-3)

    async def test_a_late_claim_makes_up_for_nothing(self, harness: Harness) -> None:
        limits = RateLimits(account=(Budget(20, 1.0),))
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(50)), limits=limits))
        await harness.scheduler.claim(100)
        await harness.advance(0.9)
        waits = [lease.wait for lease in await harness.scheduler.claim(100)]
        assert waits == pytest.approx([0.05 * n for n in range(8)], abs=1e-3)

    async def test_what_is_due_soon_comes_with_its_time(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets("soon", delay=5.0) + tickets("lane", lane="x", delay=5.0) + tickets("now", lane="y")
        )
        (now,) = await harness.scheduler.claim(10)
        await harness.scheduler.finish([Retry(now, delay=5.0)])
        await harness.advance(4.6)
        assert await harness.scheduler.claim(10) == []
        await harness.advance(0.2)
        leases = await harness.scheduler.claim(10)
        assert sorted(ids(leases)) == ["lane", "now", "soon"]
        assert [lease.wait for lease in leases] == pytest.approx([0.2] * 3, abs=1e-3)

    async def test_a_lane_and_its_account_hold_together(self, harness: Harness) -> None:
        limits = RateLimits(account=(Budget(5, 1.0),), lane=(Budget(1, 1.0),))
        await harness.scheduler.enqueue(
            tickets("x1", "x2", lane="x", limits=limits) + tickets("y1", lane="y", limits=limits)
        )
        first = await harness.scheduler.claim(10)
        assert (ids(first), [lease.wait for lease in first]) == (["x1"], [0.0])
        await harness.scheduler.finish([Done(first[0])])
        await harness.advance(PACING.least_start)
        (second,) = await harness.scheduler.claim(10)
        assert (second.delivery_id, second.wait) == ("y1", pytest.approx(0.2, abs=1e-3))
        await harness.advance(0.8)
        (third,) = await harness.scheduler.claim(10)
        assert (third.delivery_id, third.wait) == ("x2", pytest.approx(0.2, abs=1e-3))


class TestRoutes:
    LIMITS = RateLimits(route=(Budget(1, 1.0),))

    async def test_a_route_budget_slows_only_its_route(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets("e1", "e2", route="edit", limits=self.LIMITS)
            + tickets("d1", route="delete", limits=self.LIMITS)
            + tickets("plain")
        )
        assert sorted(await claim_ids(harness)) == ["d1", "e1", "plain"]
        await harness.advance(1.01)
        assert await claim_ids(harness) == ["e2"]

    async def test_a_spent_route_is_used_in_turn_and_in_full(self, harness: Harness) -> None:
        names = [str(n) for n in range(20)]
        await harness.scheduler.enqueue(
            tickets(*names[:10], route="edit", limits=self.LIMITS)
            + [ticket for n in names[10:] for ticket in tickets(n, lane=n, route="edit", limits=self.LIMITS)]
        )
        given: list[str] = []
        for _ in range(201):
            given += await claim_ids(harness)
            await harness.advance(0.1)
        assert given == names

    async def test_a_lane_keeps_its_order_over_routes(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets("e1", "e2", lane="x", route="edit", limits=self.LIMITS) + tickets("s", lane="x")
        )
        given: list[str] = []
        for _ in range(30):
            leases = await harness.scheduler.claim(10)
            given += ids(leases)
            await harness.scheduler.finish([Done(lease) for lease in leases])
            await harness.advance(0.1)
        assert given == ["e1", "e2", "s"]

    async def test_removed_from_a_spent_route(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets("1", "2", "4", route="edit", limits=self.LIMITS)
            + tickets("3", lane="x", route="edit", limits=self.LIMITS)
        )
        assert await claim_ids(harness) == ["1"]
        assert sorted(await harness.scheduler.remove(["2", "3"])) == ["2", "3"]
        await harness.advance(1.01)
        assert await claim_ids(harness) == ["4"]
        await harness.scheduler.enqueue(tickets("3", lane="x", route="edit", limits=self.LIMITS))
        await harness.advance(1.01)
        assert await claim_ids(harness) == ["3"]

    async def test_a_lane_whose_head_was_removed_costs_its_route_no_turn(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets("1", route="edit", limits=self.LIMITS)
            + tickets("2", "3", "5", lane="x", route="edit", limits=self.LIMITS)
        )
        assert await claim_ids(harness) == ["1"]
        await harness.scheduler.remove(["2"])
        assert await claim_ids(harness) == []
        await harness.scheduler.enqueue(tickets("4", route="edit", limits=self.LIMITS))
        assert await claim_ids(harness) == []
        await harness.advance(1.01)
        assert await claim_ids(harness) == ["3"]
        await harness.advance(1.01)
        assert await claim_ids(harness) == ["4"]  # while the lane is busy with the third

    async def test_a_throttled_route_is_silent(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", route="edit", limits=self.LIMITS) + tickets("other"))
        first, _ = await harness.scheduler.claim(10)
        await harness.scheduler.finish([Wait(first, 7.0, Scope.ROUTE)])
        await harness.advance(6)
        assert await claim_ids(harness) == []
        await harness.advance(1.1)
        assert len(await claim_ids(harness)) == 1


class TestBreaker:
    """An account that only fails is left alone, then probed by one delivery at a time."""

    async def trip(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(30))))
        leases = await harness.scheduler.claim(BREAKER.failures)
        report = await harness.scheduler.finish([Retry(lease, 100.0, trouble=True) for lease in leases])
        assert report.opened == ["a"]

    async def test_troubles_in_a_row_open_it(self, harness: Harness) -> None:
        await self.trip(harness)
        assert await harness.scheduler.breakers() == {"a": BreakerState.OPEN}
        assert await claim_ids(harness) == []
        await harness.scheduler.enqueue(tickets("other", account="b"))
        assert await claim_ids(harness) == ["other"]

    async def test_one_probe_after_the_rest_and_an_answer_closes_it(self, harness: Harness) -> None:
        await self.trip(harness)
        await harness.advance(BREAKER.cooldown + 0.1)
        assert await harness.scheduler.breakers() == {"a": BreakerState.HALF_OPEN}
        (probe,) = await harness.scheduler.claim(10)
        assert await claim_ids(harness) == []
        report = await harness.scheduler.finish([Done(probe)])
        assert report.closed == ["a"]
        assert await harness.scheduler.breakers() == {}
        assert len(await claim_ids(harness, 10)) == 10

    async def test_each_probe_that_fails_doubles_the_rest(self, harness: Harness) -> None:
        await self.trip(harness)
        rest = BREAKER.cooldown
        for _ in range(8):
            await harness.advance(rest - 0.1)
            assert await claim_ids(harness) == []
            await harness.advance(0.2)
            (probe,) = await harness.scheduler.claim(10)
            assert (await harness.scheduler.finish([Retry(probe, 0.0, trouble=True)])).opened == ["a"]
            rest = min(BREAKER.longest, rest * 2)

    async def test_an_answer_in_between_starts_the_count_anew(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(30))))
        for n, lease in enumerate(await harness.scheduler.claim(20)):
            outcome = Done(lease) if n % 5 == 0 else Retry(lease, 1.0, trouble=True)
            assert (await harness.scheduler.finish([outcome])).opened == []

    async def test_what_was_under_way_when_it_opened_is_no_probe(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(30))))
        leases = await harness.scheduler.claim(30)
        report = await harness.scheduler.finish([Retry(lease, 0.0, trouble=True) for lease in leases])
        assert report.opened == ["a"]
        await harness.advance(BREAKER.cooldown + 0.1)
        assert len(await claim_ids(harness)) == 1

    async def test_troubles_of_single_deliveries_do_not_count(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets(*(str(n) for n in range(30))))
        leases = await harness.scheduler.claim(30)
        assert (await harness.scheduler.finish([Retry(lease, 0.0) for lease in leases])).opened == []
        assert len(await claim_ids(harness)) == 30

    async def test_a_probe_that_is_lost_makes_room_for_the_next(self, harness: Harness) -> None:
        await self.trip(harness)
        await harness.advance(BREAKER.cooldown + 0.1)
        assert len(await claim_ids(harness)) == 1
        await harness.advance(LEASE_SECONDS + 0.3)
        assert len(await claim_ids(harness)) == 1


class TestFairnessAndRank:
    async def test_a_backlog_does_not_delay_another_account(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets(*(f"big-{n}" for n in range(1000)), account="big"))
        await harness.scheduler.claim(10)
        await harness.scheduler.enqueue(tickets("single", account="small"))
        assert "single" in await claim_ids(harness, 2)

    async def test_accounts_take_turns(self, harness: Harness) -> None:
        for account in ("a", "b", "c"):
            await harness.scheduler.enqueue(tickets(*(f"{account}{n}" for n in range(50)), account=account))
        given: Counter[str] = Counter()
        for _ in range(3):
            given.update(delivery_id[0] for delivery_id in await claim_ids(harness, 10))
        assert max(given.values()) - min(given.values()) <= harness.unfairness
        assert given.total() == 30

    async def test_high_before_normal_before_low(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("low", rank=Rank.LOW) + tickets("high", rank=Rank.HIGH))
        assert await claim_ids(harness, 1) == ["high"]

    async def test_low_is_never_starved(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets(*(f"h{n}" for n in range(100)), rank=Rank.HIGH)
            + tickets(*(f"l{n}" for n in range(5)), rank=Rank.LOW)
        )
        given = Counter(delivery_id[0] for delivery_id in await claim_ids(harness, 40))
        assert given == {"h": 35, "l": 5}


class TestPause:
    async def test_a_paused_account_waits_for_resume(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2") + tickets("3", account="b"))
        await harness.scheduler.pause("a")
        await harness.scheduler.enqueue(tickets("4"))
        assert await claim_ids(harness) == ["3"]
        await harness.scheduler.resume("a")
        assert await claim_ids(harness) == ["1", "2", "4"]

    async def test_pausing_an_account_before_it_has_work(self, harness: Harness) -> None:
        await harness.scheduler.pause("a")
        await harness.scheduler.enqueue(tickets("1"))
        assert await claim_ids(harness) == []
        await harness.scheduler.resume("a")
        assert await claim_ids(harness) == ["1"]


class TestCountsAndWaiting:
    async def test_counts(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(
            tickets("1", "2", "3") + tickets("4", delay=9.0) + tickets("p1", "p2", account="paused")
        )
        await harness.scheduler.pause("paused")
        await harness.scheduler.claim(1)
        counts = await harness.scheduler.counts()
        assert (counts.waiting, counts.active, counts.delayed, counts.paused) == (2, 1, 1, 2)

    async def test_everything_finished_counts_nothing(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", lane="x") + tickets("3"))
        while leases := await harness.scheduler.claim(10):
            await harness.scheduler.finish([Done(lease) for lease in leases])
        counts = await harness.scheduler.counts()
        assert (counts.waiting, counts.active, counts.delayed, counts.paused) == (0, 0, 0, 0)

    async def test_enqueue_wakes_a_waiting_claimer(self, harness: Harness) -> None:
        await harness.scheduler.wait(0)
        waiter = asyncio.create_task(harness.scheduler.wait(60))
        await asyncio.sleep(0)
        await harness.scheduler.enqueue(tickets("1"))
        await asyncio.wait_for(waiter, 5)
        assert await claim_ids(harness) == ["1"]

    async def test_a_caller_that_has_places_again_gets_what_its_share_held_back(self, harness: Harness) -> None:
        await harness.scheduler.enqueue(tickets("1", "2", "3", "4", "5", "6"))
        assert len(await harness.scheduler.claim(4, shares=SHARES)) == 3
        assert await harness.scheduler.claim(1, shares=SHARES) == []
        await harness.scheduler.wait(0)
        waiter = asyncio.create_task(harness.scheduler.wait(60))
        await asyncio.sleep(0)
        harness.scheduler.look_again()
        await asyncio.wait_for(waiter, 5)
        assert len(await harness.scheduler.claim(4, shares=SHARES)) == 3

    async def test_wait_ends_when_something_falls_due(self, harness: Harness) -> None:
        await harness.scheduler.wait(0)
        await harness.scheduler.enqueue(tickets("1", delay=5.0))
        await harness.scheduler.wait(0)
        await harness.advance(5.1)
        await asyncio.wait_for(harness.scheduler.wait(60), 5)
        assert await claim_ids(harness) == ["1"]


class TestRoutesWithoutBudget:
    async def test_all_that_waited_for_a_route_goes_on_at_once(self, harness: Harness) -> None:
        await harness.scheduler.enqueue([Ticket(str(n), "a", route="edit") for n in range(4)])
        [lease] = await harness.scheduler.claim(1)
        await harness.scheduler.finish([Wait(lease, 2.5, Scope.ROUTE)])
        assert await claim_ids(harness) == []
        await harness.advance(2.5)
        assert len(await claim_ids(harness)) == 4


class TestSlowAccounts:
    async def test_an_account_leaves_places_to_others(self, harness: Harness) -> None:
        await harness.scheduler.enqueue([*tickets(*map(str, range(100)), account="slow")])
        held = await harness.scheduler.claim(16, shares=SHARES)
        assert len(held) == 12
        assert await harness.scheduler.claim(4, shares=SHARES) == []
        await harness.scheduler.enqueue(tickets("x", "y", account="other"))
        assert ids(await harness.scheduler.claim(4, shares=SHARES)) == ["x", "y"]
        await harness.scheduler.finish([Done(lease) for lease in held])
        assert len(await harness.scheduler.claim(14, shares=SHARES)) == 11

    async def test_a_tenant_with_many_accounts_leaves_places_to_others(self, harness: Harness) -> None:
        of_one = [Ticket(f"{n}", f"a{n % 30}", tenant="one") for n in range(60)]
        await harness.scheduler.enqueue(of_one)
        held = await harness.scheduler.claim(16, shares=SHARES)
        assert len(held) == 14
        assert await harness.scheduler.claim(2, shares=SHARES) == []
        await harness.scheduler.enqueue([Ticket("x", "b", tenant="two"), Ticket("y", "c")])
        assert sorted(ids(await harness.scheduler.claim(2, shares=SHARES))) == ["x", "y"]
        await harness.scheduler.finish([Done(lease) for lease in held[:8]])
        assert len(await harness.scheduler.claim(8, shares=SHARES)) == 7, "six were left, and 8 places are free"
        harness.scheduler.look_again()
        assert len(await harness.scheduler.claim(100)) == 60 - 14 - 7

    async def test_an_account_leaves_places_to_others_of_its_tenant(self, harness: Harness) -> None:
        await harness.scheduler.enqueue([Ticket(f"{n}", "slow", tenant="one") for n in range(100)])
        assert len(await harness.scheduler.claim(16, shares=SHARES)) == 12
        await harness.scheduler.enqueue([Ticket("x", "other", tenant="one")])
        assert ids(await harness.scheduler.claim(4, shares=SHARES)) == ["x"]

    async def test_leases_that_run_out_are_no_more_of_a_tenants_share(self, harness: Harness) -> None:
        await harness.scheduler.enqueue([Ticket(f"{n}", f"a{n}", tenant="one") for n in range(20)])
        assert len(await harness.scheduler.claim(16, shares=SHARES)) == 14
        await harness.advance(LEASE_SECONDS)
        assert len(await harness.scheduler.claim(16, shares=SHARES)) > 0

    async def test_no_more_of_an_account_are_under_way_than_it_bears(self, harness: Harness) -> None:
        limits = RateLimits(in_flight=2)
        await harness.scheduler.enqueue(tickets("1", "2", "3", "4", limits=limits))
        first, second = await harness.scheduler.claim(10)
        await harness.scheduler.enqueue(tickets("5", limits=limits))
        assert await claim_ids(harness) == []
        await harness.scheduler.finish([Done(first)])
        assert await claim_ids(harness) == ["3"]
        await harness.scheduler.finish([Release(second)])
        assert len(await claim_ids(harness)) == 1
        await harness.advance(LEASE_SECONDS)
        assert len(await claim_ids(harness)) == 2, "leases that ran out make room"

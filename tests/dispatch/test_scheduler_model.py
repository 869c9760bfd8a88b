"""Random work for every scheduler at once, each beside a book of what it may do.

`MSGCORE_MODEL_EXAMPLES` makes it longer: thousands find what a handful does not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contract.scheduler_book import Book
from contract.scheduler_harness import (
    LEASE_SECONDS,
    MemoryHarness,
    RedisClusterHarness,
    RedisHarness,
)
from msgcore.core.deliveries import Done, Lease, Outcome, Rank, Release, Retry, Ticket, Wait
from msgcore.core.errors import Scope
from msgcore.core.limits import BREAKER, PACING, UNLIMITED, Budget, Pace, RateLimits

EXAMPLES = int(os.environ.get("MSGCORE_MODEL_EXAMPLES", "20"))
PLENTY = 1000
ACCOUNTS = ("a", "b", "c")
LIMITS = (
    UNLIMITED,
    RateLimits(account=(Budget(1, 0.5),)),
    RateLimits(account=(Budget(4, 1.0, burst=3), Budget(10, 20.0, burst=5))),
    RateLimits(lane=(Budget(1, 1.0),)),
    RateLimits(lane=(Budget(2, 1.0, burst=2),), in_flight=2),
    RateLimits(route=(Budget(2, 1.0),)),
    RateLimits(account=(Budget(10, 1.0, burst=10),), lane=(Budget(1, 0.5),), route=(Budget(1, 0.75),), in_flight=4),
)

quarters = st.integers(0, 12).map(lambda number: number / 4)
spans = st.one_of(quarters, quarters, st.integers(0, 280).map(lambda number: number / 4))
orders = st.fixed_dictionaries(
    {
        "account": st.sampled_from(ACCOUNTS),
        "lane": st.sampled_from([None, "x", "x", "y"]),
        "route": st.sampled_from([None, None, "edit"]),
        "rank": st.sampled_from(Rank),
        "delay": st.one_of(st.just(0.0), st.just(0.0), spans),
        "keeps_place": st.booleans(),
    }
)
scopes = st.sampled_from(Scope)
paces = st.one_of(st.none(), st.builds(Pace, scopes, st.integers(0, 1), quarters))
endings: st.SearchStrategy[Callable[[Lease], Outcome]] = st.one_of(
    st.builds(lambda pace, answered: lambda lease: Done(lease, answered, pace), paces, st.booleans()),
    st.builds(lambda delay, trouble: lambda lease: Retry(lease, delay, trouble), spans, st.booleans()),
    st.builds(lambda delay, scope: lambda lease: Wait(lease, delay, scope), spans, scopes),
    st.just(Release),
)
picks = st.lists(st.integers(0, 30), min_size=1, max_size=4)


def nth_id(number: int) -> str:
    return str(UUID(int=number))


class Side:
    """One scheduler and its book, its leases of late, and what was removed from it."""

    def __init__(self, harness: Any) -> None:
        self.harness = harness
        self.scheduler = getattr(harness, "inner", harness.scheduler)
        self.book = Book(harness.pacing)
        self.leases: list[Lease] = []

    @property
    def now(self) -> float:
        return self.harness.clock.monotonic()

    async def enqueue(self, tickets: Sequence[Ticket]) -> None:
        self.book.enqueued(tickets, await self.scheduler.enqueue(tickets), self.now)

    async def claim(self, limit: int) -> list[Lease]:
        leases = await self.scheduler.claim(limit)
        self.book.claimed(leases, limit, self.now, everything=limit == PLENTY)
        self.leases = [*leases, *self.leases][:40]
        return leases

    async def finish(self, outcomes: Sequence[Outcome]) -> None:
        told = [self._untroubled(outcome) for outcome in outcomes]
        self.book.finished(told, await self.scheduler.finish(told), self.now)

    async def renew(self, leases: Sequence[Lease]) -> None:
        self.book.renewed(leases, await self.scheduler.renew(leases), self.now)

    async def remove(self, ids: Sequence[str]) -> None:
        self.book.removed(ids, await self.scheduler.remove(ids))

    async def hold(self, account_id: str, *, paused: bool) -> None:
        await (self.scheduler.pause if paused else self.scheduler.resume)(account_id)
        self.book.accounts[account_id].paused = paused

    async def check(self) -> None:
        counts, expected = await self.scheduler.counts(), self.book.counts()
        if self.harness.pacing.ahead:  # what falls due within that may count as either
            for each in (counts, expected):
                each.waiting, each.paused, each.delayed = each.waiting + each.paused + each.delayed, 0, 0
        assert counts == expected

    async def check_accounts(self) -> None:
        paused = {name for name, account in self.book.accounts.items() if account.paused}
        assert await self.scheduler.paused() == paused
        self.book.check_breakers(await self.scheduler.breakers(), self.now)

    def picked(self, numbers: Sequence[int]) -> list[Lease]:
        return [self.leases[number % len(self.leases)] for number in numbers] if self.leases else []

    def _untroubled(self, outcome: Outcome) -> Outcome:
        """What a breaker counted may be forgotten when its account is empty; then it is not asked about."""
        vague = self.book.accounts[outcome.lease.account_id].vague
        return Retry(outcome.lease, outcome.delay) if isinstance(outcome, Retry) and vague else outcome


class Machine(RuleBasedStateMachine):
    """The same calls for every side; which lease is meant may differ, as turns may."""

    harnesses: tuple[type, ...] = ()
    smallest = 1

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.sides: list[Side] = []
        self.limits = dict.fromkeys(ACCOUNTS, UNLIMITED)
        self.homes: dict[str, str] = {}
        self.number = 0
        self.sound = True

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    def each(self, call: Callable[[Side], Coroutine[Any, Any, Any]]) -> None:
        self.sound = False
        for side in self.sides:
            self.run(call(side))
        self.sound = True

    @initialize(limits=st.tuples(*[st.sampled_from(LIMITS)] * len(ACCOUNTS)))
    def open(self, limits: tuple[RateLimits, ...]) -> None:
        self.limits = {name_of(account): limit for account, limit in zip(ACCOUNTS, limits, strict=True)}

        async def opened() -> None:
            for harness in self.harnesses:
                self.sides.append(Side(harness()))
                await self.sides[-1].harness.open()

        self.run(opened())

    def ticket(self, delivery_id: str, account: str, **order: Any) -> Ticket:
        """A delivery never changes its account, whoever orders it again."""
        name = self.homes.setdefault(delivery_id, name_of(account))
        return Ticket(delivery_id, name, limits=self.limits[name], **order)

    @rule(batch=st.lists(orders, min_size=1, max_size=5))
    def enqueue(self, batch: list[dict[str, Any]]) -> None:
        tickets = [self.ticket(nth_id(self.number + n), **order) for n, order in enumerate(batch)]
        self.number += len(batch)
        self.each(lambda side: side.enqueue(tickets))

    @precondition(lambda self: self.number)
    @rule(number=st.integers(0, 30), order=orders)
    def enqueue_again(self, number: int, order: dict[str, Any]) -> None:
        ticket = self.ticket(nth_id(number % self.number), **order)
        self.each(lambda side: side.enqueue([ticket]))

    @rule(limit=st.integers(1, 6))
    def claim(self, limit: int) -> None:
        self.each(lambda side: side.claim(max(limit, self.smallest)))

    @rule()
    def claim_all(self) -> None:
        self.each(lambda side: side.claim(PLENTY))
        self.each(Side.check_accounts)

    @rule(numbers=picks, ending=st.lists(endings, min_size=4, max_size=4))
    def finish(self, numbers: list[int], ending: list[Callable[[Lease], Outcome]]) -> None:
        self.each(
            lambda side: side.finish([end(lease) for end, lease in zip(ending, side.picked(numbers), strict=False)])
        )

    @rule(numbers=picks)
    def renew(self, numbers: list[int]) -> None:
        self.each(lambda side: side.renew(side.picked(numbers)))

    @precondition(lambda self: self.number)
    @rule(numbers=picks)
    def remove(self, numbers: list[int]) -> None:
        ids = list(dict.fromkeys(nth_id(number % self.number) for number in numbers))
        self.each(lambda side: side.remove(ids))

    @rule(account=st.sampled_from(ACCOUNTS), paused=st.booleans())
    def hold(self, account: str, paused: bool) -> None:
        self.each(lambda side: side.hold(name_of(account), paused=paused))

    @rule(seconds=spans)
    def advance(self, seconds: float) -> None:
        self.each(lambda side: side.harness.advance(seconds))

    @rule(seconds=st.sampled_from([LEASE_SECONDS - 0.25, LEASE_SECONDS]))
    def let_leases_lapse(self, seconds: float) -> None:
        self.each(lambda side: side.harness.advance(seconds))

    @rule(account=st.sampled_from(ACCOUNTS), limits=st.sampled_from(LIMITS))
    def change_limits(self, account: str, limits: RateLimits) -> None:
        self.limits[name_of(account)] = limits

    @rule(account=st.sampled_from(ACCOUNTS), lane=st.sampled_from([None, "x"]))
    def break_down(self, account: str, lane: str | None) -> None:
        """An account in trouble, until its breaker opens or there is nothing more to try."""
        tickets = [self.ticket(nth_id(self.number + n), account, lane=lane) for n in range(BREAKER.failures)]
        self.number += len(tickets)

        async def fail(side: Side) -> None:
            await side.enqueue(tickets)
            for _ in range(BREAKER.failures):
                leases = [lease for lease in await side.claim(PLENTY) if lease.account_id == name_of(account)]
                await side.finish([Retry(lease, 0.0, trouble=True) for lease in leases])

        self.each(fail)

    @invariant()
    def agree(self) -> None:
        self.each(Side.check)

    def teardown(self) -> None:
        async def end() -> None:
            try:
                for side in self.sides if self.sound else ():
                    await self._drain(side)
            finally:
                for side in self.sides:
                    await side.harness.close()

        try:
            self.run(end())
        finally:
            self.loop.close()

    async def _drain(self, side: Side) -> None:
        """Everything that was enqueued and not removed comes out, and nothing is left of it."""
        for account in ACCOUNTS:
            await side.hold(name_of(account), paused=False)
        rounds = 0
        while side.book.entries:
            rounds += 1
            assert rounds < 40 + 20 * self.number, "some never came out"
            leases = await side.claim(PLENTY)
            await side.finish([Done(lease) for lease in leases])
            await side.harness.advance(2.5)
        for _ in range(3):
            await side.harness.advance(LEASE_SECONDS * 3)
            await side.claim(PLENTY)
        left = await side.harness.left_over()
        assert left == []


def name_of(account: str) -> str:
    return nth_id(0xA << 124 | ord(account))


class OneServer(Machine):
    harnesses = (MemoryHarness, RedisHarness)


class MemoryAhead(MemoryHarness):
    pacing = PACING


class RedisAhead(RedisHarness):
    pacing = PACING


class AheadOfTime(Machine):
    """Claims that say when each call may be made, as workers make them."""

    harnesses = (MemoryAhead, RedisAhead)


class OfCluster(Machine):
    """Where several shards are asked, a small claim need not reach all of them."""

    harnesses = (RedisClusterHarness,)
    smallest = PLENTY


def drive(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_one_process_and_one_server_do_what_any_scheduler_may() -> None:
    drive(OneServer, EXAMPLES)


def test_claims_ahead_of_time_are_what_any_scheduler_may_give() -> None:
    drive(AheadOfTime, EXAMPLES)


def test_a_cluster_does_what_any_scheduler_may() -> None:
    drive(OfCluster, max(1, EXAMPLES // 4))

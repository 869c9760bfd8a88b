"""A book of what any scheduler may do, kept beside one: plain, slow, and without any cleverness.

It is told every call and its answer. An answer that breaks the contract is an AssertionError; so is work that
could be given and was not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from contract.scheduler_harness import LEASE_SECONDS
from msgcore.core.deliveries import BreakerState, Done, Finished, Lease, Outcome, Retry, SchedulerCounts, Ticket, Wait
from msgcore.core.errors import Scope
from msgcore.core.limits import BREAKER, Budget, Pacing
from msgcore.dispatch.memory_queues import RESTED_SECONDS, ROUNDING

SLACK = 0.001


class Meter:
    """All calls that were made within some budgets, which no window may hold too many of, and GCRA beside.

    Other budgets start unused, but what waits for the old ones may wait on until they would have been free.
    """

    def __init__(self) -> None:
        self._budgets: tuple[Budget, ...] = ()
        self._calls: list[float] = []
        self._arrivals: list[float] = []
        self._waits_until = 0.0

    def adopt(self, budgets: tuple[Budget, ...]) -> None:
        if budgets != self._budgets:
            self._waits_until = max(self._waits_until, self._free_at())
            self._budgets, self._calls, self._arrivals = budgets, [], [0.0] * len(budgets)

    def _free_at(self) -> float:
        pairs = zip(self._budgets, self._arrivals, strict=True)
        return max((arrival - budget.tolerance for budget, arrival in pairs), default=0.0)

    def may_call(self, at: float) -> bool:
        return self._free_at() <= at

    def must_call(self, at: float) -> bool:
        return max(self._free_at(), self._waits_until) <= at

    def call(self, at: float, pacing: Pacing) -> None:
        self._calls.append(at)
        for number, budget in enumerate(self._budgets):
            arrival = self._arrivals[number]
            rested = budget.burst == 1 and arrival < at - RESTED_SECONDS
            pause = min(pacing.most_start, max(pacing.least_start, budget.interval / 10)) if rested else 0.0
            self._arrivals[number] = max(at, arrival) + budget.interval + pause
            for first, since in enumerate(self._calls):
                count = len(self._calls) - first
                most = budget.burst + (at - since) / budget.interval + SLACK
                assert count <= most, f"{count} calls in {at - since} s exceed {budget}"


@dataclass(eq=False)
class Entry:
    """A delivery. `joined` tells apart what joined its lane at the same moment, in whichever order."""

    ticket: Ticket
    due: float
    token: int = 0
    deadline: float = 0.0
    delayed: bool = False
    joined: tuple[int, float] | None = None


@dataclass
class LaneBook:
    queue: list[Entry] = field(default_factory=list[Entry])
    busy: bool = False
    rests_until: float = 0.0
    meter: Meter = field(default_factory=Meter)

    def heads(self) -> list[Entry]:
        """What may be first."""
        first = self.queue[:1]
        if first and first[0].joined is not None:
            return [entry for entry in self.queue if entry.joined == first[0].joined]
        return first


@dataclass
class RouteBook:
    rests_until: float = 0.0
    meter: Meter = field(default_factory=Meter)


@dataclass
class AccountBook:
    """`vague`: its breaker may have been forgotten, as the account held nothing for a while."""

    in_flight: int = 0
    paused: bool = False
    rests_until: float = 0.0
    meter: Meter = field(default_factory=Meter)
    failures: int = 0
    cooldown: float = 0.0
    broken_until: float = 0.0
    probing: bool = False
    vague: bool = False


class Book:
    """What one scheduler was told and answered. Times are the tests' clock's."""

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self.entries: dict[str, Entry] = {}
        self.accounts: dict[str, AccountBook] = defaultdict(AccountBook)
        self.lanes: dict[tuple[str, str], LaneBook] = defaultdict(LaneBook)
        self.routes: dict[tuple[str, str], RouteBook] = defaultdict(RouteBook)
        self.done: list[str] = []
        self._newest_tokens: dict[str, int] = defaultdict(int)
        self._claims = 0

    # --- what it is told

    def enqueued(self, tickets: Sequence[Ticket], answer: int, now: float) -> None:
        added = 0
        for ticket in tickets:
            if ticket.delivery_id in self.entries:
                continue
            added += 1
            self._adopt_limits(ticket)
            entry = self.entries[ticket.delivery_id] = Entry(ticket, now + ticket.delay)
            lane = self._lane(entry)
            if ticket.delay > 0 and not (ticket.keeps_place and lane):
                entry.delayed = True
            elif lane:
                lane.queue.append(entry)
        assert answer == added

    def claimed(self, leases: Sequence[Lease], limit: int, now: float, *, everything: bool) -> None:
        """`everything`: there was no reason to keep anything back."""
        assert len(leases) <= limit
        self._pass_time(now)
        for lease in leases:
            self._give(lease, now)
        if everything:
            kept_back = self.claimable(now + self._pacing.ahead)
            assert not kept_back

    def finished(self, outcomes: Sequence[Outcome], report: Finished, now: float) -> None:
        lost: list[Lease] = []
        opened: list[str] = []
        closed: list[str] = []
        vague = {name for name, account in self.accounts.items() if account.vague}
        for outcome in outcomes:
            entry = self._held(outcome.lease)
            if entry is None:
                lost.append(outcome.lease)
            else:
                self._finish(entry, outcome, now, opened, closed)
        assert sorted(report.lost, key=_lease_order) == sorted(lost, key=_lease_order)
        vague |= {name for name, account in self.accounts.items() if account.vague}
        assert sorted(name for name in report.opened if name not in vague) == sorted(opened)
        assert sorted(name for name in report.closed if name not in vague) == sorted(closed)

    def renewed(self, leases: Sequence[Lease], lost: Sequence[Lease], now: float) -> None:
        held = [self._held(lease) for lease in leases]
        expected = [lease for lease, entry in zip(leases, held, strict=True) if entry is None]
        assert sorted(lost, key=_lease_order) == sorted(expected, key=_lease_order)
        for entry in held:
            if entry is not None:
                entry.deadline = now + LEASE_SECONDS

    def removed(self, ids: Iterable[str], answer: Sequence[str]) -> None:
        gone: list[str] = []
        for delivery_id in ids:
            entry = self.entries.get(delivery_id)
            if entry is None or entry.token:
                continue
            lane = self._lane(entry)
            if lane and not entry.delayed:
                lane.queue.remove(entry)
            self._forget(entry)
            gone.append(delivery_id)
        assert sorted(answer) == sorted(gone)

    # --- what it expects

    def counts(self) -> SchedulerCounts:
        counts = SchedulerCounts()
        for entry in self.entries.values():
            if entry.token:
                counts.active += 1
            elif entry.delayed:
                counts.delayed += 1
            elif self._account(entry).paused:
                counts.paused += 1
            else:
                counts.waiting += 1
        return counts

    def check_breakers(self, answer: dict[str, BreakerState], now: float) -> None:
        for name, account in self.accounts.items():
            if account.vague:
                continue
            state = None
            if account.probing:
                state = BreakerState.OPEN if now < account.broken_until else BreakerState.HALF_OPEN
            assert answer.get(name) == state

    def claimable(self, at: float) -> list[str]:
        """What must be given if there is room."""
        return [
            entry.ticket.delivery_id
            for entry in self.entries.values()
            if self._may_go(entry, at)
            and all(part.meter.must_call(at) for part in self._parts(entry))
            and not (self._account(entry).vague and self._leased(entry.ticket.account_id))
        ]

    # --- inside

    def _account(self, entry: Entry) -> AccountBook:
        return self.accounts[entry.ticket.account_id]

    def _lane(self, entry: Entry) -> LaneBook | None:
        lane = entry.ticket.lane
        return None if lane is None else self.lanes[entry.ticket.account_id, lane]

    def _route(self, entry: Entry) -> RouteBook | None:
        route = entry.ticket.route
        return None if route is None else self.routes[entry.ticket.account_id, route]

    def _leased(self, account_id: str) -> int:
        return sum(1 for entry in self.entries.values() if entry.token and entry.ticket.account_id == account_id)

    def _adopt_limits(self, ticket: Ticket) -> None:
        account, limits = self.accounts[ticket.account_id], ticket.limits
        account.in_flight = limits.in_flight
        account.meter.adopt(limits.account)
        if ticket.lane is not None:
            self.lanes[ticket.account_id, ticket.lane].meter.adopt(limits.lane)
        if ticket.route is not None:
            self.routes[ticket.account_id, ticket.route].meter.adopt(limits.route)

    def _pass_time(self, now: float) -> None:
        self._claims += 1
        for entry in list(self.entries.values()):
            if entry.token and entry.deadline <= now:
                self._unlease(entry)
                self._put_back(entry, now)
        for entry in sorted(self.entries.values(), key=lambda entry: entry.due):
            if entry.delayed and entry.due <= now + self._pacing.ahead:
                entry.delayed = False
                entry.joined = (self._claims, entry.due)
                if lane := self._lane(entry):
                    lane.queue.append(entry)

    def _parts(self, entry: Entry) -> list[AccountBook | LaneBook | RouteBook]:
        """What has a say in when it goes."""
        return [part for part in (self._account(entry), self._lane(entry), self._route(entry)) if part]

    def _may_go(self, entry: Entry, at: float) -> bool:
        account, lane = self._account(entry), self._lane(entry)
        most = 1 if account.probing and not account.vague else account.in_flight or math.inf
        return (
            not entry.token
            and not entry.delayed
            and not account.paused
            and max(account.rests_until, account.broken_until, entry.due) <= at
            and self._leased(entry.ticket.account_id) < most
            and (lane is None or (not lane.busy and entry in lane.heads()))
            and all(part.rests_until <= at and part.meter.may_call(at) for part in self._parts(entry))
        )

    def _give(self, lease: Lease, now: float) -> None:
        entry = self.entries[lease.delivery_id]
        assert entry.ticket.account_id == lease.account_id
        at = now + lease.wait
        assert lease.wait <= self._pacing.ahead
        assert self._may_go(entry, at + ROUNDING * 2), f"{lease} was not to be given"
        assert lease.token > self._newest_tokens[lease.account_id]
        self._newest_tokens[lease.account_id] = entry.token = lease.token
        entry.deadline = now + LEASE_SECONDS
        self._account(entry).meter.call(at, self._pacing)
        if lane := self._lane(entry):
            lane.queue.remove(entry)
            lane.busy = True
            lane.meter.call(at, self._pacing)
        if route := self._route(entry):
            route.meter.call(at, self._pacing)

    def _held(self, lease: Lease) -> Entry | None:
        entry = self.entries.get(lease.delivery_id)
        return entry if entry is not None and entry.token == lease.token else None

    def _unlease(self, entry: Entry) -> None:
        entry.token = 0
        entry.joined = None
        if lane := self._lane(entry):
            lane.busy = False

    def _put_back(self, entry: Entry, now: float) -> None:
        if lane := self._lane(entry):
            lane.queue.insert(0, entry)
        else:
            entry.delayed = entry.due > now

    def _forget(self, entry: Entry) -> None:
        del self.entries[entry.ticket.delivery_id]
        account = self._account(entry)
        if account.failures and all(
            other.ticket.account_id != entry.ticket.account_id for other in self.entries.values()
        ):
            account.vague = True

    def _finish(self, entry: Entry, outcome: Outcome, now: float, opened: list[str], closed: list[str]) -> None:
        self._unlease(entry)
        self._tell_breaker(entry, outcome, now, opened, closed)
        if isinstance(outcome, Done):
            if outcome.pace is not None and outcome.pace.remaining <= 0:
                self._silence(entry, outcome.pace.scope, now + outcome.pace.reset_after)
            self.done.append(entry.ticket.delivery_id)
            self._forget(entry)
            return
        if isinstance(outcome, Retry):
            entry.due = now + outcome.delay
        elif isinstance(outcome, Wait):
            self._silence(entry, outcome.scope, now + outcome.delay)
        self._put_back(entry, now)

    def _silence(self, entry: Entry, scope: Scope, until: float) -> None:
        silent = {Scope.ACCOUNT: self._account(entry), Scope.LANE: self._lane(entry), Scope.ROUTE: self._route(entry)}
        part = silent.get(scope)
        if part is None:
            entry.due = until
        else:
            part.rests_until = max(part.rests_until, until)

    def _tell_breaker(self, entry: Entry, outcome: Outcome, now: float, opened: list[str], closed: list[str]) -> None:
        name, account = entry.ticket.account_id, self._account(entry)
        if isinstance(outcome, Wait) or (isinstance(outcome, Done) and outcome.answered):
            if account.probing and not account.vague:
                closed.append(name)
            account.failures, account.cooldown, account.broken_until = 0, 0.0, 0.0
            account.probing = account.vague = False
        elif isinstance(outcome, Retry) and outcome.trouble:
            account.failures += 1
            if now < account.broken_until or (not account.probing and account.failures < BREAKER.failures):
                return
            account.cooldown = min(BREAKER.longest, account.cooldown * 2) or BREAKER.cooldown
            account.broken_until = now + account.cooldown
            account.probing = True
            opened.append(name)


def _lease_order(lease: Lease) -> tuple[str, int]:
    """Answers are as good in any order: each shard gives its own."""
    return lease.delivery_id, lease.token

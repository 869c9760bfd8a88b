"""The scheduler of one process: plain queues, two heaps and no I/O.

What is ready, and when, is in `memory_agenda`; here are the contract's calls, leases and outcomes.
Every operation costs O(log n) at worst and does not depend on how much is queued.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from itertools import count

from msgcore.core.clock import Clock
from msgcore.core.deliveries import (
    BreakerState,
    Done,
    Finished,
    Lease,
    Outcome,
    Release,
    Retry,
    SchedulerCounts,
    Shares,
    Ticket,
    Wait,
)
from msgcore.core.limits import PACING, Pacing
from msgcore.dispatch.memory_agenda import Agenda
from msgcore.dispatch.memory_queues import Account, Entry


class MemoryScheduler:
    """Implements `dispatch.scheduler.Scheduler` in the memory of one process.

    All state is lost with the process and rebuilt from the ledger. Times are on the injected
    clock's monotonic scale.
    """

    def __init__(self, clock: Clock, *, lease_seconds: float = 30.0, pacing: Pacing = PACING) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._pacing = pacing
        self._entries: dict[str, Entry] = {}
        self._agenda = Agenda(pacing)
        # Lease times are all equal, so deadlines are appended in order; renewed or finished leases
        # leave stale items behind that are skipped when they come up.
        self._deadlines: deque[tuple[float, Entry, int]] = deque()
        self._sequence = count(1)
        self._wake = asyncio.Event()

    async def enqueue(self, tickets: Sequence[Ticket]) -> int:
        """Add deliveries; returns how many were not known. One that is known is left as it is."""
        now = self._clock.monotonic()
        before = len(self._entries)
        for ticket in tickets:
            if ticket.delivery_id not in self._entries:
                self._add(ticket, now)
        self._wake.set()
        return len(self._entries) - before

    async def claim(self, limit: int, *, shares: Shares | None = None) -> list[Lease]:
        """Lease up to `limit` due deliveries; see the contract for the order."""
        now = self._clock.monotonic()
        self._expire_leases(now)
        self._agenda.fire_timers(now)
        leases: list[Lease] = []
        passed_over = 0
        while passed_over < len(self._agenda.ring) and len(leases) < limit:
            account = self._agenda.ring[0]
            if shares is not None and _has_its_share(account, shares, limit - len(leases)):
                self._agenda.ring.rotate(-1)
                passed_over += 1
                continue
            taken = self._agenda.next_entry(account, now)
            if taken is None:
                self._agenda.ring.popleft()
                account.in_ring = False
                self._agenda.retire_account(account, now)
                continue
            leases.append(self._lease(*taken, now))
            self._agenda.ring.rotate(-1)
            passed_over = 0
        return leases

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Extend leases by the lease time; returns those that are already lost."""
        now = self._clock.monotonic()
        lost: list[Lease] = []
        for lease in leases:
            entry = self._held(lease)
            if entry is None:
                lost.append(lease)
            else:
                self._set_deadline(entry, now)
        return lost

    async def finish(self, outcomes: Sequence[Outcome]) -> Finished:
        """Report outcomes; tells which leases were lost before, and which breakers opened or closed."""
        now = self._clock.monotonic()
        report = Finished([], [], [])
        for outcome in outcomes:
            entry = self._held(outcome.lease)
            if entry is None:
                report.lost.append(outcome.lease)
                continue
            self._unlease(entry)
            self._tell_breaker(entry.account, outcome, now, report)
            if isinstance(outcome, Done):
                if outcome.pace is not None and outcome.pace.remaining <= 0:
                    self._agenda.silence(entry, outcome.pace.scope, now + outcome.pace.reset_after)
                self._forget(entry, now)
            else:
                self._put_back(entry, outcome, now)
        self._wake.set()
        return report

    async def remove(self, delivery_ids: Sequence[str]) -> list[str]:
        """Forget deliveries that are not leased; returns the ids that were removed."""
        now = self._clock.monotonic()
        removed: list[str] = []
        for delivery_id in delivery_ids:
            entry = self._entries.get(delivery_id)
            if entry is None or entry.token:
                continue
            # Its timer or place in a ready queue is skipped when it comes up.
            entry.gone = True
            if entry.delayed:
                self._agenda.end_delay(entry)
            elif entry.lane is not None:
                self._agenda.leave_lane(entry, entry.lane)
            self._forget(entry, now)
            removed.append(delivery_id)
        self._wake.set()  # what was behind them in their lanes may go on
        return removed

    async def pause(self, account_id: str) -> None:
        """Hold all of an account's deliveries until `resume`."""
        self._agenda.paused.add(account_id)
        account = self._agenda.accounts.get(account_id)
        if account is not None:
            account.paused = True

    async def resume(self, account_id: str) -> None:
        """Let a paused account's deliveries go on."""
        self._agenda.paused.discard(account_id)
        account = self._agenda.accounts.get(account_id)
        if account is not None and account.paused:
            account.paused = False
            self._agenda.join_ring(account)
            self._wake.set()

    async def paused(self) -> set[str]:
        """The accounts that are held."""
        return set(self._agenda.paused)

    async def breakers(self) -> dict[str, BreakerState]:
        """The accounts whose circuit breaker is not closed."""
        now = self._clock.monotonic()
        states = ((account.id, account.breaker.state(now)) for account in self._agenda.accounts.values())
        return {account_id: state for account_id, state in states if state is not None}

    async def wait(self, seconds: float) -> None:
        """Return when something may have become claimable, or after that many seconds."""
        now = self._clock.monotonic()
        delay = min(seconds, max(0.0, self._next_moment() - now))
        if delay <= 0 or self._wake.is_set():
            self._wake.clear()
            return
        handle = self._clock.call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()
        self._wake.clear()

    def look_again(self) -> None:
        """End a wait: the caller has places again, so what its share held back may be claimable."""
        self._wake.set()

    async def counts(self) -> SchedulerCounts:
        """How many deliveries are held; one step an account, however much is queued."""
        counts = SchedulerCounts()
        for account in self._agenda.accounts.values():
            counts.active += account.leased
            counts.delayed += account.delayed
            due = account.size - account.leased - account.delayed
            if account.paused:
                counts.paused += due
            else:
                counts.waiting += due
        return counts

    # --- in

    def _add(self, ticket: Ticket, now: float) -> None:
        account = self._agenda.account(ticket)
        lane, route = None, None
        if ticket.lane is not None:
            lane = account.lane(ticket.lane)
            lane.budget.adopt(ticket.limits.lane)
        if ticket.route is not None:
            route = account.route(ticket.route)
            route.budget.adopt(ticket.limits.route)
        entry = Entry(ticket.delivery_id, account, lane, route, ticket.rank, now + ticket.delay)
        self._entries[ticket.delivery_id] = entry
        account.size += 1
        if ticket.delay > 0 and not (ticket.keeps_place and lane is not None):
            self._agenda.delay(entry)
        elif lane is not None:
            lane.waiting.append(entry)
            self._agenda.offer_lane(lane, now)
        else:
            self._agenda.offer(entry)

    # --- leases

    def _lease(self, entry: Entry, at: float, now: float) -> Lease:
        entry.token = next(self._sequence)
        entry.account.lease(1)
        self._set_deadline(entry, now)
        return Lease(entry.delivery_id, entry.account.id, entry.token, max(0.0, at - now))

    def _set_deadline(self, entry: Entry, now: float) -> None:
        entry.deadline = now + self._lease_seconds
        self._deadlines.append((entry.deadline, entry, entry.token))

    def _held(self, lease: Lease) -> Entry | None:
        entry = self._entries.get(lease.delivery_id)
        return entry if entry is not None and entry.token == lease.token else None

    def _unlease(self, entry: Entry) -> None:
        entry.token = 0
        entry.account.lease(-1)
        self._agenda.join_ring(entry.account)  # it may have been full
        if entry.lane is not None:
            entry.lane.busy = False

    def _expire_leases(self, now: float) -> None:
        self._drop_stale_deadlines()
        while self._deadlines and self._deadlines[0][0] <= now:
            entry = self._deadlines.popleft()[1]
            self._unlease(entry)
            self._agenda.give_back(entry, now)
            self._drop_stale_deadlines()

    # --- out

    def _tell_breaker(self, account: Account, outcome: Outcome, now: float, report: Finished) -> None:
        if isinstance(outcome, Wait) or (isinstance(outcome, Done) and outcome.answered):
            if account.breaker.answered():
                report.closed.append(account.id)
                self._agenda.join_ring(account)
        elif isinstance(outcome, Retry) and outcome.trouble and account.breaker.trouble(now):
            report.opened.append(account.id)

    def _put_back(self, entry: Entry, outcome: Retry | Wait | Release, now: float) -> None:
        if isinstance(outcome, Retry):
            entry.due = now + outcome.delay
        elif isinstance(outcome, Wait):
            self._agenda.silence(entry, outcome.scope, now + outcome.delay)
        self._agenda.give_back(entry, now)

    def _forget(self, entry: Entry, now: float) -> None:
        del self._entries[entry.delivery_id]
        entry.account.size -= 1
        if entry.lane is not None:
            self._agenda.offer_lane(entry.lane, now)
            self._agenda.retire_lane(entry.lane, now)
        self._agenda.retire_account(entry.account, now)

    def _next_moment(self) -> float:
        """When the next timer fires or the next lease runs out."""
        self._drop_stale_deadlines()
        timer = self._agenda.timers[0][0] - self._pacing.ahead if self._agenda.timers else math.inf
        return min(timer, self._deadlines[0][0] if self._deadlines else math.inf)

    def _drop_stale_deadlines(self) -> None:
        while self._deadlines:
            deadline, entry, token = self._deadlines[0]
            if entry.token == token and entry.deadline == deadline:
                return
            self._deadlines.popleft()


def _has_its_share(account: Account, shares: Shares, left: int) -> bool:
    return account.leased >= shares.account * left or account.tenant.leased >= shares.tenant * left

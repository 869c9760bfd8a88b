"""The scheduler of one process: plain queues, two heaps and no I/O.

Structure: an account has three ready queues (one a rank) of *runnables*. A runnable is a lane with
a due head, or a single delivery without a lane. Accounts with something ready stand in a ring and
take turns, one delivery a turn, so a backlog in one does not delay another. What must wait for a
moment (a scheduled delivery, a lane or an account that was told to wait or whose budget is spent)
sits in one heap of timers. Every operation costs O(log n) at worst and does not depend on how much
is queued.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count

from msgcore.core.clock import Clock
from msgcore.core.deliveries import Done, Lease, Outcome, Release, Retry, SchedulerCounts, Ticket, Wait
from msgcore.core.errors import Scope
from msgcore.dispatch.memory_queues import Account, Entry, Lane, Runnable


class MemoryScheduler:
    """Implements `dispatch.scheduler.Scheduler` in the memory of one process.

    All state is lost with the process and rebuilt from the ledger. Times are on the injected
    clock's monotonic scale.
    """

    def __init__(self, clock: Clock, *, lease_seconds: float = 30.0) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._entries: dict[str, Entry] = {}
        self._accounts: dict[str, Account] = {}
        self._paused: set[str] = set()
        self._ring: deque[Account] = deque()
        self._timers: list[tuple[float, int, Entry | Lane | Account]] = []
        # Lease times are all equal, so deadlines are appended in order; renewed or finished leases
        # leave stale items behind that are skipped when they come up.
        self._deadlines: deque[tuple[float, Entry, int]] = deque()
        self._sequence = count(1)
        self._wake = asyncio.Event()

    async def enqueue(self, tickets: Sequence[Ticket]) -> None:
        """Add deliveries. One that is already known is left as it is."""
        now = self._clock.monotonic()
        for ticket in tickets:
            if ticket.delivery_id not in self._entries:
                self._add(ticket, now)
        self._wake.set()

    async def claim(self, limit: int, *, share: float | None = None) -> list[Lease]:
        """Lease up to `limit` due deliveries; see the contract for the order."""
        now = self._clock.monotonic()
        self._expire_leases(now)
        self._fire_timers(now)
        leases: list[Lease] = []
        passed_over = 0
        while passed_over < len(self._ring) and len(leases) < limit:
            account = self._ring[0]
            if share is not None and account.leased >= share * (limit - len(leases)):
                self._ring.rotate(-1)
                passed_over += 1
                continue
            entry = self._next_entry(account, now)
            if entry is None:
                self._ring.popleft()
                account.in_ring = False
                self._retire_account(account, now)
                continue
            leases.append(self._lease(entry, now))
            self._ring.rotate(-1)
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

    async def finish(self, outcomes: Sequence[Outcome]) -> list[Lease]:
        """Report outcomes; returns the leases that were lost before (their outcome is ignored)."""
        now = self._clock.monotonic()
        lost: list[Lease] = []
        for outcome in outcomes:
            entry = self._held(outcome.lease)
            if entry is None:
                lost.append(outcome.lease)
                continue
            self._unlease(entry)
            if isinstance(outcome, Done):
                self._forget(entry, now)
            else:
                self._put_back(entry, outcome, now)
        self._wake.set()
        return lost

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
                entry.account.delayed -= 1
            elif entry.lane is not None:
                entry.lane.waiting.remove(entry)
            self._forget(entry, now)
            removed.append(delivery_id)
        return removed

    async def pause(self, account_id: str) -> None:
        """Hold all of an account's deliveries until `resume`."""
        self._paused.add(account_id)
        account = self._accounts.get(account_id)
        if account is not None:
            account.paused = True

    async def resume(self, account_id: str) -> None:
        """Let a paused account's deliveries go on."""
        self._paused.discard(account_id)
        account = self._accounts.get(account_id)
        if account is not None and account.paused:
            account.paused = False
            self._join_ring(account)
            self._wake.set()

    async def paused(self) -> set[str]:
        """The accounts that are held."""
        return set(self._paused)

    async def wait(self, seconds: float) -> None:
        """Return when something may have become claimable, or after that many seconds."""
        now = self._clock.monotonic()
        due = self._next_moment()
        delay = seconds if due is None else min(seconds, max(0.0, due - now))
        if delay <= 0 or self._wake.is_set():
            self._wake.clear()
            return
        handle = asyncio.get_running_loop().call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()
        self._wake.clear()

    async def counts(self) -> SchedulerCounts:
        """How many deliveries are held; one step an account, however much is queued."""
        counts = SchedulerCounts()
        for account in self._accounts.values():
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
        account = self._account(ticket)
        lane = account.lane(ticket.lane) if ticket.lane is not None else None
        entry = Entry(ticket.delivery_id, account, lane, ticket.rank, now + ticket.delay)
        self._entries[ticket.delivery_id] = entry
        account.size += 1
        if ticket.delay > 0 and not (ticket.keeps_place and lane is not None):
            self._delay(entry)
        elif lane is not None:
            lane.waiting.append(entry)
            self._offer_lane(lane, now)
        else:
            self._offer(entry)

    def _account(self, ticket: Ticket) -> Account:
        account = self._accounts.get(ticket.account_id)
        if account is None:
            account = Account(ticket.account_id, ticket.limits)
            account.paused = ticket.account_id in self._paused
            self._accounts[ticket.account_id] = account
        account.set_limits(ticket.limits)
        return account

    # --- what is ready

    def _offer(self, runnable: Runnable) -> None:
        """Put a lane with a due head, or a due delivery without a lane, into its ready queue."""
        account = runnable.account
        account.ready[runnable.rank].append(runnable)
        self._join_ring(account)

    def _join_ring(self, account: Account) -> None:
        if not account.in_ring and not account.paused and not account.is_full() and account.has_ready():
            account.in_ring = True
            self._ring.append(account)

    def _offer_lane(self, lane: Lane, now: float) -> None:
        """Make a lane runnable if nothing of it is in flight and its head is due, or set its timer."""
        if lane.busy or lane.offered or not lane.waiting:
            return
        due = max(lane.asleep_until, lane.waiting[0].due)
        if due > now:
            if lane.timer != due:
                lane.timer = due
                self._set_timer(due, lane)
            return
        lane.offered = True
        self._offer(lane)

    def _next_entry(self, account: Account, now: float) -> Entry | None:
        """The account's next delivery, with its budgets charged; None when it has none just now."""
        if account.paused or account.is_full():
            return None
        if account.asleep_until > now:
            self._sleep_account(account)
            return None
        free_at = account.budget.free_at(now)
        if free_at > now:
            account.asleep_until = free_at
            self._sleep_account(account)
            return None
        while (runnable := account.pick()) is not None:
            entry = self._take(runnable, now)
            if entry is not None:
                account.budget.charge(now)
                return entry
        return None

    def _take(self, runnable: Runnable, now: float) -> Entry | None:
        """The delivery of a runnable, or None if it is gone or its lane must wait."""
        if isinstance(runnable, Entry):
            return None if runnable.gone else runnable
        lane = runnable
        lane.offered = False
        if not lane.waiting:
            return None
        lane.asleep_until = max(lane.asleep_until, lane.budget.free_at(now))
        if max(lane.asleep_until, lane.waiting[0].due) > now:
            self._offer_lane(lane, now)
            return None
        lane.budget.charge(now)
        lane.busy = True
        return lane.waiting.popleft()

    # --- leases

    def _lease(self, entry: Entry, now: float) -> Lease:
        entry.token = next(self._sequence)
        entry.account.leased += 1
        self._set_deadline(entry, now)
        return Lease(entry.delivery_id, entry.account.id, entry.token)

    def _set_deadline(self, entry: Entry, now: float) -> None:
        entry.deadline = now + self._lease_seconds
        self._deadlines.append((entry.deadline, entry, entry.token))

    def _held(self, lease: Lease) -> Entry | None:
        entry = self._entries.get(lease.delivery_id)
        return entry if entry is not None and entry.token == lease.token else None

    def _unlease(self, entry: Entry) -> None:
        entry.token = 0
        entry.account.leased -= 1
        self._join_ring(entry.account)  # it may have been full
        if entry.lane is not None:
            entry.lane.busy = False

    def _expire_leases(self, now: float) -> None:
        self._drop_stale_deadlines()
        while self._deadlines and self._deadlines[0][0] <= now:
            entry = self._deadlines.popleft()[1]
            self._unlease(entry)
            self._return(entry, now)
            self._drop_stale_deadlines()

    # --- out

    def _put_back(self, entry: Entry, outcome: Retry | Wait | Release, now: float) -> None:
        if isinstance(outcome, Retry) or (isinstance(outcome, Wait) and outcome.scope is Scope.DELIVERY):
            entry.due = now + outcome.delay
        elif isinstance(outcome, Wait):
            until = now + outcome.delay
            if outcome.scope is Scope.ACCOUNT:
                entry.account.asleep_until = max(entry.account.asleep_until, until)
            elif entry.lane is not None:
                entry.lane.asleep_until = max(entry.lane.asleep_until, until)
            else:
                entry.due = until
        self._return(entry, now)

    def _return(self, entry: Entry, now: float) -> None:
        """Give a delivery its place back: the head of its lane, or its due time."""
        if entry.lane is not None:
            entry.lane.waiting.appendleft(entry)
            self._offer_lane(entry.lane, now)
        elif entry.due > now:
            self._delay(entry)
        else:
            self._offer(entry)

    def _forget(self, entry: Entry, now: float) -> None:
        del self._entries[entry.delivery_id]
        entry.account.size -= 1
        if entry.lane is not None:
            self._offer_lane(entry.lane, now)
            self._retire_lane(entry.lane, now)
        self._retire_account(entry.account, now)

    def _retire_lane(self, lane: Lane, now: float) -> None:
        """Forget an empty lane, once its budget has recovered."""
        if lane.waiting or lane.busy:
            return
        fresh_at = lane.fresh_at()
        if fresh_at <= now:
            if lane.account.lanes.get(lane.key) is lane:
                del lane.account.lanes[lane.key]
        elif lane.timer is None:
            lane.timer = fresh_at
            self._set_timer(fresh_at, lane)

    def _retire_account(self, account: Account, now: float) -> None:
        """Forget an account that holds nothing, once its budget has recovered."""
        if account.size or account.lanes or account.in_ring:
            return
        fresh_at = account.fresh_at()
        if fresh_at <= now:
            if self._accounts.get(account.id) is account:
                del self._accounts[account.id]
        elif account.timer is None:
            account.timer = fresh_at
            self._set_timer(fresh_at, account)

    # --- timers

    def _delay(self, entry: Entry) -> None:
        entry.delayed = True
        entry.account.delayed += 1
        self._set_timer(entry.due, entry)

    def _set_timer(self, when: float, item: Entry | Lane | Account) -> None:
        heapq.heappush(self._timers, (when, next(self._sequence), item))

    def _sleep_account(self, account: Account) -> None:
        if account.timer != account.asleep_until:
            account.timer = account.asleep_until
            self._set_timer(account.asleep_until, account)

    def _fire_timers(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            item = heapq.heappop(self._timers)[2]
            if isinstance(item, Account):
                item.timer = None
                self._join_ring(item)
                self._retire_account(item, now)
            elif isinstance(item, Lane):
                item.timer = None
                self._offer_lane(item, now)
                self._retire_lane(item, now)
                self._retire_account(item.account, now)
            elif not item.gone:
                self._fall_due(item, now)

    def _fall_due(self, entry: Entry, now: float) -> None:
        entry.delayed = False
        entry.account.delayed -= 1
        if entry.lane is None:
            self._offer(entry)
        else:
            entry.lane.waiting.append(entry)
            self._offer_lane(entry.lane, now)

    def _next_moment(self) -> float | None:
        """When the next timer fires or the next lease runs out."""
        self._drop_stale_deadlines()
        moments = [queue[0][0] for queue in (self._timers, self._deadlines) if queue]
        return min(moments) if moments else None

    def _drop_stale_deadlines(self) -> None:
        while self._deadlines:
            deadline, entry, token = self._deadlines[0]
            if entry.token == token and entry.deadline == deadline:
                return
            self._deadlines.popleft()

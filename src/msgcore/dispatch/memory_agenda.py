"""What of the in-process scheduler is ready now, and what becomes ready when.

Structure: an account has three ready queues (one a rank) of *runnables*. A runnable is a lane with
a due head, or a single delivery without a lane. Accounts with something ready stand in a ring and
take turns, one delivery a turn, so a backlog in one does not delay another. What must wait for a
moment (a scheduled delivery; a lane, route or account that was told to wait or whose budget is
spent) sits in one heap of timers.
"""

from __future__ import annotations

import heapq
from collections import deque
from contextlib import suppress
from itertools import count
from weakref import WeakValueDictionary

from msgcore.core.deliveries import Ticket
from msgcore.core.errors import Scope
from msgcore.core.limits import Pacing
from msgcore.dispatch.memory_queues import Account, Entry, Lane, Route, Runnable, Tenant


class Agenda:
    """Accounts in their ring, and the timers. Times are on the scheduler's scale.

    What is done at `now` reaches `pacing.ahead` seconds further: what may go out by then is ready.
    """

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self.accounts: dict[str, Account] = {}
        self.tenants: WeakValueDictionary[str, Tenant] = WeakValueDictionary()  # held by their accounts
        self.ring: deque[Account] = deque()
        self.timers: list[tuple[float, int, Entry | Lane | Route | Account]] = []
        self.paused: set[str] = set()
        self._sequence = count(1)

    def account(self, ticket: Ticket) -> Account:
        """The account of a delivery, made if need be, with the delivery's limits."""
        account = self.accounts.get(ticket.account_id)
        if account is None:
            tenant = self._tenant(ticket.tenant or ticket.account_id)
            account = Account(ticket.account_id, tenant, ticket.limits, self._pacing)
            account.paused = ticket.account_id in self.paused
            self.accounts[ticket.account_id] = account
        if ticket.limits is not account.limits:
            account.set_limits(ticket.limits)
            self.join_ring(account)
        return account

    def _tenant(self, name: str) -> Tenant:
        tenant = self.tenants.get(name)
        if tenant is None:
            tenant = self.tenants[name] = Tenant(name)
        return tenant

    # --- what is ready

    def offer(self, runnable: Runnable) -> None:
        """Put a lane with a due head, or a due delivery without a lane, into its ready queue."""
        account = runnable.account
        account.ready[runnable.rank].append(runnable)
        self.join_ring(account)

    def join_ring(self, account: Account) -> None:
        """Let an account take turns, if it has something ready and may send."""
        if not account.in_ring and not account.paused and not account.is_full() and account.has_ready():
            account.in_ring = True
            self.ring.append(account)

    def offer_lane(self, lane: Lane, now: float) -> None:
        """Make a lane runnable if nothing of it is in flight and its head is due, or set its timer."""
        if lane.busy or lane.offered or not lane.waiting:
            return
        due = max(lane.asleep_until, lane.waiting[0].due)
        if due > now + self._pacing.ahead:
            if lane.timer != due:
                lane.timer = due
                self._set_timer(due, lane)
            return
        lane.offered = True
        self.offer(lane)

    def leave_lane(self, entry: Entry, lane: Lane) -> None:
        """Take a delivery out of its lane; the caller offers the lane anew."""
        if entry.route is not None and lane.waiting[0] is entry:
            # It may be parked for a route that is not the next one's, and would cost that route a turn.
            lane.offered = False
            with suppress(ValueError):
                entry.route.parked.remove(lane)
        lane.waiting.remove(entry)

    def next_entry(self, account: Account, now: float) -> tuple[Entry, float] | None:
        """The account's next delivery, with its budgets charged, and when it may go out; None when it has none now."""
        if account.paused or account.is_full():
            return None
        at = max(account.rests_until(), account.budget.free_at(now))
        if at > now + self._pacing.ahead:
            if account.timer != at:
                account.timer = at
                self._set_timer(at, account)
            return None
        while (runnable := account.pick()) is not None:
            taken = self._take(runnable, at, now)
            if taken is not None:
                account.budget.charge(taken[1])
                return taken
        return None

    def _take(self, runnable: Runnable, at: float, now: float) -> tuple[Entry, float] | None:
        """The delivery of a runnable and when it may go out, or None if it is gone or its lane or route must wait."""
        if isinstance(runnable, Entry):
            return None if runnable.gone else self._pass(runnable, runnable, max(at, runnable.due), now)
        lane = runnable
        lane.offered = False
        if lane.busy or not lane.waiting:
            return None
        head = lane.waiting[0]
        free_at = max(lane.asleep_until, lane.budget.free_at(now))
        if max(free_at, head.due) > now + self._pacing.ahead:
            lane.asleep_until = free_at
            self.offer_lane(lane, now)
            return None
        taken = self._pass(head, lane, max(at, free_at, head.due), now)
        if taken is None:
            lane.offered = True
            return None
        lane.budget.charge(taken[1])
        lane.busy = True
        lane.waiting.popleft()
        return taken

    def _pass(self, entry: Entry, runnable: Runnable, at: float, now: float) -> tuple[Entry, float] | None:
        """Charge the delivery's route, or park what stands for it until the route is free again."""
        route = entry.route
        if route is None:
            return entry, at
        free_at = max(at, route.free_at(now))
        if free_at <= now + self._pacing.ahead:
            route.budget.charge(free_at)
            return entry, free_at
        route.parked.append(runnable)
        if route.timer is None:
            route.timer = free_at
            self._set_timer(free_at, route)
        return None

    # --- what must wait

    def silence(self, entry: Entry, scope: Scope, until: float) -> None:
        """Let nothing of `scope` out before `until`."""
        silent: Account | Route | Lane | None = None
        if scope is Scope.ACCOUNT:
            silent = entry.account
        elif scope is not Scope.DELIVERY:
            silent = entry.route if scope is Scope.ROUTE else entry.lane
        if silent is None:  # nothing wider than the delivery itself
            entry.due = until
        else:
            silent.asleep_until = max(silent.asleep_until, until)

    def give_back(self, entry: Entry, now: float) -> None:
        """Give a delivery its place back: the head of its lane, or its due time."""
        if entry.lane is not None:
            entry.lane.waiting.appendleft(entry)
            self.offer_lane(entry.lane, now)
        elif entry.due > now + self._pacing.ahead:
            self.delay(entry)
        else:
            self.offer(entry)

    def retire_lane(self, lane: Lane, now: float) -> None:
        """Forget an empty lane, once its budget has recovered."""
        if lane.waiting or lane.busy or lane.delayed:
            return
        fresh_at = lane.fresh_at()
        if fresh_at <= now:
            if lane.account.lanes.get(lane.key) is lane:
                del lane.account.lanes[lane.key]
        elif lane.timer is None:
            lane.timer = fresh_at + self._pacing.ahead
            self._set_timer(lane.timer, lane)

    def retire_account(self, account: Account, now: float) -> None:
        """Forget an account that holds nothing, once its budget has recovered."""
        if account.size or account.lanes or account.in_ring:
            return
        fresh_at = max(account.fresh_at(), *(route.fresh_at() for route in account.routes.values()), 0.0)
        if fresh_at <= now:
            if self.accounts.get(account.id) is account:
                del self.accounts[account.id]
        elif account.timer is None:
            account.timer = fresh_at + self._pacing.ahead
            self._set_timer(account.timer, account)

    # --- timers

    def delay(self, entry: Entry) -> None:
        """Keep a delivery until it is due."""
        entry.delayed = True
        entry.account.delayed += 1
        if entry.lane is not None:
            entry.lane.delayed += 1
        self._set_timer(entry.due, entry)

    def end_delay(self, entry: Entry) -> None:
        """A delayed delivery is due, or gone."""
        entry.delayed = False
        entry.account.delayed -= 1
        if entry.lane is not None:
            entry.lane.delayed -= 1

    def _set_timer(self, when: float, item: Entry | Lane | Route | Account) -> None:
        heapq.heappush(self.timers, (when, next(self._sequence), item))

    def fire_timers(self, now: float) -> None:
        """Make ready what had to wait until now."""
        while self.timers and self.timers[0][0] <= now + self._pacing.ahead:
            item = heapq.heappop(self.timers)[2]
            if isinstance(item, Account):
                item.timer = None
                self.join_ring(item)
                self.retire_account(item, now)
            elif isinstance(item, Lane):
                item.timer = None
                self.offer_lane(item, now)
                self.retire_lane(item, now)
                self.retire_account(item.account, now)
            elif isinstance(item, Route):
                self._unpark(item, now)
            elif not item.gone:
                self._fall_due(item, now)

    def _unpark(self, route: Route, now: float) -> None:
        """Let the first that is parked try again; the next as soon as its call leaves room for one more."""
        route.timer = None
        free_at = route.free_at(now)
        if free_at <= now + self._pacing.ahead and (runnable := _first(route.parked)) is not None:
            route.account.ready[runnable.rank].appendleft(runnable)
            self.join_ring(route.account)
            free_at += route.budget.interval
        if route.parked:
            route.timer = free_at
            self._set_timer(free_at, route)

    def _fall_due(self, entry: Entry, now: float) -> None:
        self.end_delay(entry)
        if entry.lane is None:
            self.offer(entry)
        else:
            entry.lane.waiting.append(entry)
            self.offer_lane(entry.lane, now)


def _first(parked: deque[Runnable]) -> Runnable | None:
    """Take the first that still stands for a delivery."""
    while parked:
        runnable = parked.popleft()
        if isinstance(runnable, Entry):
            if not runnable.gone:
                return runnable
        elif runnable.waiting:
            return runnable
        else:
            runnable.offered = False
    return None

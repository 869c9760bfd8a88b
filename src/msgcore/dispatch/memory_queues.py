"""The parts of the in-process scheduler: entries, lanes, routes, accounts and their budgets."""

from __future__ import annotations

from collections import deque

from msgcore.core.deliveries import Rank
from msgcore.core.limits import Budget, Pacing, RateLimits
from msgcore.dispatch.breaker import Breaker

# Which rank is asked first, turn by turn: high is served most, low at least once in eight turns.
TURNS = (Rank.HIGH, Rank.HIGH, Rank.NORMAL, Rank.HIGH, Rank.HIGH, Rank.NORMAL, Rank.HIGH, Rank.LOW)


# Sums of intervals differ from their product in the last bits; a microsecond is none to a platform.
ROUNDING = 1e-6

RESTED_SECONDS = 1.0
"""A budget that was free for so long has rested."""


class BudgetState:
    """Where a set of GCRA budgets stands: one theoretical arrival time each."""

    __slots__ = ("_budgets", "_pacing", "_tats")

    def __init__(self, budgets: tuple[Budget, ...], pacing: Pacing) -> None:
        self._budgets = budgets
        self._pacing = pacing
        self._tats = [0.0] * len(budgets)

    @property
    def interval(self) -> float:
        """Seconds between calls at the steady rate."""
        return max((budget.interval for budget in self._budgets), default=0.0)

    def free_at(self, now: float) -> float:
        """The first moment at which one more call is within every budget."""
        moment = now
        for budget, tat in zip(self._budgets, self._tats, strict=True):
            moment = max(moment, tat - budget.tolerance - ROUNDING)
        return moment

    def charge(self, at: float) -> None:
        """Count one call that is made at that moment."""
        for index, budget in enumerate(self._budgets):
            tat = self._tats[index]
            start = self._start(budget) if tat < at - RESTED_SECONDS else 0.0
            self._tats[index] = max(at, tat) + budget.interval + start

    def fresh_at(self) -> float:
        """From when on nothing would change if this state were forgotten."""
        return max(self._tats, default=0.0)

    def adopt(self, budgets: tuple[Budget, ...]) -> None:
        """Change to other budgets; a new set starts unused."""
        if budgets != self._budgets:
            self._budgets = budgets
            self._tats = [0.0] * len(budgets)

    def _start(self, budget: Budget) -> float:
        if budget.burst > 1:  # several may come at once anyway
            return 0.0
        return min(self._pacing.most_start, max(self._pacing.least_start, budget.interval / 10))


class Lane:
    """Deliveries of one conversation, in order. Runnable itself: it stands for its head."""

    __slots__ = ("account", "asleep_until", "budget", "busy", "delayed", "key", "offered", "timer", "waiting")

    def __init__(self, key: str, account: Account) -> None:
        self.key = key
        self.account = account
        self.waiting: deque[Entry] = deque()
        self.delayed = 0  # how many join it later
        self.busy = False
        self.offered = False
        self.asleep_until = 0.0
        self.timer: float | None = None
        self.budget = BudgetState((), account.pacing)

    def fresh_at(self) -> float:
        """From when on an empty lane can be forgotten."""
        return max(self.asleep_until, self.budget.fresh_at())

    @property
    def rank(self) -> Rank:
        """The rank of the delivery that is next."""
        return self.waiting[0].rank


class Route:
    """A kind of call with a budget of its own. What finds it spent is parked and goes on in its turn."""

    __slots__ = ("account", "asleep_until", "budget", "key", "parked", "timer")

    def __init__(self, key: str, account: Account) -> None:
        self.key = key
        self.account = account
        self.parked: deque[Runnable] = deque()
        self.asleep_until = 0.0
        self.timer: float | None = None
        self.budget = BudgetState((), account.pacing)

    def free_at(self, now: float) -> float:
        """The first moment at which one more call may be made."""
        return max(self.asleep_until, self.budget.free_at(now))

    def fresh_at(self) -> float:
        """From when on it can be forgotten, if nothing is parked."""
        return max(self.asleep_until, self.budget.fresh_at())


class Entry:
    """One delivery. `token` is that of its newest lease, 0 when it is not leased."""

    __slots__ = ("account", "deadline", "delayed", "delivery_id", "due", "gone", "lane", "rank", "route", "token")

    def __init__(
        self, delivery_id: str, account: Account, lane: Lane | None, route: Route | None, rank: Rank, due: float
    ) -> None:
        self.delivery_id = delivery_id
        self.account = account
        self.lane = lane
        self.route = route
        self.rank = rank
        self.due = due
        self.token = 0
        self.deadline = 0.0
        self.delayed = False
        self.gone = False


Runnable = Lane | Entry


class Tenant:
    """Accounts that share a worker's places, and how many of their deliveries are leased."""

    __slots__ = ("__weakref__", "leased", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.leased = 0


class Account:
    """One configured platform: its lanes, routes, ready queues, budget and breaker."""

    __slots__ = (
        "_turn",
        "asleep_until",
        "breaker",
        "budget",
        "delayed",
        "id",
        "in_ring",
        "lanes",
        "leased",
        "limits",
        "pacing",
        "paused",
        "ready",
        "routes",
        "size",
        "tenant",
        "timer",
    )

    def __init__(self, account_id: str, tenant: Tenant, limits: RateLimits, pacing: Pacing) -> None:
        self.id = account_id
        self.tenant = tenant
        self.limits = limits
        self.pacing = pacing
        self.lanes: dict[str, Lane] = {}
        self.routes: dict[str, Route] = {}
        self.ready: tuple[deque[Runnable], ...] = (deque(), deque(), deque())
        self.budget = BudgetState(limits.account, pacing)
        self.breaker = Breaker()
        self.asleep_until = 0.0
        self.timer: float | None = None
        self.paused = False
        self.in_ring = False
        self.size = 0
        self.leased = 0
        self.delayed = 0
        self._turn = 0

    def lane(self, key: str) -> Lane:
        """The lane with this key, made if need be."""
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane(key, self)
        return lane

    def route(self, key: str) -> Route:
        """The route with this key, made if need be."""
        route = self.routes.get(key)
        if route is None:
            route = self.routes[key] = Route(key, self)
        return route

    def lease(self, number: int) -> None:
        """Count so many more leases, or fewer."""
        self.leased += number
        self.tenant.leased += number

    def set_limits(self, limits: RateLimits) -> None:
        """Adopt the limits that came with the newest delivery."""
        self.limits = limits
        self.budget.adopt(limits.account)

    def is_full(self) -> bool:
        """Whether as many of its deliveries are under way as it bears."""
        most = 1 if self.breaker.probing else self.limits.in_flight
        return 0 < most <= self.leased

    def rests_until(self) -> float:
        """Until when nothing of it may go out, because the platform asked for that or its breaker is open."""
        return max(self.asleep_until, self.breaker.until)

    def has_ready(self) -> bool:
        """Whether any ready queue holds something."""
        return any(self.ready)

    def pick(self) -> Runnable | None:
        """Take the next runnable by rank; low ranks get their turn so they never starve."""
        first = self.ready[TURNS[self._turn]]
        self._turn = (self._turn + 1) % len(TURNS)
        if first:
            return first.popleft()
        for queue in self.ready:
            if queue:
                return queue.popleft()
        return None

    def fresh_at(self) -> float:
        """From when on an empty account can be forgotten."""
        return max(self.rests_until(), self.budget.fresh_at())

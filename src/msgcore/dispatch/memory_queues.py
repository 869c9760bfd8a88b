"""The parts of the in-process scheduler: entries, lanes, accounts and their budgets."""

from __future__ import annotations

from collections import deque

from msgcore.core.deliveries import Rank
from msgcore.core.limits import Budget, RateLimits

# Which rank is asked first, turn by turn: high is served most, low at least once in eight turns.
TURNS = (Rank.HIGH, Rank.HIGH, Rank.NORMAL, Rank.HIGH, Rank.HIGH, Rank.NORMAL, Rank.HIGH, Rank.LOW)


# Sums of intervals differ from their product in the last bits; a microsecond is none to a platform.
ROUNDING = 1e-6


class BudgetState:
    """Where a set of GCRA budgets stands: one theoretical arrival time each."""

    __slots__ = ("_budgets", "_held_until", "_tats")

    def __init__(self, budgets: tuple[Budget, ...]) -> None:
        self._budgets = budgets
        self._tats = [0.0] * len(budgets)
        self._held_until: float | None = None

    def free_at(self, now: float) -> float:
        """The first moment at which one more call is within every budget.

        If that is later than `now`, the caller has work waiting and will come back then.
        """
        moment = now
        for budget, tat in zip(self._budgets, self._tats, strict=True):
            moment = max(moment, tat - budget.tolerance - ROUNDING)
        if moment > now:
            self._held_until = moment
        return moment

    def charge(self, now: float) -> None:
        """Count one call.

        Work that was held back until a moment is charged as of that moment, by up to one interval:
        a timer that fires a little late must not cost part of the budget for good.
        """
        for index, budget in enumerate(self._budgets):
            since = now if self._held_until is None else max(self._held_until, now - budget.interval)
            self._tats[index] = max(since, self._tats[index]) + budget.interval
        self._held_until = None

    def fresh_at(self) -> float:
        """From when on nothing would change if this state were forgotten."""
        return max(self._tats, default=0.0)

    def adopt(self, budgets: tuple[Budget, ...]) -> None:
        """Change to other budgets; a new set starts unused."""
        if budgets != self._budgets:
            self._budgets = budgets
            self._tats = [0.0] * len(budgets)
            self._held_until = None


class Lane:
    """Deliveries of one conversation, in order. Runnable itself: it stands for its head."""

    __slots__ = ("account", "asleep_until", "budget", "busy", "key", "offered", "timer", "waiting")

    def __init__(self, key: str, account: Account) -> None:
        self.key = key
        self.account = account
        self.waiting: deque[Entry] = deque()
        self.busy = False
        self.offered = False
        self.asleep_until = 0.0
        self.timer: float | None = None
        self.budget = BudgetState(account.limits.lane)

    def fresh_at(self) -> float:
        """From when on an empty lane can be forgotten."""
        return max(self.asleep_until, self.budget.fresh_at())

    @property
    def rank(self) -> Rank:
        """The rank of the delivery that is next."""
        return self.waiting[0].rank


class Entry:
    """One delivery. `token` is that of its newest lease, 0 when it is not leased."""

    __slots__ = ("account", "deadline", "delayed", "delivery_id", "due", "gone", "lane", "rank", "token")

    def __init__(self, delivery_id: str, account: Account, lane: Lane | None, rank: Rank, due: float) -> None:
        self.delivery_id = delivery_id
        self.account = account
        self.lane = lane
        self.rank = rank
        self.due = due
        self.token = 0
        self.deadline = 0.0
        self.delayed = False
        self.gone = False


Runnable = Lane | Entry


class Account:
    """One configured platform: its lanes, ready queues and budget."""

    __slots__ = (
        "_turn",
        "asleep_until",
        "budget",
        "delayed",
        "id",
        "in_ring",
        "lanes",
        "leased",
        "limits",
        "paused",
        "ready",
        "size",
        "timer",
    )

    def __init__(self, account_id: str, limits: RateLimits) -> None:
        self.id = account_id
        self.limits = limits
        self.lanes: dict[str, Lane] = {}
        self.ready: tuple[deque[Runnable], ...] = (deque(), deque(), deque())
        self.budget = BudgetState(limits.account)
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

    def set_limits(self, limits: RateLimits) -> None:
        """Adopt the limits that came with the newest delivery."""
        if limits is not self.limits and limits != self.limits:
            self.limits = limits
            self.budget.adopt(limits.account)
            for lane in self.lanes.values():
                lane.budget.adopt(limits.lane)

    def is_full(self) -> bool:
        """Whether as many of its deliveries are under way as it bears."""
        return 0 < self.limits.in_flight <= self.leased

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
        return max(self.asleep_until, self.budget.fresh_at())

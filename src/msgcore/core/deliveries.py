"""The words of the dispatch core: deliveries, lanes, leases and outcomes.

See `docs/dispatch.md` for how they fit together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

import msgspec

from msgcore.core.errors import Scope
from msgcore.core.limits import UNLIMITED, Pace, RateLimits


class DeliveryState(StrEnum):
    """Where one message to one target is on its way."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    STANDBY = "standby"
    SENDING = "sending"
    RETRYING = "retrying"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


OPEN_STATES = frozenset({DeliveryState.QUEUED, DeliveryState.SCHEDULED, DeliveryState.SENDING, DeliveryState.RETRYING})
TRIED_STATES = frozenset({DeliveryState.SENDING, DeliveryState.RETRYING})
"""Open, and an attempt was made: what is behind it in its lane waits for it."""

PENDING_STATES = OPEN_STATES | {DeliveryState.STANDBY}
"""Not final: open, or a fallback that takes over if it must (`options.fallback`)."""

SENT_STATES = frozenset({DeliveryState.SENT, DeliveryState.DELIVERED, DeliveryState.READ})

UNDELIVERED = "undelivered"
"""The error's code of a message that the platform took and could not deliver."""


class FallbackCode(StrEnum):
    """The error codes of deliveries of a message with `options.fallback`."""

    NOT_NEEDED = "fallback_not_needed"
    """A fallback that ended without an attempt, since another target of its message was sent."""
    TIMEOUT = "fallback_timeout"
    """Not sent in time: the next target took over."""
    UNCERTAIN = "fallback_uncertain"
    """A fallback that ended since the target before it may have been reached, and `onUncertain` is `fail`."""


class Rank(IntEnum):
    """Priority as the scheduler counts it; lower is served first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Ticket(msgspec.Struct, frozen=True):
    """What the scheduler needs to know of a delivery: ids and numbers, never content.

    `lane` is None when order does not matter; `delay` is seconds from now until it is due; `route` names
    the budget of `limits.route` that it takes from, if any.
    Tickets of one lane are served in the order in which they were enqueued; one that is scheduled
    (`delay` above 0) joins its lane when it is due, unless it `keeps_place`: then it was already
    tried, and what is behind it in its lane waits for it. `tenant` names whose deliveries are served slowly
    together, if they are: all accounts of a project, see `Shares`.
    """

    delivery_id: str
    account_id: str
    lane: str | None = None
    rank: Rank = Rank.NORMAL
    delay: float = 0.0
    limits: RateLimits = UNLIMITED
    keeps_place: bool = False
    route: str | None = None
    tenant: str = ""


class Lease(msgspec.Struct, frozen=True):
    """The right to work on a delivery until the lease time is over.

    `token` fences: an outcome with an older token than the newest lease of the delivery is lost. `wait` is how
    many seconds after the claim the platform's budgets allow the call.
    """

    delivery_id: str
    account_id: str
    token: int
    wait: float = 0.0


class Shares(NamedTuple):
    """How much of a worker one account, and one tenant with all its accounts, may take while others may come.

    Each holds at most so many times as many leases of a caller as the caller has places left: however slowly they are
    answered, places are left for others.
    """

    account: float
    tenant: float


class Exchange(msgspec.Struct, frozen=True):
    """What a customer's endpoint said to one attempt; `status` and `body` are None where no answer came.

    `body` is the beginning of the answer's, as text; `seconds` is how long it took.
    """

    seconds: float
    status: int | None = None
    body: str | None = None


class Done(msgspec.Struct, frozen=True):
    """The delivery is final (sent, dead, cancelled or expired): its lane may go on.

    `answered`: the platform was asked and answered, so it lives. `pace` is what it said about its budget.
    """

    lease: Lease
    answered: bool = True
    pace: Pace | None = None


class Retry(msgspec.Struct, frozen=True):
    """Try again in `delay` seconds; until then the delivery keeps its place in its lane.

    `trouble`: the account as a whole seems to be in trouble; enough of these in a row open its breaker.
    """

    lease: Lease
    delay: float
    trouble: bool = False


class Wait(msgspec.Struct, frozen=True):
    """The platform asked to wait: `scope` is silent for `delay` seconds. Not an attempt."""

    lease: Lease
    delay: float
    scope: Scope


class Release(msgspec.Struct, frozen=True):
    """Given back untouched (shutdown, paused account): due at once, in its place."""

    lease: Lease


Outcome = Done | Retry | Wait | Release


class Finished(msgspec.Struct, frozen=True):
    """What `finish` made of a batch.

    `lost` are the leases that were lost before, whose outcome was ignored; `opened` and `closed` the
    accounts whose circuit breaker opened (or stayed open after a probe) and closed.
    """

    lost: list[Lease]
    opened: list[str]
    closed: list[str]


class BreakerState(StrEnum):
    """An account that is not trusted: left alone, or tried with one delivery at a time."""

    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class SchedulerCounts:
    """How many deliveries the scheduler holds.

    `waiting` are due, `active` leased, `delayed` scheduled for later, `paused` those of paused
    accounts that would otherwise be waiting.
    """

    waiting: int = 0
    active: int = 0
    delayed: int = 0
    paused: int = 0

"""The scheduler's contract.

Implementations: `dispatch.memory` (in process) and `dispatch.redis` (shared by any number of processes).
The ledger is the truth; a scheduler only holds what to do next and can be rebuilt from the ledger
at any moment. Every call takes or gives a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgcore.core.deliveries import BreakerState, Finished, Lease, Outcome, SchedulerCounts, Shares, Ticket


class SchedulerAwayError(Exception):
    """The scheduler's server does not answer just now; what was asked may or may not have been done."""


class Scheduler(Protocol):
    """What is due, in which order, and who holds it (dispatch contract, points 1-3, 5, 6, 8 and 11).

    Any call may raise SchedulerAwayError where the scheduler is a server. Every call may be repeated.
    """

    async def enqueue(self, tickets: Sequence[Ticket]) -> int:
        """Add deliveries; returns how many were not known. One that is known is left as it is."""
        ...

    async def claim(self, limit: int, *, shares: Shares | None = None) -> list[Lease]:
        """Lease up to `limit` due deliveries.

        At most one of each lane, within the limits of account, lane and route, by rank, accounts in
        turn. Deliveries whose lease ran out are due again. With `shares`, neither an account nor a
        tenant holds so many of this caller's leases that those which answer slowly take the last place.
        """
        ...

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Extend leases by the lease time; returns those that are already lost."""
        ...

    async def finish(self, outcomes: Sequence[Outcome]) -> Finished:
        """Report outcomes; tells which leases were lost before, and which breakers opened or closed."""
        ...

    async def remove(self, delivery_ids: Sequence[str]) -> list[str]:
        """Forget deliveries that are not leased; returns the ids that were removed."""
        ...

    async def pause(self, account_id: str) -> None:
        """Hold all of an account's deliveries until `resume`."""
        ...

    async def resume(self, account_id: str) -> None:
        """Let a paused account's deliveries go on."""
        ...

    async def paused(self) -> set[str]:
        """The accounts that are held."""
        ...

    async def breakers(self) -> dict[str, BreakerState]:
        """The accounts whose circuit breaker is not closed."""
        ...

    async def wait(self, seconds: float) -> None:
        """Return when something may have become claimable, or after that many seconds."""
        ...

    def look_again(self) -> None:
        """End a wait: the caller has places again, so what its share held back may be claimable."""
        ...

    async def counts(self) -> SchedulerCounts:
        """How many deliveries are held, without scanning them."""
        ...

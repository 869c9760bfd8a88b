"""What a gateway tells of itself: one look at its state, kept for a moment, for metrics and for health."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from msgcore.core.clock import Clock
from msgcore.dispatch.scheduler import SchedulerAwayError
from msgcore.observability.metrics import Metrics
from msgcore.observability.snapshot import Dispatching, PlatformState, Snapshot
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.ledger.vitals import platforms_of, read_vitals

T = TypeVar("T")
A = TypeVar("A")

KEPT_SECONDS = 2.0
"""However often somebody looks, the database is asked no more often than this."""

PATIENCE_SECONDS = 3.0
"""Whoever does not answer within that is away."""


class Monitoring:
    """Looks at the gateway.

    `dispatching` tells whether this process sends, `leading` whether it is the one that supplies the scheduler
    from the ledger. `breakers` gives `open` or `half-open` by account id, for
    accounts whose circuit breaker is not closed. `spool_bytes` and `streams` are those of this process, see
    `Snapshot`. `ping_redis` tells whether Redis answers; None where none
    is configured.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        metrics: Metrics,
        dispatching: Callable[[], Dispatching],
        leading: Callable[[], bool],
        breakers: Callable[[], Awaitable[Mapping[str, str]]],
        ping_redis: Callable[[], Awaitable[bool]] | None = None,
        spool_bytes: Callable[[], int] = lambda: 0,
        streams: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._spool_bytes = spool_bytes
        self._streams = streams
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._dispatching = dispatching
        self._leading = leading
        self._breakers = breakers
        self._ping_redis = ping_redis
        self._looking = asyncio.Lock()
        self._seen = Snapshot(database_reachable=False)
        self._seen_at = float("-inf")

    async def exposition(self) -> bytes:
        """All metrics as Prometheus reads them."""
        # Some hundred kilobytes take tens of milliseconds, which would hold up everything else here.
        return await asyncio.to_thread(self._metrics.exposition, await self.snapshot())

    async def snapshot(self) -> Snapshot:
        """The state as it was at most `KEPT_SECONDS` ago; never raises because something is away."""
        async with self._looking:
            if self._clock.monotonic() - self._seen_at >= KEPT_SECONDS:
                self._seen = await self._look()
                self._seen_at = self._clock.monotonic()
        return self._seen

    async def _look(self) -> Snapshot:
        now = self._clock.now()
        ledger, breakers, redis_reachable = await asyncio.gather(
            _ask(read_vitals(self._database, now), away=None),
            _ask(self._read_breakers(), away=Counter[PlatformState]()),
            _ask(self._reach_redis(), away=False),
        )
        own = Snapshot(
            database_reachable=False,
            redis_reachable=redis_reachable,
            dispatching=self._dispatching(),
            leading=self._leading(),
            breakers=breakers,
            connections=self._database.connections(),
            spool_bytes=self._spool_bytes(),
            streams=self._streams(),
        )
        if ledger is None:
            return own
        return replace(
            own,
            database_reachable=True,
            deliveries=ledger.deliveries,
            accounts=ledger.accounts,
            oldest_waiting=_age(ledger.oldest_accepted_at, now),
            lag=_age(ledger.oldest_due_at, now),
            inbound_lag=_age(ledger.oldest_unread_at, now),
        )

    async def _read_breakers(self) -> Counter[PlatformState]:
        states = await self._breakers()
        if not states:
            return Counter()
        platforms = await platforms_of(self._database, list(states))
        return Counter((platforms[account], state) for account, state in states.items() if account in platforms)

    async def _reach_redis(self) -> bool | None:
        return None if self._ping_redis is None else await self._ping_redis()


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


async def _ask(question: Awaitable[T], *, away: A) -> T | A:
    """The answer, or `away` when there is none."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await question
    except SchedulerAwayError:
        return away
    except Exception as error:
        if not is_away(error):
            raise
        return away

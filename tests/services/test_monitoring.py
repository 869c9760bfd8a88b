"""One look at a gateway's parts, some of them away."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from msgcore.dispatch.scheduler import SchedulerAwayError
from msgcore.observability.metrics import Metrics
from msgcore.services.monitoring import KEPT_SECONDS, Monitoring
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from store.ledger_rows import ACCOUNT, add_project, new_message

GONE = "01920000-0000-7000-8000-0000000000cc"


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.seconds


class Parts:
    """What the process would say of itself."""

    def __init__(self) -> None:
        self.states: Mapping[str, str] | Exception = {}
        self.redis: bool | Exception = True

    async def breakers(self) -> Mapping[str, str]:
        if isinstance(self.states, Exception):
            raise self.states
        return self.states

    async def ping_redis(self) -> bool:
        if isinstance(self.redis, Exception):
            raise self.redis
        return self.redis


def monitoring_of(database: Database, parts: Parts, clock: HandClock | None = None) -> Monitoring:
    return Monitoring(
        database=database,
        clock=clock or HandClock(),
        metrics=Metrics(),
        dispatching=lambda: "running",
        leading=lambda: True,
        breakers=parts.breakers,
        ping_redis=parts.ping_redis,
    )


async def test_breakers_are_counted_by_platform(database: Database) -> None:
    await add_project(database)
    parts = Parts()
    parts.states = {ACCOUNT: "half-open", GONE: "open"}
    seen = await monitoring_of(database, parts).snapshot()
    assert dict(seen.breakers) == {("sandbox", "half-open"): 1}
    told = (seen.database_reachable, seen.redis_reachable, seen.dispatching, seen.leading)
    assert told == (True, True, "running", True)


@pytest.mark.parametrize("away", [ConnectionRefusedError(), TimeoutError(), SchedulerAwayError("redis")])
async def test_parts_that_are_away_leave_the_rest(database: Database, away: Exception) -> None:
    await add_project(database)
    parts = Parts()
    parts.states = parts.redis = away
    seen = await monitoring_of(database, parts).snapshot()
    assert (dict(seen.breakers), seen.redis_reachable) == ({}, False)
    assert seen.accounts == {("sandbox", "active"): 1}


async def test_a_mistake_is_not_taken_for_a_part_that_is_away(database: Database) -> None:
    parts = Parts()
    parts.states = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        await monitoring_of(database, parts).snapshot()


async def test_without_redis_nothing_is_said_of_it(database: Database) -> None:
    monitoring = Monitoring(
        database=database,
        clock=HandClock(),
        metrics=Metrics(),
        dispatching=lambda: "off",
        leading=lambda: False,
        breakers=Parts().breakers,
    )
    assert (await monitoring.snapshot()).redis_reachable is None


async def test_a_look_is_kept_for_a_moment(database: Database) -> None:
    await add_project(database)
    clock = HandClock()
    monitoring = monitoring_of(database, Parts(), clock)
    assert (await monitoring.snapshot()).deliveries == {}

    async def ignore(_tickets: object) -> None:
        """Nobody sends here."""

    await AcceptLog(database, ignore).accept(new_message("ann"))
    clock.seconds = KEPT_SECONDS - 0.1
    assert (await monitoring.snapshot()).deliveries == {}
    clock.seconds = KEPT_SECONDS
    assert (await monitoring.snapshot()).deliveries == {("sandbox", "queued"): 1}
    assert b'msgcore_deliveries{platform="sandbox",state="queued"} 1.0' in await monitoring.exposition()

"""Budgets that processes share over a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from msgcore.config import Settings
from msgcore.core.errors import RateLimitedError
from msgcore.core.rate import RateLimit
from msgcore.core.scopes import Principal
from msgcore.dispatch.redis import RedisConnection
from msgcore.services import shared_spending
from msgcore.services.request_limits import Kind, RequestLimits
from msgcore.services.shared_spending import SharedSpending
from servers.clock import FakeClock
from servers.patience import PATIENCE
from servers.valkey import ValkeyCluster, ValkeyServer

KEY = Principal("api-key", "key", project_id="shop")
MOST = 10
"""One in six seconds: the time that a test takes fills nothing up."""


class FrozenClock(FakeClock):
    """Budgets fill up only when a test lets them; what waits for a moment does so in earnest."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Process:
    """One of those that share."""

    def __init__(self, connection: RedisConnection) -> None:
        self.clock = FrozenClock()
        self.spending = SharedSpending(connection, self.clock, shards=12)
        settings = Settings(rate_key_sending=MOST, rate_project_sending=0)
        limits = RequestLimits(settings, self.clock, on_refused=lambda _: None, note=self.spending.note)
        self._sending = limits.callers[Kind.SENDING]

    def ask(self, times: int) -> int:
        """How many of so many requests, one right after the other, it lets in."""
        for number in range(times):
            try:
                self._sending.admit(KEY)
            except RateLimitedError:
                return number
        return times

    async def told(self) -> None:
        """All that was spent is told, and the answer is known."""
        async with asyncio.timeout(PATIENCE):
            while self.spending._telling is not None:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    connection = RedisConnection.open(url)
    made = Process(connection)
    yield made
    await made.spending.close()
    await connection.close()


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


async def test_processes_share_a_budget(valkey: ValkeyServer) -> None:
    async with process(valkey.url) as one, process(valkey.url) as two:
        assert one.ask(6) == 6
        await one.told()
        assert two.ask(1) == 1
        await two.told()
        assert two.ask(MOST) == 3
        await two.told()
        assert one.ask(1) == 1, "decided before it heard of the other"
        await one.told()
        assert one.ask(1) == 0
        for each in (one, two):
            each.clock.advance(6.0)
        assert one.ask(2) == 0, "what was too much is missing afterwards"
        assert two.ask(2) == 1


async def test_without_redis_each_has_its_own_budget(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_spending, "AWAY_SECONDS", 0.05)
    async with process(valkey.url) as one, process(valkey.url) as two:
        assert one.ask(6) == 6
        await one.told()
        valkey.kill()
        assert two.ask(MOST + 1) == MOST
        assert one.ask(MOST) == 4, "what it knows already still counts"
        await two.told()
        assert two.spending._is_away
        valkey.start()
        two.clock.advance(6.0)
        assert two.ask(2) == 1
        await two.told()
        assert not two.spending._is_away
        with valkey.client() as client:
            [name] = client.keys("*")
            assert name.endswith(b":key_sending:key")
            assert 0 < client.pttl(name) <= 6000, "it goes when the budget is whole"


async def test_over_a_cluster_and_with_more_names_than_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_spending, "MOST_NAMES", 40)
    monkeypatch.setattr(shared_spending, "NAMES_AT_ONCE", 2)
    with ValkeyCluster() as cluster:
        async with process(cluster.url) as one:
            limit = RateLimit(1)
            for number in range(50):
                one.spending.note("address", limit, f"192.0.2.{number}", 60.0)
            await one.told()
            waits = [limit.wait(f"192.0.2.{number}", one.clock.monotonic()) for number in range(50)]
            assert [wait > 0 for wait in waits] == [True] * 40 + [False] * 10
        for node in cluster.nodes:
            with node.client() as client:
                assert client.dbsize()

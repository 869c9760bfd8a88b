"""What one process makes ready, another one hears of at once, without asking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from dispatch.redis_workers import (
    ACCOUNT,
    ListFeed,
    claim,
    delivery,
    end,
    heard,
    listen,
    load,
    tickets,
    worker,
)
from msgcore.core.deliveries import Lease, Shares, Ticket
from msgcore.core.ids import new_id
from msgcore.dispatch.redis import RedisScheduler, scheduler
from servers.patience import PATIENCE
from servers.valkey import ValkeyServer

OTHER_ACCOUNT = "01920000-0000-7000-8000-0000000000bb"


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def server(running: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ValkeyServer]:
    """Where nobody looks by himself."""
    monkeypatch.setattr(scheduler, "LONGEST_WAIT", 3600.0)
    yield running
    with running.client() as client:
        client.flushall()


@pytest.fixture
async def api(server: ValkeyServer) -> AsyncIterator[RedisScheduler]:
    """A process that hands over, in a shard that is live and empty."""
    async with worker(server.url) as made:
        await load(made, ListFeed())
        yield made


@pytest.fixture
async def idle(server: ValkeyServer, api: RedisScheduler) -> AsyncIterator[RedisScheduler]:
    """A worker that waits for news."""
    async with worker(server.url) as made:
        await made.claim(10)
        await listen(server, made)
        yield made


async def is_woken(idle: RedisScheduler, number: int = 1) -> list[Lease]:
    return await claim(idle, number)


async def test_what_is_handed_over_wakes_a_worker(api: RedisScheduler, idle: RedisScheduler) -> None:
    waiting = asyncio.create_task(is_woken(idle))
    await api.enqueue(tickets([delivery("x")]))
    await waiting


async def test_a_lane_that_goes_on_wakes_a_worker(
    server: ValkeyServer, api: RedisScheduler, idle: RedisScheduler
) -> None:
    await api.enqueue(tickets([delivery("x"), delivery("x")]))
    leases = await claim(api, 1)
    assert await idle.claim(10) == []
    waiting = asyncio.create_task(is_woken(idle))
    await end(ListFeed(), api, leases)
    await waiting


async def test_an_account_that_is_resumed_wakes_a_worker(api: RedisScheduler, idle: RedisScheduler) -> None:
    await api.pause(ACCOUNT)
    await api.enqueue(tickets([delivery("x")]))
    assert await idle.claim(10) == []
    waiting = asyncio.create_task(is_woken(idle))
    await api.resume(ACCOUNT)
    await waiting


async def test_what_is_due_before_anything_else_is_noticed_in_time(api: RedisScheduler, idle: RedisScheduler) -> None:
    await api.enqueue([Ticket(new_id(), ACCOUNT, delay=600.0)])
    assert await idle.claim(10) == []
    waiting = asyncio.create_task(is_woken(idle))
    await api.enqueue([Ticket(new_id(), ACCOUNT, delay=0.5)])
    await waiting


async def test_a_worker_that_left_its_share_to_others_hears_of_other_accounts(
    api: RedisScheduler, idle: RedisScheduler
) -> None:
    await api.enqueue(tickets(delivery() for _ in range(10)))
    held = await claim(idle, 1)
    assert await idle.claim(1, shares=Shares(1, 7)) == []
    waiting = asyncio.create_task(idle.wait(PATIENCE * 2))
    await asyncio.sleep(0)
    await api.enqueue(tickets([delivery(account=OTHER_ACCOUNT)]))
    async with asyncio.timeout(PATIENCE):
        await waiting
        while not (given := await idle.claim(1, shares=Shares(1, 7))):
            await idle.wait(PATIENCE * 2)
    assert [lease.account_id for lease in given] == [OTHER_ACCOUNT]
    assert await end(ListFeed(), idle, held) == []


async def test_news_that_were_missed_while_the_connection_was_broken_are_made_up_for(
    server: ValkeyServer, api: RedisScheduler, idle: RedisScheduler
) -> None:
    for _ in range(3):
        waiting = asyncio.create_task(is_woken(idle))
        with server.client() as client:
            assert client.client_kill_filter(_type="pubsub") == 1
        await api.enqueue(tickets([delivery()]))
        await end(ListFeed(), idle, await waiting)
        await heard(server, 1)


async def test_an_idle_worker_does_not_ask_again_and_again(
    server: ValkeyServer, api: RedisScheduler, idle: RedisScheduler
) -> None:
    leases = await claim_of_many(api, idle)
    await end(ListFeed(), idle, leases)
    await idle.claim(10)
    with server.client() as client:
        before = calls(client)
        await idle.wait(0.3)
        await idle.claim(10)
        assert calls(client) - before <= 1


async def claim_of_many(api: RedisScheduler, idle: RedisScheduler) -> list[Lease]:
    await api.enqueue(tickets(delivery() for _ in range(50)))
    return await claim(idle, 50)


def calls(client: object) -> int:
    return client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)  # type: ignore[attr-defined]

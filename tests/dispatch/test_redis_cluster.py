"""Over a cluster: each shard is where its slot is, news come from anywhere, and a node that is lost is not all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from dispatch.redis_workers import ListFeed, delivery, load, tickets, worker
from msgcore.core.deliveries import Done, Lease
from msgcore.core.ids import new_id
from msgcore.dispatch.redis import RedisScheduler, scheduler
from msgcore.dispatch.redis.shard import Shard
from msgcore.dispatch.scheduler import SchedulerAwayError
from servers.patience import PATIENCE
from servers.valkey import ValkeyCluster, ValkeyServer

SHARDS = 12


@pytest.fixture
def cluster() -> Iterator[ValkeyCluster]:
    """Whose nodes go on without each other."""
    with ValkeyCluster("--cluster-require-full-coverage", "no") as running:
        yield running


@pytest.fixture
async def api(cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisScheduler]:
    """A process that hands over, in shards that are live and empty; nobody looks by himself."""
    monkeypatch.setattr(scheduler, "LONGEST_WAIT", 3600.0)
    async with worker(cluster.url, shards=SHARDS) as made:
        await load(made, ListFeed())
        yield made


@pytest.fixture
async def idle(cluster: ValkeyCluster, api: RedisScheduler) -> AsyncIterator[RedisScheduler]:
    """A worker that waits for news."""
    async with worker(cluster.url, shards=SHARDS) as made:
        assert await made.claim(100) == []
        made._wake.clear()
        listening = asyncio.create_task(made.wait(PATIENCE * 10))
        async with asyncio.timeout(PATIENCE):
            while listener_of(cluster) is None:
                await asyncio.sleep(0.02)
        await listening  # the first of the news: it listens
        await made.claim(100)
        yield made


def listener_of(cluster: ValkeyCluster) -> ValkeyServer | None:
    """The node that somebody listens to."""
    for node in cluster.nodes:
        if node.is_running:
            with node.client() as client:
                if client.pubsub_numsub("msgcore:news")[0][1]:
                    return node
    return None


def account_in(scheduler: RedisScheduler, shard: Shard) -> str:
    """The id of an account that belongs there."""
    while scheduler.shard_of(account := new_id()) is not shard:
        pass
    return account


def one_each(scheduler: RedisScheduler) -> list[str]:
    return [account_in(scheduler, shard) for shard in scheduler.shards]


async def take(idle: RedisScheduler, number: int) -> list[Lease]:
    """What it is given when it waits for news; a shard that is away is tried again."""
    leases: list[Lease] = []
    async with asyncio.timeout(PATIENCE):
        while len(leases) < number:
            await idle.wait(PATIENCE)
            with suppress(SchedulerAwayError):
                leases += await idle.claim(100)
    return leases


async def test_every_shard_is_worked_on_where_it_is(
    cluster: ValkeyCluster, api: RedisScheduler, idle: RedisScheduler
) -> None:
    rows = [delivery(f"lane-{n % 2}", account) for account in one_each(api) for n in range(4)]
    waiting = asyncio.create_task(take(idle, SHARDS * 2))
    assert await api.enqueue(tickets(rows)) == len(rows)
    leases = await waiting
    assert {idle.shard_of(lease.account_id).index for lease in leases} == set(range(SHARDS))
    report = await idle.finish([Done(lease) for lease in leases])
    assert report.lost == []
    assert await idle.renew(await take(idle, SHARDS * 2)) == []
    for node in cluster.nodes:
        own = {shard.key.encode() for shard in api.shards if cluster.node_of(shard.key) is node}
        with node.client() as client:
            assert own <= set(client.keys("*"))
            assert 0 < len(own) < SHARDS


async def test_news_of_any_shard_are_heard_from_any_node(cluster: ValkeyCluster, api: RedisScheduler) -> None:
    clients = [node.client() for node in cluster.nodes]
    try:
        ears = [client.pubsub() for client in clients]
        for ear in ears:
            ear.subscribe("msgcore:news")
            confirmed = ear.get_message(timeout=PATIENCE)
            assert confirmed is not None
            assert confirmed["type"] == "subscribe"
        await api.enqueue(tickets(delivery(account=account) for account in one_each(api)))
        for ear in ears:
            heard: set[str] = set()
            async with asyncio.timeout(PATIENCE):
                while len(heard) < SHARDS:
                    message = ear.get_message(timeout=0.1)
                    text = message["data"].decode() if message else ""
                    if text.endswith("}"):  # not the news of the epochs that began when the shards were loaded
                        heard.add(text)
                    await asyncio.sleep(0)
            assert heard == {shard.key for shard in api.shards}
    finally:
        for client in clients:
            client.close()


async def test_when_a_node_is_lost_the_others_go_on(
    cluster: ValkeyCluster, api: RedisScheduler, idle: RedisScheduler
) -> None:
    lost = listener_of(cluster)
    assert lost is not None
    away = {shard.index for shard in api.shards if cluster.node_of(shard.key) is lost}
    assert 0 < len(away) < SHARDS
    accounts = one_each(api)
    lost.kill()
    waiting = asyncio.create_task(take(idle, SHARDS - len(away)))
    with pytest.raises(SchedulerAwayError):
        await api.enqueue(tickets(delivery(account=account) for account in accounts))
    given = {idle.shard_of(lease.account_id).index for lease in await waiting}
    assert given == set(range(SHARDS)) - away
    for index in range(SHARDS):
        if index in away:
            with pytest.raises(SchedulerAwayError):
                await api.is_live(api.shards[index])
        else:
            assert await api.is_live(api.shards[index])

    async with asyncio.timeout(PATIENCE):
        while listener_of(cluster) is None:  # it listens to another node
            await asyncio.sleep(0.05)
    waiting = asyncio.create_task(take(idle, 1))
    alive = next(account for account in accounts if api.shard_of(account).index not in away)
    await api.enqueue(tickets([delivery(account=alive)]))
    await waiting

    lost.start()  # empty: its shards are loaded anew
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(SchedulerAwayError):
                if len(await closed(api)) == len(away):
                    break
            await asyncio.sleep(0.1)
    feed = ListFeed([delivery(account=accounts[index]) for index in sorted(away)])
    assert await load(api, feed) == len(away)
    assert {idle.shard_of(lease.account_id).index for lease in await take(idle, len(away))} == away


async def closed(scheduler: RedisScheduler) -> list[Shard]:
    return [shard for shard in scheduler.shards if not await scheduler.is_live(shard)]

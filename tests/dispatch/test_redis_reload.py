"""A shard that lost what it held, or may have: nobody trusts it until it is loaded anew from the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from contract.scheduler_harness import LEASE_SECONDS
from dispatch.redis_workers import (
    ACCOUNT,
    ListFeed,
    by_lane,
    claim,
    delivery,
    drain,
    end,
    listen,
    load,
    loader,
    nothing_to_hold,
    tickets,
    worker,
)
from msgcore.core.deliveries import Done, Retry, Shares
from msgcore.dispatch.redis import RedisScheduler
from msgcore.dispatch.scheduler import SchedulerAwayError
from msgcore.store.ledger.feed import PAGE
from servers.clock import FakeClock
from servers.valkey import ValkeyServer


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def server(running: ValkeyServer) -> Iterator[ValkeyServer]:
    yield running
    with running.client() as client:
        client.flushall()


@pytest.fixture
async def pair(server: ValkeyServer) -> AsyncIterator[tuple[RedisScheduler, RedisScheduler]]:
    """Two workers, the first of which also leads."""
    async with worker(server.url) as first, worker(server.url) as second:
        yield first, second


def flush(server: ValkeyServer) -> None:
    with server.client() as client:
        client.flushall()


def keys(server: ValkeyServer) -> set[bytes]:
    with server.client() as client:
        return set(client.keys("*"))


async def test_nobody_is_given_what_another_works_on_when_all_was_flushed(
    server: ValkeyServer, pair: tuple[RedisScheduler, RedisScheduler]
) -> None:
    first, second = pair
    rows = [delivery(f"lane-{number % 10}") for number in range(40)]
    rows += [delivery() for _ in range(10)]
    feed = ListFeed(list(rows))
    await load(first, feed)
    held = {first: await first.claim(5), second: await second.claim(6)}
    await listen(server, first, second)
    flush(server)
    assert await second.claim(10) == []
    assert len(await loader(first, feed).closed()) == 1

    feed.sending = True
    assert await load(first, feed) == len(rows)
    under_way = {lease.delivery_id for leases in held.values() for lease in leases}
    assert (await first.counts()).active == len(under_way)
    fresh = await first.claim(100)
    assert not under_way & {lease.delivery_id for lease in fresh}
    assert max(lease.token for leases in held.values() for lease in leases) < min(lease.token for lease in fresh)
    order = [lease.delivery_id for leases in held.values() for lease in leases] + [i.delivery_id for i in fresh]
    for scheduler, leases in held.items():
        assert await scheduler.renew(leases) == []
        assert await end(feed, scheduler, leases) == []
    assert await end(feed, first, fresh) == []
    order += await drain(feed, first, second)
    everything = [row.id for row in rows]
    assert sorted(order) == everything, "lost, or given twice"
    given, expected = by_lane(order, rows), by_lane(everything, rows)
    assert {lane: ids for lane, ids in given.items() if lane} == {lane: ids for lane, ids in expected.items() if lane}


async def test_a_lease_that_nobody_told_of_is_lost(
    server: ValkeyServer, pair: tuple[RedisScheduler, RedisScheduler]
) -> None:
    first, dead = pair
    feed = ListFeed([delivery("x"), delivery("x")])
    await load(first, feed)
    (old,) = await dead.claim(1)  # which does not listen, as if it hung
    flush(server)
    await load(first, feed)
    (new,) = await first.claim(10)
    assert new.delivery_id == old.delivery_id
    assert new.token > old.token
    assert (await dead.finish([Retry(old, 60.0)])).lost == [old]
    assert await dead.renew([old]) == [old]
    assert await end(feed, first, [new]) == []
    assert len(await drain(feed, first)) == 1


async def test_what_comes_while_a_shard_is_loaded_comes_after_what_the_ledger_has(
    pair: tuple[RedisScheduler, RedisScheduler],
) -> None:
    first, second = pair
    old = [delivery(f"lane-{number % 3}") for number in range(PAGE + 300)]
    new = [delivery(f"lane-{number % 3}") for number in range(90)]
    feed, waiting = ListFeed(list(old)), list(new)

    async def accept() -> None:
        """Another process commits and hands over while each page is read: in more batches than one settling takes."""
        for row in waiting[:45]:
            assert await second.enqueue(tickets([row])) == 0
        del waiting[:45]

    feed.meanwhile = accept
    assert await load(first, feed) == len(old)
    assert not waiting
    order = await drain(feed, first, second)
    assert by_lane(order, old + new) == by_lane([row.id for row in old + new], old + new)


async def test_a_restart_is_noticed_although_the_data_are_there() -> None:
    with ValkeyServer("--appendonly", "yes", "--appendfsync", "always") as server:
        async with worker(server.url) as scheduler:
            feed = ListFeed([delivery("x"), delivery("x"), delivery()])
            await load(scheduler, feed)
            assert len(await scheduler.claim(1)) == 1
            before = keys(server)
            server.kill()
            with pytest.raises(SchedulerAwayError):
                await scheduler.claim(1)
            server.start()
            assert keys(server) == before
            for shard in scheduler.shards:
                assert not await scheduler.is_live(shard)
                shard.ready = True
            assert await scheduler.claim(10) == []
            assert await load(scheduler, feed) == 3
            assert await scheduler.is_live(scheduler.shards[0])


async def test_what_earlier_epochs_held_is_dropped(
    server: ValkeyServer, pair: tuple[RedisScheduler, RedisScheduler]
) -> None:
    first, second = pair
    feed = ListFeed([delivery(f"lane-{number}") for number in range(1200)])
    await load(first, feed)
    await first.claim(100)
    (shard,) = first.shards
    await second.run("open", second.shards[0])  # a leader that died when it had just begun
    await second.run("enqueue", second.shards[0], "", b"\x90", b"")
    await load(first, feed)
    with server.client() as client:
        epoch = client.hget(shard.key, "epoch")
    assert isinstance(epoch, bytes)
    own = shard.key.encode()
    assert {key for key in keys(server) if not key.startswith(own + b":" + epoch + b":")} == {own}


async def test_two_leaders_do_not_spoil_each_others_work(pair: tuple[RedisScheduler, RedisScheduler]) -> None:
    first, second = pair
    rows = [delivery(f"lane-{number % 5}") for number in range(PAGE + 100)]
    feed, other = ListFeed(list(rows)), ListFeed(list(rows))

    async def usurp() -> None:
        feed.meanwhile = None
        await loader(second, other).load(second.shards, nothing_to_hold)

    feed.meanwhile = usurp
    await load(first, feed)
    order = await drain(feed, first, second)
    assert by_lane(order, rows) == by_lane([row.id for row in rows], rows)


async def test_a_script_that_fails_closes_its_shard_which_is_loaded_anew(
    server: ValkeyServer, pair: tuple[RedisScheduler, RedisScheduler]
) -> None:
    first, _ = pair
    feed = ListFeed([delivery("x"), delivery("y")])
    await load(first, feed)
    with server.client() as client:
        (accounts,) = client.keys("*:a")
        for account in client.hkeys(accounts):
            client.hset(accounts, account, b"\xc1 is no MessagePack")
    with pytest.raises(SchedulerAwayError):
        await first.claim(10)
    assert not await first.is_live(first.shards[0])
    assert await load(first, feed) == 2
    await claim(first, 2)


async def test_nothing_is_lost_of_what_ends_while_a_shard_is_closed(
    server: ValkeyServer, pair: tuple[RedisScheduler, RedisScheduler]
) -> None:
    first, second = pair
    done, next_one = delivery("x"), delivery("x")
    feed = ListFeed([done, next_one])
    await load(first, feed)
    leases = await second.claim(1)
    flush(server)
    assert await second.renew(leases) == []
    assert await end(feed, second, leases) == []
    assert await second.enqueue(tickets([next_one])) == 0
    assert await second.remove([next_one.id]) == []
    await load(first, feed)
    assert await drain(feed, first, second) == [next_one.id]


async def test_a_lease_that_ended_is_not_revived_when_the_news_break_off(server: ValkeyServer) -> None:
    clock = FakeClock()
    async with worker(server.url, clock=clock) as stalled, worker(server.url, clock=clock) as other:
        feed = ListFeed([delivery("x")])
        await load(other, feed)
        (old,) = await stalled.claim(1)
        clock.advance(LEASE_SECONDS + 1)
        (new,) = await other.claim(1)
        assert await end(feed, other, [new]) == []
        await stalled._hear("")  # as when it listens anew
        counts = await other.counts()
        assert (counts.waiting, counts.active) == (0, 0)
        assert (await stalled.finish([Done(old)])).lost == [old]


async def test_a_worker_may_lose_a_lease_and_be_given_it_again(server: ValkeyServer) -> None:
    clock = FakeClock()
    async with worker(server.url, clock=clock) as scheduler:
        feed = ListFeed([delivery(), delivery()])
        await load(scheduler, feed)
        old = await scheduler.claim(2)
        clock.advance(LEASE_SECONDS + 1)
        new = await scheduler.claim(2)
        assert await end(feed, scheduler, old) == old
        assert scheduler.shards[0].holds == {ACCOUNT: 2}, "what it works on now"
        assert await end(feed, scheduler, new) == []
        await scheduler.enqueue(tickets(delivery() for _ in range(6)))
        assert len(await scheduler.claim(6, shares=Shares(1, 7))) == 3

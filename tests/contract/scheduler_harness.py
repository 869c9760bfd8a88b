"""What a scheduler needs to be put through the contract suite: itself, and a hand on its clock.

Each implementation has a harness in `HARNESSES`, and passes the same tests.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any, Protocol
from uuid import NAMESPACE_OID, uuid5

import msgspec

from msgcore.core.deliveries import BreakerState, Finished, Lease, Outcome, SchedulerCounts, Shares, Ticket
from msgcore.core.limits import EXACT
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.redis import RedisConnection, RedisScheduler
from msgcore.dispatch.scheduler import Scheduler
from servers.clock import FakeClock
from servers.valkey import ValkeyCluster, ValkeyServer

LEASE_SECONDS = 30.0


class Harness(Protocol):
    """`unfairness`: by how many of 30 deliveries three accounts may differ."""

    scheduler: Scheduler
    unfairness: int

    async def open(self) -> None: ...

    async def advance(self, seconds: float) -> None: ...

    async def left_over(self) -> list[str]: ...

    async def close(self) -> None: ...


class MemoryHarness:
    unfairness = 1
    pacing = EXACT

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.inner = MemoryScheduler(self.clock, lease_seconds=LEASE_SECONDS, pacing=self.pacing)
        self.scheduler: Scheduler = self.inner

    async def open(self) -> None:
        """Nothing to prepare."""

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def left_over(self) -> list[str]:
        """What it still keeps, by name."""
        kept = vars(self.inner) | vars(self.inner._agenda)
        return [name for name in ("_entries", "accounts", "ring", "timers", "_deadlines") if kept[name]]

    async def close(self) -> None:
        """Nothing to release."""


class NamedScheduler:
    """A scheduler whose ids are UUIDs, under the short names that tests use."""

    def __init__(self, inner: RedisScheduler) -> None:
        self.inner = inner
        self._names: dict[str, str] = {}

    def id_of(self, name: str) -> str:
        made = str(uuid5(NAMESPACE_OID, name))
        self._names[made] = name
        return made

    def _name(self, lease: Lease) -> Lease:
        return Lease(self._names[lease.delivery_id], self._names[lease.account_id], lease.token, lease.wait)

    def _lease(self, lease: Lease) -> Lease:
        return Lease(self.id_of(lease.delivery_id), self.id_of(lease.account_id), lease.token, lease.wait)

    async def enqueue(self, tickets: Sequence[Ticket]) -> int:
        return await self.inner.enqueue(
            [
                msgspec.structs.replace(
                    ticket, delivery_id=self.id_of(ticket.delivery_id), account_id=self.id_of(ticket.account_id)
                )
                for ticket in tickets
            ]
        )

    async def claim(self, limit: int, *, shares: Shares | None = None) -> list[Lease]:
        return [self._name(lease) for lease in await self.inner.claim(limit, shares=shares)]

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        return [self._name(lease) for lease in await self.inner.renew([self._lease(lease) for lease in leases])]

    async def finish(self, outcomes: Sequence[Outcome]) -> Finished:
        told = [msgspec.structs.replace(outcome, lease=self._lease(outcome.lease)) for outcome in outcomes]
        report = await self.inner.finish(told)
        return Finished(
            [self._name(lease) for lease in report.lost],
            [self._names[account] for account in report.opened],
            [self._names[account] for account in report.closed],
        )

    async def remove(self, delivery_ids: Sequence[str]) -> list[str]:
        return [self._names[i] for i in await self.inner.remove([self.id_of(name) for name in delivery_ids])]

    async def pause(self, account_id: str) -> None:
        await self.inner.pause(self.id_of(account_id))

    async def resume(self, account_id: str) -> None:
        await self.inner.resume(self.id_of(account_id))

    async def paused(self) -> set[str]:
        return {self._names[account] for account in await self.inner.paused()}

    async def breakers(self) -> dict[str, BreakerState]:
        return {self._names[account]: state for account, state in (await self.inner.breakers()).items()}

    async def wait(self, seconds: float) -> None:
        await self.inner.wait(seconds)

    def look_again(self) -> None:
        self.inner.look_again()

    async def counts(self) -> SchedulerCounts:
        return await self.inner.counts()


@cache
def valkey() -> ValkeyServer:
    """One server for all tests of this process."""
    return _running(ValkeyServer())


@cache
def valkey_cluster() -> ValkeyCluster:
    """One cluster of three for all tests of this process."""
    return _running(ValkeyCluster())


def _running(server: Any) -> Any:
    atexit.register(server.__exit__, None, None, None)
    return server.__enter__()


_prefixes = count()


class RedisHarness:
    """Over one server, with one shard."""

    shards = 1
    unfairness = 1
    pacing = EXACT

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.connection = RedisConnection.open(
            self.server().url, prefix=f"test{next(_prefixes)}", lease_seconds=LEASE_SECONDS, pacing=self.pacing
        )
        self.inner = RedisScheduler(self.connection, self.clock, shards=self.shards, virtual=True)
        self.scheduler: Scheduler = NamedScheduler(self.inner)

    def server(self) -> ValkeyServer | ValkeyCluster:
        return valkey()

    async def open(self) -> None:
        await load_all(self.inner)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def left_over(self) -> list[str]:
        """What it still keeps: keys, beside the one that each shard has for good."""
        pattern = f"{{{self.connection.prefix}:*}}:*"
        return [str(key) async for key in self.connection._client.scan_iter(match=pattern, count=1000)]

    async def close(self) -> None:
        await self.inner.close()


class RedisClusterHarness(RedisHarness):
    """Over a cluster of three; accounts are spread over five shards, whose turns are only about equal."""

    shards = 5
    unfairness = 5

    def server(self) -> ValkeyServer | ValkeyCluster:
        return valkey_cluster()


async def load_all(scheduler: RedisScheduler) -> None:
    """Open every shard, with nothing in it."""
    for shard in scheduler.shards:
        epoch = await scheduler.run("open", shard)
        assert await scheduler.run("settle", shard, epoch) == 1


HARNESSES = {"memory": MemoryHarness, "redis": RedisHarness, "cluster": RedisClusterHarness}

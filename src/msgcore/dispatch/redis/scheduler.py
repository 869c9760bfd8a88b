"""The scheduler on Redis or Valkey: the contract's calls, each one script a shard and batch.

What a process keeps of a shard is when to ask it again, and the leases that it has. A shard is *closed*
when it is empty, was restarted or taken over: nobody may trust it until the leader has loaded it anew
(`dispatch.redis.loader`). Until then claims give nothing and what is enqueued is left to the loader.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from msgcore.core.clock import Clock
from msgcore.core.deliveries import BreakerState, Finished, Lease, Outcome, Release, SchedulerCounts, Shares, Ticket
from msgcore.core.tasks import end
from msgcore.dispatch.redis.codec import (
    pack_account,
    pack_id,
    pack_leases,
    pack_outcomes,
    pack_tickets,
    unpack_id,
)
from msgcore.dispatch.redis.connection import RedisConnection, ScriptFailedError
from msgcore.dispatch.redis.shard import HeldLease, Shard, make_shards, shard_index
from msgcore.dispatch.redis.shares import Limits, limits_of_all
from msgcore.dispatch.scheduler import SchedulerAwayError

log = structlog.stdlib.get_logger(__name__)

LONGEST_WAIT = 5.0
"""Seconds after which a shard is asked even if no news came: a message of the server may get lost."""

RECONNECT_SECONDS = 0.5
BREAKERS = {1: BreakerState.OPEN, 2: BreakerState.HALF_OPEN}

HEAD = 5
"""Parts of what a claim gives that are no lease's."""

T = TypeVar("T")


class RedisScheduler:
    """Implements `dispatch.scheduler.Scheduler` for any number of processes.

    Due times and leases are on the server's clock; `clock` measures only how long this process waits,
    unless `virtual` (tests) hands it to the scripts as well. `on_closed` is called when a claim finds a shard
    closed.
    """

    def __init__(self, connection: RedisConnection, clock: Clock, *, shards: int = 1, virtual: bool = False) -> None:
        self.connection = connection
        self._tenants: Counter[bytes] = Counter()  # how many leases this process has of each
        self.shards = make_shards(connection.prefix, shards, self._tenants)
        self._by_key = {shard.key: shard for shard in self.shards}
        self._clock = clock
        self._virtual = virtual
        self._wake = asyncio.Event()
        self.on_closed: Callable[[], None] | None = None
        self._turn = 0
        self._listening: asyncio.Task[None] | None = None

    def shard_of(self, account_id: str) -> Shard:
        """Where an account's deliveries are."""
        return self.shards[shard_index(account_id, len(self.shards))]

    async def enqueue(self, tickets: Sequence[Ticket]) -> int:
        """Add deliveries; returns how many were not known. Those of a closed shard are left to its loader.

        A shard that is away does not keep the others from getting theirs before SchedulerAwayError is raised.
        """
        added, fault = 0, None
        for shard, batch in self._by_shard(tickets, lambda ticket: ticket.account_id):
            try:
                for limits, packed in pack_tickets(batch):
                    added += await self.run("enqueue", shard, "", limits, packed)
            except SchedulerAwayError as error:
                fault = error
            shard.ready = True
        self._wake.set()
        if fault is not None:
            raise fault
        return added

    async def claim(self, limit: int, *, shares: Shares | None = None) -> list[Lease]:
        """Lease up to `limit` due deliveries; see the contract for the order.

        Shards are asked at the same time, for as many each as accounts take turns in them; what one
        leaves over the others may give.
        """
        leases: list[Lease] = []
        self._notice_due()
        while len(leases) < limit and (ready := [shard for shard in self.shards if shard.ready]):
            self._turn += 1
            ready = ready[self._turn % len(ready) :] + ready[: self._turn % len(ready)]
            quotas = zip(ready, _quotas(ready, limit - len(leases)), strict=True)
            await self._ask([(shard, quota) for shard, quota in quotas if quota], shares, leases)
        if len(self.shards) > 1:
            # A tenant's part of one shard may be what is left over of its part of another: each is asked for all of it.
            for shard in [shard for shard in self.shards if shard.held_back]:
                if len(leases) < limit:
                    await self._ask([(shard, limit - len(leases))], shares, leases)
        for shard in self.shards:
            shard.held_back = False
        return leases

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Extend leases by the lease time; returns those that are already lost."""
        lost: list[Lease] = []
        for shard, batch in self._by_shard(leases, lambda lease: lease.account_id):
            flags: bytes = await self.run("renew", shard, pack_leases(batch))
            lost += _flagged(batch, flags)
        for lease in lost:
            self.shard_of(lease.account_id).let_go(lease)
        return lost

    async def finish(self, outcomes: Sequence[Outcome]) -> Finished:
        """Report outcomes; tells which leases were lost before, and which breakers opened or closed."""
        report = Finished([], [], [])
        for shard, batch in self._by_shard(outcomes, lambda outcome: outcome.lease.account_id):
            flags, opened, closed = await self.run("finish", shard, pack_outcomes(batch))
            report.lost.extend(outcome.lease for outcome in _flagged(batch, flags))
            report.opened.extend(map(unpack_id, opened))
            report.closed.extend(map(unpack_id, closed))
            for outcome in batch:
                shard.let_go(outcome.lease)
            shard.ready = True
        self._wake.set()
        return report

    async def remove(self, delivery_ids: Sequence[str]) -> list[str]:
        """Forget deliveries that are not leased; returns the ids that were removed."""
        packed = b"".join(map(pack_id, delivery_ids))
        removed: list[str] = []
        for shard in self.shards:
            flags: bytes = await self.run("remove", shard, packed)
            removed += _flagged(delivery_ids, flags)
            shard.ready = True
        self._wake.set()
        return removed

    async def pause(self, account_id: str) -> None:
        """Hold all of an account's deliveries until `resume`."""
        await self.run("pause", self.shard_of(account_id), pack_account(account_id), 1)

    async def resume(self, account_id: str) -> None:
        """Let a paused account's deliveries go on."""
        shard = self.shard_of(account_id)
        await self.run("pause", shard, pack_account(account_id), 0)
        shard.ready = True
        self._wake.set()

    async def paused(self) -> set[str]:
        """The accounts that are held."""
        held: set[str] = set()
        for shard in self.shards:
            _, _, paused, _ = await self.run("look", shard)
            held.update(map(unpack_id, paused))
        return held

    async def breakers(self) -> dict[str, BreakerState]:
        """The accounts whose circuit breaker is not closed."""
        found: dict[str, BreakerState] = {}
        for shard in self.shards:
            _, _, _, accounts = await self.run("look", shard)
            found |= {unpack_id(account[0]): BREAKERS[account[5]] for account in accounts if account[5]}
        return found

    async def counts(self) -> SchedulerCounts:
        """How many deliveries are held; one step an account, however much is queued."""
        counts = SchedulerCounts()
        for shard in self.shards:
            _, _, _, accounts = await self.run("look", shard)
            for _, size, leased, delayed, paused, _ in accounts:
                counts.active += leased
                counts.delayed += delayed
                due = size - leased - delayed
                if paused:
                    counts.paused += due
                else:
                    counts.waiting += due
        return counts

    async def wait(self, seconds: float) -> None:
        """Return when something may have become claimable, or after that many seconds."""
        self._notice_due()
        if any(shard.ready for shard in self.shards):
            self._wake.clear()
            return
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="redis-news")
        soonest = min(shard.due for shard in self.shards) - self._clock.monotonic()
        handle = self._clock.call_later(max(0.0, min(seconds, soonest)), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()
        self._wake.clear()

    def look_again(self) -> None:
        """End a wait: the caller has places again, so what its share held back may be claimable."""
        for shard in self.shards:
            shard.ready = shard.ready or bool(shard.holds)
        self._wake.set()

    async def is_live(self, shard: Shard) -> bool:
        """Whether a shard is loaded and can be trusted. Raises SchedulerAwayError."""
        return await self.run("state", shard) == b"live"

    async def close(self) -> None:
        """Stop listening and close the connections."""
        await end(self._listening)
        await self.connection.close()

    async def run(self, script: str, shard: Shard, *arguments: str | bytes | float) -> Any:
        """Run a script on a shard; one that fails in the middle closes it, so that it is loaded anew.

        Raises SchedulerAwayError.
        """
        now = repr(self._clock.monotonic()) if self._virtual else ""
        try:
            return await self.connection.run(script, shard.key, now, *arguments)
        except ScriptFailedError as error:
            log.exception("scheduler_script_failed", shard=shard.index)
            await self.connection.close_shard(shard.key)
            raise SchedulerAwayError(str(error)) from error

    # --- claiming

    async def _ask(self, asked: Sequence[tuple[Shard, int]], shares: Shares | None, leases: list[Lease]) -> None:
        """Claim so many of each of these shards, and put what they give to the leases."""
        limits = limits_of_all(shares, self._tenants, asked)
        claims = [self._claim_from(*each, limit) for each, limit in zip(asked, limits, strict=True)]
        faults: list[BaseException] = []
        for claimed in await asyncio.gather(*claims, return_exceptions=True):
            if isinstance(claimed, BaseException):
                faults.append(claimed)
            else:
                leases += claimed
        # A shard that is away does not keep the others from work.
        if faults and (not leases or not isinstance(faults[0], SchedulerAwayError)):
            raise faults[0]

    async def _claim_from(self, shard: Shard, limit: int, limits: Limits) -> list[Lease]:
        shard.ready = False
        shard.due = self._clock.monotonic() + LONGEST_WAIT
        try:
            reply = await self.run("claim", shard, limit, *limits)
        except SchedulerAwayError:
            shard.due = self._clock.monotonic() + RECONNECT_SECONDS
            raise
        epoch, soonest, shard.accounts, stamp, held_back = reply[:HEAD]
        shard.held_back = bool(held_back)
        if not epoch and self.on_closed is not None:
            self.on_closed()
        lag = shard.clock.lag(float(stamp), self._clock.monotonic()) if epoch else 0.0
        leases: list[Lease] = []
        for at in range(HEAD, len(reply), 5):
            delivery_id, token, record = unpack_id(reply[at]), reply[at + 1], reply[at + 2]
            account_id = unpack_id(record[1:17])
            shard.hold(delivery_id, HeldLease(account_id, token, record, epoch, reply[at + 4]))
            wait = float(reply[at + 3])
            leases.append(Lease(delivery_id, account_id, token, max(0.0, wait - lag)))
        if len(leases) == limit:
            shard.ready = True
        elif soonest:
            shard.due = min(shard.due, self._clock.monotonic() + float(soonest))
        if epoch and epoch != shard.epoch:
            with suppress(SchedulerAwayError):  # these leases are good; the next claim tells of the others
                await self._adopt(shard)
        return leases

    async def _adopt(self, shard: Shard) -> None:
        """Tell a shard that begins anew what this process is working on."""
        told = dict(shard.held)
        arguments: list[bytes | int] = []
        for delivery_id, lease in told.items():
            arguments += [pack_id(delivery_id), lease.token, lease.epoch, lease.record]
        shard.epoch = epoch = bytes(await self.run("adopt", shard, *arguments))
        if not epoch:
            return
        ended: list[Outcome] = []
        for delivery_id, lease in told.items():
            lease.epoch = epoch
            if shard.held.get(delivery_id) is not lease:
                ended.append(Release(Lease(delivery_id, lease.account_id, lease.token)))
        if ended:  # they were finished just before the shard heard of them
            await self.run("finish", shard, pack_outcomes(ended))

    def _notice_due(self) -> None:
        now = self._clock.monotonic()
        for shard in self.shards:
            if shard.due <= now:
                shard.ready = True
                shard.due = math.inf

    def _by_shard(self, items: Iterable[T], account_of: Callable[[T], str]) -> list[tuple[Shard, list[T]]]:
        batches: dict[int, list[T]] = {}
        number = len(self.shards)
        for item in items:
            batches.setdefault(shard_index(account_of(item), number), []).append(item)
        return [(self.shards[index], batch) for index, batch in batches.items()]

    # --- news

    async def _listen(self) -> None:
        """Hear what other processes made ready; when the connection breaks, everything may be."""
        while True:
            try:
                async for text in self.connection.news():
                    await self._hear(text)
            except Exception as error:  # noqa: BLE001 - whatever it was, deafness is not an answer
                log.warning("scheduler_news_lost", error=type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _hear(self, text: str) -> None:
        """Something is ready in a shard, or a new epoch began there; without a name, that may be so in all."""
        key, _, what = text.partition("}")
        named = self._by_key.get(key + "}")
        for shard in self.shards if named is None else (named,):
            shard.ready = True
            if shard.held and (what or named is None):
                with suppress(SchedulerAwayError):  # the next claim does it
                    await self._adopt(shard)
        self._wake.set()


def _flagged(items: Sequence[T], flags: bytes) -> list[T]:
    return [item for item, flag in zip(items, flags, strict=True) if flag == ord("1")]


def _quotas(shards: Sequence[Shard], limit: int) -> list[int]:
    """How many to ask of each shard, by how many accounts take turns there; the first get what is left over."""
    weights = [max(1, shard.accounts) for shard in shards]
    total, given, quotas = sum(weights), 0, list[int]()
    for weight in weights:
        quota = min(limit - given, math.ceil(limit * weight / total))
        given += quota
        quotas.append(quota)
    return quotas

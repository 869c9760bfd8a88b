"""One shard as a process sees it: which accounts it has, its epoch, and when it is worth asking."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar
from zlib import crc32

from msgcore.core.deliveries import Lease
from msgcore.dispatch.redis.codec import pack_account

T = TypeVar("T")


@dataclass(slots=True)
class HeldLease:
    """A lease of this process, with what it takes to tell a shard of it that forgot everything.

    `epoch` is the last one of its shard that knew it. `tenant` is as the shard tells it apart, empty for none.
    """

    account_id: str
    token: int
    record: bytes
    epoch: bytes
    tenant: bytes = b""


DRIFT = 0.0005
"""Seconds a second by which two clocks may part: what NTP slews at most (RFC 5905, section 11.3)."""

LONGEST_LAG = 1.0
"""A reply that seems to be older was sent by a clock that was set."""


@dataclass(slots=True)
class ServerClock:
    """A server's clock as seen by this process: tells how old a reply is.

    The quickest reply of late is taken for one that came at once. Planned calls would else be late by
    what each reply happened to wait for, and so too close to the next one.
    """

    offset: float = math.inf
    seen: float = 0.0

    def lag(self, stamp: float, now: float) -> float:
        """Seconds that a reply took which the server stamped so and that arrived `now` (this process's clock)."""
        sample = now - stamp
        expected = self.offset + DRIFT * (now - self.seen)
        self.offset = sample if sample > expected + LONGEST_LAG else min(sample, expected)
        self.seen = now
        return sample - self.offset


@dataclass(slots=True)
class Shard:
    """`ready`: something may be claimable now; else `due` is when to look again (this process's clock).

    `accounts` is how many took turns there when it was last asked; `held_back`: and some of them got nothing more, as
    places are left to others. `tenants` counts the leases of this process in all shards.
    """

    index: int
    key: str
    tenants: Counter[bytes]
    epoch: bytes = b""
    ready: bool = True
    due: float = math.inf
    accounts: int = 1
    held_back: bool = False
    clock: ServerClock = field(default_factory=ServerClock)
    held: dict[str, HeldLease] = field(default_factory=dict[str, HeldLease])
    holds: Counter[str] = field(default_factory=Counter[str])

    def hold(self, delivery_id: str, lease: HeldLease) -> None:
        """Remember a lease that was given to this process, in place of one that it lost."""
        if delivery_id not in self.held:  # a delivery stays with its account
            self.holds[lease.account_id] += 1
            if lease.tenant:
                self.tenants[lease.tenant] += 1
        self.held[delivery_id] = lease

    def let_go(self, lease: Lease) -> None:
        """Forget a lease that is finished or lost, unless a newer one of the same delivery was given."""
        held = self.held.get(lease.delivery_id)
        if held is None or held.token != lease.token:
            return
        del self.held[lease.delivery_id]
        _take_one(self.holds, lease.account_id)
        if held.tenant:
            _take_one(self.tenants, held.tenant)


def _take_one(counted: Counter[T], name: T) -> None:
    counted[name] -= 1
    if not counted[name]:
        del counted[name]


def make_shards(prefix: str, number: int, tenants: Counter[bytes]) -> list[Shard]:
    """All shards. Another number makes other keys, so a change begins with an empty scheduler."""
    return [Shard(index, f"{{{prefix}:{number}:{index}}}", tenants) for index in range(number)]


def shard_index(account_id: str, number: int) -> int:
    """The shard of an account."""
    return crc32(pack_account(account_id)) % number

"""One shard as a process sees it: which accounts it has, its epoch, and when it is worth asking."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from zlib import crc32

from msgcore.core.deliveries import Lease
from msgcore.dispatch.redis.codec import pack_account


@dataclass(slots=True)
class HeldLease:
    """A lease of this process, with what it takes to tell a shard of it that forgot everything.

    `epoch` is the last one of its shard that knew it.
    """

    account_id: str
    token: int
    record: bytes
    epoch: bytes


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

    `accounts` is how many took turns there when it was last asked.
    """

    index: int
    key: str
    epoch: bytes = b""
    ready: bool = True
    due: float = math.inf
    accounts: int = 1
    clock: ServerClock = field(default_factory=ServerClock)
    held: dict[str, HeldLease] = field(default_factory=dict[str, HeldLease])
    holds: dict[str, int] = field(default_factory=dict[str, int])

    def hold(self, delivery_id: str, lease: HeldLease) -> None:
        """Remember a lease that was given to this process, in place of one that it lost."""
        if delivery_id not in self.held:  # a delivery stays with its account
            self.holds[lease.account_id] = self.holds.get(lease.account_id, 0) + 1
        self.held[delivery_id] = lease

    def let_go(self, lease: Lease) -> None:
        """Forget a lease that is finished or lost, unless a newer one of the same delivery was given."""
        held = self.held.get(lease.delivery_id)
        if held is None or held.token != lease.token:
            return
        del self.held[lease.delivery_id]
        left = self.holds[lease.account_id] - 1
        if left:
            self.holds[lease.account_id] = left
        else:
            del self.holds[lease.account_id]


def make_shards(prefix: str, number: int) -> list[Shard]:
    """All shards. Another number makes other keys, so a change begins with an empty scheduler."""
    return [Shard(index, f"{{{prefix}:{number}:{index}}}") for index in range(number)]


def shard_index(account_id: str, number: int) -> int:
    """The shard of an account."""
    return crc32(pack_account(account_id)) % number

"""How much of each account and tenant a shard may give to a process, so that places are left for others.

An account has one shard. A tenant's accounts are spread over all, which are asked at the same time: each is given a
part of what the tenant may have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgcore.core.deliveries import Shares
from msgcore.dispatch.redis.codec import pack_allowed, pack_held
from msgcore.dispatch.redis.shard import Shard

Limits = tuple[str | float | bytes, ...]
"""What the script that claims is told of it."""

NO_LIMITS: Limits = ("", b"", "", b"")


@dataclass(frozen=True, slots=True)
class Allowances:
    """What tenants may have of `left` places, as each has so many leases of this process already."""

    shares: Shares
    left: int
    held: Mapping[bytes, int]

    def limits_of(self, shard: Shard, before: int, quota: int) -> Limits:
        """Those of a shard that is asked for `quota` of the places, after `before` that others are asked for."""
        named = [(tenant, self._part(number, before, quota)) for tenant, number in self.held.items()]
        accounts = pack_held(shard.holds.items())
        return (self.shares.account, accounts, self._part(0, before, quota), pack_allowed(named))

    def _part(self, held: int, before: int, quota: int) -> int:
        share = self.shares.tenant
        number = max(0, math.ceil((share * self.left - held) / (share + 1)))
        return number * (before + quota) // self.left - number * before // self.left


def limits_of_all(shares: Shares | None, held: Mapping[bytes, int], asked: Sequence[tuple[Shard, int]]) -> list[Limits]:
    """The limits of each shard that is asked, for its part of the places."""
    if shares is None:
        return [NO_LIMITS] * len(asked)
    allowances = Allowances(shares, sum(quota for _, quota in asked), held)
    limits: list[Limits] = []
    before = 0
    for shard, quota in asked:
        limits.append(allowances.limits_of(shard, before, quota))
        before += quota
    return limits

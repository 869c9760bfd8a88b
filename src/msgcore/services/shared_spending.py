"""Budgets of requests that several processes share through Redis, without asking it for each request.

A process decides by what it knows, at once. What was spent is gathered for a moment and told to Redis in one call,
which answers what all have spent together; that is what is decided by from then on. So a process may let in too
much only while it has not heard of the others: each for as long as the gathering and one call take. Nobody is
refused too early, and what was too much counts: it is missing afterwards. While Redis is away each process
has the whole budget for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Final
from zlib import crc32

import structlog

from msgcore.core.clock import Clock
from msgcore.core.rate import RateLimit
from msgcore.core.tasks import end
from msgcore.dispatch.redis import RedisConnection
from msgcore.dispatch.redis.connection import ScriptFailedError
from msgcore.dispatch.scheduler import SchedulerAwayError

log = structlog.stdlib.get_logger(__name__)

GATHER_SECONDS: Final = 0.02
AWAY_SECONDS: Final = 1.0
"""How long Redis is left alone after it did not answer."""
MOST_NAMES: Final = 10_000
"""Budgets that are gathered at once; what is spent of others in that moment counts in this process only."""
NAMES_AT_ONCE: Final = 500
"""Of one call, which nobody else is served during."""

Spent = dict[tuple[str, str], tuple[RateLimit, float]]
"""Seconds of a limit's budgets, by the limit's name and the budget's."""


class SharedSpending:
    """Tells Redis what is spent here, and the limits what is spent elsewhere."""

    def __init__(self, redis: RedisConnection, clock: Clock, *, shards: int) -> None:
        """`shards` is how many parts the budgets have, each on one node of a cluster; the same in every process."""
        self._redis = redis
        self._clock = clock
        self._shards = [f"{{{redis.prefix}:rate:{index}}}" for index in range(shards)]
        self._spent: Spent = {}
        self._telling: asyncio.Task[None] | None = None
        self._is_away = False

    def note(self, limit_name: str, limit: RateLimit, name: str, seconds: float) -> None:
        """So much of a budget was spent; others hear of it soon."""
        key = (limit_name, name)
        spent = self._spent.get(key)
        if spent is None and len(self._spent) >= MOST_NAMES:
            return
        self._spent[key] = (limit, seconds if spent is None else spent[1] + seconds)
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_all(), name="rate-limits")

    async def close(self) -> None:
        """Tell nobody any more."""
        await end(self._telling)

    async def _tell_all(self) -> None:
        try:
            while self._spent:
                await self._clock.sleep(GATHER_SECONDS)
                spent, self._spent = self._spent, {}
                await self._tell(spent)
        finally:
            self._telling = None

    async def _tell(self, spent: Spent) -> None:
        shards: dict[str, Spent] = {}
        for key, about in spent.items():
            shard = self._shards[crc32(key[1].encode()) % len(self._shards)]
            shards.setdefault(shard, {})[key] = about
        try:
            for shard, part in shards.items():
                names = iter(part.items())
                while some := dict(islice(names, NAMES_AT_ONCE)):
                    await self._spend(shard, some)
        except (SchedulerAwayError, ScriptFailedError) as error:
            if not self._is_away:
                log.warning("rate_limits_not_shared", error=str(error))
            self._is_away = True
            await self._clock.sleep(AWAY_SECONDS)
            self._spent = {}  # it counts in this process, and too late for the others
        else:
            self._is_away = False

    async def _spend(self, shard: str, spent: Mapping[tuple[str, str], tuple[RateLimit, float]]) -> None:
        arguments: list[str | int] = []
        for (limit_name, name), (_, seconds) in spent.items():
            arguments += (f"{limit_name}:{name}", round(seconds * 1_000_000))
        # The answer is as old as the call, so that a slow one makes nobody wait longer than they must.
        asked_at = self._clock.monotonic()
        answer = await self._redis.run("spend", shard, *arguments)
        for (key, (limit, _)), whole_in in zip(spent.items(), answer, strict=True):
            not_told = self._spent.get(key)
            limit.learn(key[1], asked_at + whole_in / 1_000_000 + (not_told[1] if not_told else 0.0))

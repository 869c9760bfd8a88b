"""Talking to Redis or Valkey, in whichever form it is set up: scripts, and news from them.

Each call is tried once; see `address` for how the server is found.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from msgcore.core.limits import BREAKER, PACING, Pacing
from msgcore.dispatch.memory_queues import RESTED_SECONDS, TURNS
from msgcore.dispatch.redis.address import open_client
from msgcore.dispatch.scheduler import SchedulerAwayError

NAMES = ("adopt", "claim", "enqueue", "finish", "look", "open", "pause", "remove", "renew", "settle", "state")
"""The scheduler's scripts."""

OTHERS = ("spend",)
"""Scripts that have nothing to do with shards."""

_AWAY = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)
"""RuntimeError is uvloop's: it raises that where something is written to a connection that broke a moment ago.

For a cluster, AttributeError too: when it loses a node, the client library closes all connections under those
who use them."""

_NOT_NOW = (
    *("LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "READONLY", "MISCONF", "NOREPLICAS", "BUSY", "OOM"),
    *("NOAUTH", "NOPERM", "WRONGPASS"),
)
"""How errors of a server begin that will serve later, or once its administrator lets it.

Source: Redis documentation, "Redis serialization protocol", simple errors.
"""


class ScriptFailedError(Exception):
    """A script ended in the middle: what it holds cannot be trusted."""


class RedisConnection:
    """One connection pool to the server or the cluster, and the scripts on it."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        prefix: str,
        lease_seconds: float,
        pacing: Pacing,
    ) -> None:
        self.prefix = prefix
        self._client: Any = client
        self._in_cluster = isinstance(client, RedisCluster)
        self._away = (*_AWAY, AttributeError) if self._in_cluster else _AWAY
        self._channel = f"{prefix}:news"
        self._scripts = _Scripts(self._channel, lease_seconds, pacing)

    @classmethod
    def open(cls, url: str, *, prefix: str = "msgcore", lease_seconds: float = 30.0, pacing: Pacing = PACING) -> Self:
        """Make the client for `url`, without connecting yet; all keys begin with `prefix`.

        See `open_client` for its forms. Raises StartupError for a URL that cannot be read.
        """
        return cls(open_client(url), prefix=prefix, lease_seconds=lease_seconds, pacing=pacing)

    async def run(self, script: str, key: str, *arguments: str | bytes | float) -> Any:
        """Run one of the scripts on the shard with this key.

        Raises SchedulerAwayError when the server does not answer or cannot serve now, and
        ScriptFailedError when the script itself failed.
        """
        source, sha = self._scripts.of(script)
        try:
            if self._in_cluster:
                await self._client.initialize()  # else the first calls go to any node
            try:
                return await self._client.evalsha(sha, 1, key, *arguments)
            except NoScriptError:
                return await self._client.eval(source, 1, key, *arguments)
        except ResponseError as error:
            if str(error).startswith(_NOT_NOW):
                raise SchedulerAwayError(str(error)) from None
            raise ScriptFailedError(f"{script}: {error}") from error
        except self._away as error:
            raise SchedulerAwayError(f"{type(error).__name__}: {error}") from None

    async def ping(self) -> None:
        """Raises SchedulerAwayError unless the server answers."""
        with self._may_be_away():
            await self._client.ping()

    def news(self) -> AsyncIterator[str]:
        """What the scripts tell, as `hear` gives it."""
        return self.hear("news")

    async def tell(self, channel: str, text: str) -> None:
        """Let all who hear a channel know. Raises SchedulerAwayError."""
        with self._may_be_away():
            await self._client.publish(f"{self.prefix}:{channel}", text)

    async def hear(self, channel: str) -> AsyncIterator[str]:
        """What is told on a channel, as it comes; first an empty text, once it is sure that nothing will be missed.

        Ends when the connection does.
        """
        pubsub: Any = None
        try:
            pubsub = await self._pubsub()
            await pubsub.subscribe(f"{self.prefix}:{channel}")
            async for message in pubsub.listen():
                yield message["data"].decode() if message["type"] == "message" else ""
        except self._away:
            return
        finally:
            if pubsub is not None:
                await pubsub.aclose()

    async def _pubsub(self) -> Any:
        """Every node of a cluster hears what is published on any; if one is lost, the next try takes another."""
        if not self._in_cluster:
            return self._client.pubsub(ignore_subscribe_messages=False)
        await self._client.initialize()
        return self._client.pubsub(node=self._client.get_random_node(), ignore_subscribe_messages=False)

    async def close_shard(self, key: str) -> None:
        """Mark a shard as not to be trusted; it is loaded anew. Raises SchedulerAwayError."""
        with self._may_be_away():
            await self._client.hdel(key, "state")

    async def drop_before(self, key: str, epoch: bytes) -> None:
        """Delete what a shard held in earlier epochs, a few keys at a time. Raises SchedulerAwayError."""
        names: list[bytes] = []
        with self._may_be_away():
            async for name in self._client.scan_iter(match=f"{key}:*", count=1000):
                if int(name[len(key) + 1 :].partition(b":")[0]) < int(epoch):
                    names.append(name)
                if len(names) == 500:  # noqa: PLR2004
                    await self._client.unlink(*names)
                    names.clear()
            if names:
                await self._client.unlink(*names)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    @contextmanager
    def _may_be_away(self) -> Generator[None]:
        """Raises SchedulerAwayError for what the client library raises when nobody answers as they should."""
        try:
            yield
        except self._away as error:
            raise SchedulerAwayError(f"{type(error).__name__}: {error}") from None


class _Scripts:
    """The scripts' sources with the constants that Python knows, and their hashes."""

    def __init__(self, channel: str, lease_seconds: float, pacing: Pacing) -> None:
        folder = files("msgcore.dispatch.redis") / "lua"
        constants = (
            f"local LEASE_SECONDS, CHANNEL = {lease_seconds!r}, '{channel}'\n"
            f"local AHEAD, RESTED_SECONDS = {pacing.ahead!r}, {RESTED_SECONDS!r}\n"
            f"local LEAST_START, MOST_START = {pacing.least_start!r}, {pacing.most_start!r}\n"
            f"local BREAKER_FAILURES, BREAKER_COOLDOWN, BREAKER_LONGEST = "
            f"{BREAKER.failures}, {BREAKER.cooldown!r}, {BREAKER.longest!r}\n"
            f"local TURNS = {{{', '.join(str(int(rank)) for rank in TURNS)}}}\n"
        )
        common = constants + "\n".join((folder / f"{name}.lua").read_text() for name in ("common", "queues"))
        tickets = (folder / "tickets.lua").read_text()
        self._scripts: dict[str, tuple[str, str]] = {}
        for name in NAMES:
            parts = [common, tickets if name in {"enqueue", "settle"} else "", (folder / f"{name}.lua").read_text()]
            source = "\n".join(parts)
            self._add(name, source)
        for name in OTHERS:
            self._add(name, (folder / f"{name}.lua").read_text())

    def _add(self, name: str, source: str) -> None:
        self._scripts[name] = (source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    def of(self, name: str) -> tuple[str, str]:
        return self._scripts[name]

"""Talking to Redis or Valkey, in whichever form it is set up: scripts, and news from them.

A call is tried once. Whether a call whose answer got lost was done is for the caller to settle, so the
client library must not repeat it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any, Self, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from msgcore.core.errors import StartupError
from msgcore.core.limits import BREAKER, PACING, Pacing
from msgcore.dispatch.memory_queues import RESTED_SECONDS, TURNS
from msgcore.dispatch.scheduler import SchedulerAwayError

TIMEOUT_SECONDS = 5.0
CONNECT_SECONDS = 2.0
CONNECTIONS = 32

NAMES = ("adopt", "claim", "enqueue", "finish", "look", "open", "pause", "remove", "renew", "settle", "state")
"""The scripts."""

_AWAY = (RedisError, RedisClusterException, OSError, TimeoutError)
_NOT_NOW = ("LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "READONLY", "MISCONF", "NOREPLICAS", "BUSY", "OOM")
"""How errors of a server begin that will serve later (Redis documentation, "Redis serialization protocol", errors)."""


class ScriptFailedError(Exception):
    """A script ended in the middle: what it holds cannot be trusted."""


class RedisConnection:
    """One connection pool to the server or the cluster, and the scheduler's scripts on it."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        listener: Redis | None,
        *,
        prefix: str,
        lease_seconds: float,
        pacing: Pacing,
    ) -> None:
        self.prefix = prefix
        self._client: Any = client
        self._listener = listener
        self._channel = f"{prefix}:news"
        self._scripts = _Scripts(self._channel, lease_seconds, pacing)

    @classmethod
    def open(cls, url: str, *, prefix: str = "msgcore", lease_seconds: float = 30.0, pacing: Pacing = PACING) -> Self:
        """Make the client for `url`, without connecting yet; all keys begin with `prefix`.

        `redis://`, `rediss://` (TLS; also `valkey://`, `valkeys://`), `redis+cluster://` and
        `redis+sentinel://host:port,host:port/service`. Raises StartupError for a URL that cannot be read.
        """
        kind, plain = _split(url)
        try:
            if kind == "cluster":
                cluster = RedisCluster.from_url(plain, **_OPTIONS, max_connections=CONNECTIONS)
                return cls(cluster, None, prefix=prefix, lease_seconds=lease_seconds, pacing=pacing)
            client = _sentinel(plain) if kind == "sentinel" else _single(plain)
        except (ValueError, RedisError) as error:
            raise StartupError(f"MSGCORE_REDIS_URL cannot be used: {error}") from None
        return cls(client, client, prefix=prefix, lease_seconds=lease_seconds, pacing=pacing)

    async def run(self, script: str, key: str, *arguments: str | bytes | float) -> Any:
        """Run one of the scheduler's scripts on the shard with this key.

        Raises SchedulerAwayError when the server does not answer or cannot serve now, and
        ScriptFailedError when the script itself failed.
        """
        source, sha = self._scripts.of(script)
        try:
            try:
                return await self._client.evalsha(sha, 1, key, *arguments)
            except NoScriptError:
                return await self._client.eval(source, 1, key, *arguments)
        except ResponseError as error:
            if str(error).startswith(_NOT_NOW):
                raise SchedulerAwayError(str(error)) from None
            raise ScriptFailedError(f"{script}: {error}") from error
        except _AWAY as error:
            raise SchedulerAwayError(f"{type(error).__name__}: {error}") from None

    async def ping(self) -> None:
        """Raises SchedulerAwayError unless the server answers."""
        try:
            await self._client.ping()
        except _AWAY as error:
            raise SchedulerAwayError(f"{type(error).__name__}: {error}") from None

    async def news(self) -> AsyncIterator[str]:
        """What the scripts tell, as it comes; first an empty text, once it is sure that nothing will be missed.

        Ends when the connection does.
        """
        listener = self._listener or await self._any_node()
        pubsub: Any = cast("Any", listener).pubsub(ignore_subscribe_messages=False)
        try:
            await pubsub.subscribe(self._channel)
            async for message in pubsub.listen():
                yield message["data"].decode() if message["type"] == "message" else ""
        except _AWAY:
            return
        finally:
            await pubsub.aclose()

    async def keys(self, pattern: str) -> list[bytes]:
        """All keys that match."""
        return [key async for key in self._client.scan_iter(match=pattern, count=1000)]

    async def close_shard(self, key: str) -> None:
        """Mark a shard as not to be trusted; it is loaded anew."""
        await self._client.hdel(key, "state")

    async def drop(self, pattern: str) -> None:
        """Delete all keys that match, a few at a time."""
        keys: list[bytes] = []
        async for key in self._client.scan_iter(match=pattern, count=1000):
            keys.append(key)
            if len(keys) == 500:  # noqa: PLR2004
                await self._client.unlink(*keys)
                keys.clear()
        if keys:
            await self._client.unlink(*keys)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        if self._listener is not None and self._listener is not self._client:
            await self._listener.aclose()

    async def _any_node(self) -> Redis:
        """A client of its own for the cluster's news: every node hears what is published on any."""
        cluster = cast("RedisCluster", self._client)
        await cluster.initialize()
        node = cluster.get_random_node()
        options: dict[str, Any] = {**node.connection_kwargs}
        for name in ("host", "port", "redis_connect_func", "response_callbacks"):
            options.pop(name, None)
        listener = Redis(host=node.host, port=int(node.port), **options)
        self._listener = listener
        return listener


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
        common = constants + (folder / "common.lua").read_text()
        tickets = (folder / "tickets.lua").read_text()
        self._scripts: dict[str, tuple[str, str]] = {}
        for name in NAMES:
            parts = [common, tickets if name in {"enqueue", "settle"} else "", (folder / f"{name}.lua").read_text()]
            source = "\n".join(parts)
            self._scripts[name] = (source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    def of(self, name: str) -> tuple[str, str]:
        return self._scripts[name]


_OPTIONS: dict[str, Any] = {
    "socket_timeout": TIMEOUT_SECONDS,
    "socket_connect_timeout": CONNECT_SECONDS,
    "socket_keepalive": True,
    "retry": Retry(NoBackoff(), 0),
    "decode_responses": False,
}


def _split(url: str) -> tuple[str, str]:
    """The kind of set-up and the URL as the client library wants it."""
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    tls = base in {"rediss", "valkeys"}
    return kind or "single", f"{'rediss' if tls else 'redis'}://{rest}"


def _single(url: str) -> Redis:
    made: Any = Redis
    return made.from_url(url, **_OPTIONS)


def _sentinel(url: str) -> Redis:
    """A client of the master that the sentinels name; follows it when it changes."""
    parts = urlsplit(url)
    _, _, hosts = parts.netloc.rpartition("@")
    service, _, number = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("name the service: redis+sentinel://host:26379,host:26379/mymaster")
    addresses = [_address(host) for host in hosts.split(",")]
    tls = {"ssl": True} if parts.scheme == "rediss" else {}
    options: dict[str, Any] = {**_OPTIONS, **tls, **_credentials(parts.netloc)}
    sentinel: Any = Sentinel(addresses, sentinel_kwargs={**_OPTIONS, **tls}, **options)
    return sentinel.master_for(service, db=int(number or 0))


def _address(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    return (name, int(port)) if name else (port, 26379)


def _credentials(netloc: str) -> dict[str, str]:
    credentials, found, _ = netloc.rpartition("@")
    if not found:
        return {}
    user, _, password = credentials.partition(":")
    return {name: unquote(text) for name, text in (("username", user), ("password", password)) if text}

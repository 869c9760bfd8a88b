"""What MSGCORE_REDIS_URL says: which set-up there is, and how to reach it.

Its errors name what is wrong and never quote the URL, since a password may stand anywhere in one that is
not written as it should be.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from msgcore.core.errors import StartupError

TIMEOUT_SECONDS = 5.0
CONNECT_SECONDS = 2.0
CONNECTIONS = 32
SENTINEL_PORT = 26379
HIGHEST_PORT = 65535

OPTIONS: dict[str, Any] = {
    "socket_timeout": TIMEOUT_SECONDS,
    "socket_connect_timeout": CONNECT_SECONDS,
    "socket_keepalive": True,
    "retry": Retry(NoBackoff(), 0),
    "decode_responses": False,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}
"""A call is tried once: whether one whose answer got lost was done is for the caller to settle.

Without notices of maintenance (Redis Enterprise): with them the library does not look whether the server closed a
connection before it uses it again, and the first calls after a restart are lost.
"""

BAD_OPTION = "one of the options after ? is not known, or has a value that cannot be"
KINDS = {"": "single", "sentinel": "sentinel", "cluster": "cluster"}


def open_client(url: str) -> Redis | RedisCluster:
    """The client for a URL, without connecting yet. Raises StartupError.

    `redis://`, `rediss://` (TLS; also `valkey://`, `valkeys://`) `user:password@host:port/database?option=value`,
    where the options are those of the client library, such as `ssl_ca_certs`; `redis+cluster://host:port`; and
    `redis+sentinel://host:port,host:port/service/database`, where user and password are the server's.
    """
    kind, parts = _split(url)
    if kind == "sentinel":
        return _sentinel(parts)
    if not parts.hostname:
        raise _refusal("it names no host")
    _check_port(parts.netloc.rpartition("@")[2])
    number = _database(parts.path.strip("/"))
    if kind == "single":
        return _made(Redis, parts)
    if number:
        raise _refusal("a cluster has no databases but 0")
    return _made(RedisCluster, parts)


def _split(url: str) -> tuple[str, SplitResult]:
    """The kind of set-up, and the URL in the form that the client library knows."""
    scheme, _, rest = url.partition("://")
    base, plus, name = scheme.partition("+")
    if base not in {"redis", "rediss", "valkey", "valkeys"} or (kind := KINDS.get(name)) is None or (plus and not name):
        raise _refusal("it begins with none of redis://, rediss://, redis+sentinel://, redis+cluster://")
    scheme = "rediss" if base in {"rediss", "valkeys"} else "redis"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
    except ValueError:
        raise _refusal("its host is not written as it should be") from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise _refusal("a / ? or # in the password must be written as %2F, %3F or %23, and an @ elsewhere as %40")
    return kind, parts


def _made(client: Any, parts: SplitResult) -> Any:
    # A slot that moved is asked for anew; to learn of all of them the library would break off what is under way.
    pool = {"max_connections": CONNECTIONS, "reinitialize_steps": 0} if client is RedisCluster else {}
    try:
        made = client.from_url(parts.geturl(), **OPTIONS, **pool)
        if isinstance(made, Redis):
            made.connection_pool.make_connection()  # an option that is not known is met here
    except (ValueError, TypeError, RedisError):
        raise _refusal(BAD_OPTION) from None
    return made


def _sentinel(parts: SplitResult) -> Redis:
    """A client of the master that the sentinels name; follows it when it changes."""
    credentials, at, hosts = parts.netloc.rpartition("@")
    service, _, number = parts.path.strip("/").partition("/")
    if not service:
        raise _refusal("name the service, as in redis+sentinel://host:26379,host:26379/mymaster")
    addresses = [_address(host) for host in hosts.split(",")]
    plain = parts._replace(netloc=f"{credentials}{at}{addresses[0][0]}", path=f"/{_database(number)}")
    make: Any = Sentinel
    try:
        options: dict[str, Any] = {**OPTIONS, **parse_url(plain.geturl())}
        options |= {"ssl": True} if options.pop("connection_class", None) else {}
        own = {name: value for name, value in options.items() if name not in {"host", "username", "password", "db"}}
        return make(addresses, sentinel_kwargs=own, **options).master_for(service)
    except (ValueError, TypeError):
        raise _refusal(BAD_OPTION) from None


def _address(text: str) -> tuple[str, int]:
    _check_port(text)
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise _refusal("it names no host")
    return parts.hostname, parts.port or SENTINEL_PORT


def _check_port(text: str) -> None:
    try:
        port = urlsplit(f"//{text}").port
    except ValueError:
        raise _refusal(f"its port is not a number up to {HIGHEST_PORT}") from None
    if port == 0:
        raise _refusal("port 0 cannot be")


def _database(text: str) -> int:
    if text and not text.isdecimal():
        raise _refusal("the database after the / is not a number")
    return int(text or 0)


def _refusal(what: str) -> StartupError:
    return StartupError(f"MSGCORE_REDIS_URL cannot be used: {what}")

"""The forms of MSGCORE_REDIS_URL against real servers, and what is said of one that is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import uvloop

from dispatch.redis_workers import ListFeed, claim, delivery, listen, load, tickets, worker
from msgcore.core.errors import StartupError
from msgcore.dispatch.redis import RedisConnection
from msgcore.dispatch.scheduler import SchedulerAwayError
from servers.gateway import free_port
from servers.patience import PATIENCE
from servers.tls import Authority, tls_before
from servers.valkey import ValkeySentinel, ValkeyServer

SECRET = "hunter2/p@ss"
QUOTED = "hunter2%2Fp%40ss"


@pytest.fixture(scope="module")
def locked() -> Iterator[ValkeyServer]:
    """A server that asks for a password, and knows a user who may do less."""
    with ValkeyServer(password=SECRET) as server:
        with server.client() as client:
            client.acl_setuser(
                "gateway",
                enabled=True,
                passwords=[f"+{SECRET}"],
                keys=["{msgcore:*"],
                channels=["msgcore:*"],
                categories=["+@all", "-@admin", "-@dangerous"],
                commands=["+info"],
            )
            client.acl_setuser("guest", enabled=True, passwords=[f"+{SECRET}"], commands=["+ping"])
        yield server


@pytest.fixture
def empty(locked: ValkeyServer) -> ValkeyServer:
    with locked.client() as client:
        client.flushall()
    return locked


async def works(url: str) -> None:
    async with worker(url) as scheduler:
        feed = ListFeed([delivery("x")])
        await load(scheduler, feed)
        assert [lease.delivery_id for lease in await claim(scheduler, 1)] == [feed.rows[0].id]


@pytest.mark.parametrize("user", ["", "default", "gateway"])
async def test_passwords_and_users(empty: ValkeyServer, user: str) -> None:
    await works(f"redis://{user}:{QUOTED}@127.0.0.1:{empty.port}")


async def test_the_number_of_a_database() -> None:
    with ValkeyServer() as server:
        await works(f"valkey://127.0.0.1:{server.port}/3")
        with server.client() as client:
            keyspace = client.info("keyspace")
        assert list(keyspace) == ["db3"]


async def test_tls_with_an_authority_of_ones_own(empty: ValkeyServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with tls_before(empty.port, authority.server_context()) as port:
        await works(f"rediss://:{QUOTED}@127.0.0.1:{port}?ssl_ca_certs={authority.file}")
        with pytest.raises(SchedulerAwayError, match="certificate"):
            await pinged(f"rediss://:{QUOTED}@127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"redis://:wrong-{QUOTED}@127.0.0.1:PORT", "WRONGPASS|invalid username-password"),
        ("redis://127.0.0.1:PORT", "AuthenticationError"),
        (f"redis://guest:{QUOTED}@127.0.0.1:PORT", "NOPERM|no permissions"),
        (f"redis://:{QUOTED}@127.0.0.1:CLOSED", "connect"),
        (f"redis+sentinel://:{QUOTED}@127.0.0.1:CLOSED/main", "main"),
        (f"redis+cluster://:{QUOTED}@127.0.0.1:CLOSED", "(?i)cluster"),
    ],
)
async def test_a_server_that_refuses_is_away_and_secrets_stay_secret(locked: ValkeyServer, url: str, says: str) -> None:
    url = url.replace("PORT", str(locked.port)).replace("CLOSED", str(free_port()))
    with structlog.testing.capture_logs() as logs:
        async with worker(url) as scheduler:
            with pytest.raises(SchedulerAwayError, match=says) as caught:
                await scheduler.run("state", scheduler.shards[0])
            scheduler.shards[0].ready = False
            waiting = asyncio.create_task(scheduler.wait(0.2))  # listens meanwhile
            await waiting
    told = f"{caught.value!r} {caught.value.__cause__!r} {logs}"
    assert "hunter2" not in told


def test_a_connection_that_broke_a_moment_ago_is_a_server_that_is_away(empty: ValkeyServer) -> None:
    """On uvloop, which raises RuntimeError where such a connection is written to."""

    async def broken() -> None:
        connection = RedisConnection.open(f"redis://:{QUOTED}@127.0.0.1:{empty.port}")
        await connection.ping()
        for one in connection._client.connection_pool._available_connections:
            one._writer.transport.abort()
        try:
            await connection.run("state", "{k}", "")
        finally:
            await connection.close()

    with pytest.raises(SchedulerAwayError, match="closed"):
        uvloop.run(broken())


async def test_a_failing_script_tells_no_secrets(empty: ValkeyServer, capsys: pytest.CaptureFixture[str]) -> None:
    async with worker(f"redis://:{QUOTED}@127.0.0.1:{empty.port}") as scheduler:
        await load(scheduler, ListFeed([delivery()]))
        with empty.client() as client:
            (accounts,) = client.keys("*:a")
            for account in client.hkeys(accounts):
                client.hset(accounts, account, b"\xc1")
        with pytest.raises(SchedulerAwayError) as caught:
            await scheduler.claim(1)
    output = capsys.readouterr()
    assert "scheduler_script_failed" in output.out + output.err
    assert "hunter2" not in f"{caught.value!r}{output.out}{output.err}"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hunter2@h", "begins with none of"),
        ("redis+other://:hunter2@h", "begins with none of"),
        ("redis+://:hunter2@h", "begins with none of"),
        ("hunter2", "begins with none of"),
        ("redis://", "no host"),
        ("redis://:hunter2@", "no host"),
        ("redis://:hunter2@h:port", "port is not a number"),
        ("redis://:hunter2@h:99999", "port is not a number"),
        ("redis://:hunter2@h:0", "port 0"),
        ("redis://[:hunter2@h", "host is not written"),
        ("redis://:hunter2/x@h:6379", "%2F"),
        ("redis://:hunter2#x@h:6379", "%2F"),
        ("redis://:hunter2?x@h:6379", "%2F"),
        ("redis://:hunter2@h/main", "database after the / is not a number"),
        ("redis://:hunter2@h/0?socket_timeout=hunter2", "options after"),
        ("redis://:hunter2@h/0?colour=hunter2", "options after"),
        ("redis+cluster://:hunter2@h/1", "no databases but 0"),
        ("redis+cluster://:hunter2@h?colour=hunter2", "options after"),
        ("redis+sentinel://:hunter2@h:26379", "name the service"),
        ("redis+sentinel://:hunter2@h:26379,:26380/main", "no host"),
        ("redis+sentinel://:hunter2@h:x/main", "port is not a number"),
        ("redis+sentinel://:hunter2@h/main/x", "database after the / is not a number"),
        ("redis+sentinel://:hunter2/x@h/main", "%2F"),
        ("redis+sentinel://:hunter2@h/main?socket_timeout=x", "options after"),
        ("redis+sentinel://:hunter2@h/main?colour=hunter2", "options after"),
    ],
)
async def test_a_url_that_cannot_be_is_refused_and_not_repeated(url: str, says: str) -> None:
    with pytest.raises(StartupError, match=says) as caught:
        RedisConnection.open(url)
    assert str(caught.value).startswith("MSGCORE_REDIS_URL cannot be used: ")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_sentinels_name_the_server_and_the_one_that_takes_over() -> None:
    with ValkeyServer() as first, ValkeyServer("--replicaof", "127.0.0.1", str(first.port)) as second:
        await replicates(first)
        with ValkeySentinel(first) as sentinel:
            await knows_replica(sentinel)
            async with worker(f"{sentinel.url}/2") as scheduler:
                feed = ListFeed([delivery("x"), delivery("x"), delivery()])
                await load(scheduler, feed)
                held = await claim(scheduler, 2)
                await listen(first, scheduler)
                await replicated(first, second)
                first.kill()
                async with asyncio.timeout(PATIENCE):
                    while not await took_over(scheduler):
                        await asyncio.sleep(0.1)
                feed.sending = True
                assert await load(scheduler, feed) == 3, "a server that took over may have missed the last moments"
                assert await scheduler.renew(held) == []
                await scheduler.enqueue(tickets([delivery("y")]))
                (last,) = await claim(scheduler, 1)
                assert last.token > max(lease.token for lease in held)


async def pinged(url: str) -> None:
    connection = RedisConnection.open(url)
    try:
        await connection.ping()
    finally:
        await connection.close()


async def took_over(scheduler: object) -> bool:
    """Whether a server answers that does not trust what it holds."""
    try:
        return not await scheduler.is_live(scheduler.shards[0])  # type: ignore[attr-defined]
    except SchedulerAwayError:
        return False


async def replicates(master: ValkeyServer) -> None:
    with master.client() as client:
        async with asyncio.timeout(PATIENCE):
            while client.info("replication").get("slave0", {}).get("state") != "online":
                await asyncio.sleep(0.05)


async def replicated(master: ValkeyServer, replica: ValkeyServer) -> None:
    with master.client() as client, replica.client() as copy:
        wanted = client.info("replication")["master_repl_offset"]
        async with asyncio.timeout(PATIENCE):
            while copy.info("replication")["master_repl_offset"] < wanted:
                await asyncio.sleep(0.05)


async def knows_replica(sentinel: ValkeySentinel) -> None:
    with sentinel.client() as client:
        async with asyncio.timeout(PATIENCE):
            while not client.sentinel_slaves(sentinel.service):
                await asyncio.sleep(0.05)

"""The connection manager: who holds which connection, what it stores, and what becomes of its errors."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
import pytest
from sqlalchemy import delete, insert, select, update

from msgcore.core.clock import SystemClock
from msgcore.core.errors import AuthenticationError, TemporaryError, ThrottledError
from msgcore.core.ids import new_id
from msgcore.core.retry import RetryPolicy
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.inbound import connections as manager
from msgcore.inbound import holding
from msgcore.inbound.connections import ConnectionManager
from msgcore.platforms.base import Account
from msgcore.platforms.live import LeaseLostError, Live, Payload, Sink, State
from msgcore.security.keyring import Keyring
from msgcore.store import connections as store
from msgcore.store.database import Database
from msgcore.store.tables import connections, inbound_requests, platform_logs, project_platforms, projects
from servers.adapters import adapter_services
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project

KEYRING = Keyring(b"k" * 32)


class Radio(Live):
    """A platform that tells what is told to it here; all processes of a test hear the same."""

    up: ClassVar[Counter[str]] = Counter()
    """How many connections each account has just now, over all processes."""
    begun: ClassVar[Counter[str]] = Counter()
    most: ClassVar[Counter[str]] = Counter()
    errors: ClassVar[dict[str, Callable[[Account], Exception]]] = {}
    sinks: ClassVar[dict[str, list[Sink]]] = {}
    told: ClassVar[dict[str, int]] = {}

    @classmethod
    def wanted(cls, account: Account) -> bool:
        return bool(account.credentials.get("on", True))

    async def run(self, account: Account, sink: Sink, state: State | None) -> None:
        Radio.begun[account.id] += 1
        if account.id in Radio.errors:
            raise Radio.errors[account.id](account)
        Radio.up[account.id] += 1
        Radio.most[account.id] = max(Radio.most[account.id], Radio.up[account.id])
        Radio.sinks.setdefault(account.id, []).append(sink)
        at = state["at"] if state else 0
        try:
            sink.connected()
            while True:
                if at < Radio.told.get(account.id, 0):
                    at += 1
                    await sink.store([Payload(str(at).encode(), {"x": "y"})], {"at": at}, [NOTE] if at == 1 else [])
                else:
                    await asyncio.sleep(0.01)
        finally:
            Radio.up[account.id] -= 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for kept in (Radio.up, Radio.begun, Radio.most, Radio.errors, Radio.sinks, Radio.told):
        kept.clear()
    monkeypatch.setattr(manager, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(holding, "LOST_SECONDS", 0.05)


NOTE = "a note of\0 a stranger" + "x" * 5000
"""What strangers write stands in notes: PostgreSQL stores no NUL, and nobody reads a line without end."""


class Processes:
    """Managers as several processes have them, over one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.all: list[ConnectionManager] = []

    async def start(self, *, largest: int = 1000, platform: str = "sandbox") -> ConnectionManager:
        async with adapter_services(self.database) as services:
            made = ConnectionManager(
                database=self.database,
                accounts=AccountDirectory(self.database, KEYRING),
                platforms={platform: Radio(services)},
                on_stored=lambda _: None,
                clock=SystemClock(),
                largest=largest,
            )
        made.start()
        self.all.append(made)
        return made

    async def die(self, one: ConnectionManager) -> None:
        """End it as kill -9 does: nothing is given back."""
        self.all.remove(one)
        assert one._beating is not None
        one._beating.cancel()
        for each in one._held.values():
            each.task.cancel()
        await asyncio.sleep(0)

    async def add(self, number: int, **credentials: Any) -> list[str]:
        rows = []
        for _ in range(number):
            id_ = new_id()
            sealed = KEYRING.encrypt(msgspec.json.encode(credentials), context=id_)
            rows.append(
                {"id": id_, "project_id": PROJECT, "platform": "sandbox", "name": "s", "credentials_encrypted": sealed}
                | {"webhook_token": new_id(), "is_active": True, "test_mode": False}
                | {"created_at": NOW, "updated_at": NOW}
            )
        async with self.database.write() as connection:
            await connection.execute(insert(project_platforms), rows)
        return [row["id"] for row in rows]

    async def change(self, id_: str, *, credentials: dict[str, Any] | None = None, **values: Any) -> None:
        if credentials is not None:
            values["credentials_encrypted"] = KEYRING.encrypt(msgspec.json.encode(credentials), context=id_)
            values["updated_at"] = datetime.now(UTC)
        async with self.database.write() as connection:
            await connection.execute(update(project_platforms).where(project_platforms.c.id == id_).values(values))

    async def stored(self) -> list[int]:
        async with self.database.read() as connection:
            query = select(inbound_requests.c.body).order_by(inbound_requests.c.number)
            return [int(body) for body in (await connection.execute(query)).scalars()]

    async def told(self, message: str) -> int:
        return [line[1] for line in await self.logged()].count(message)

    async def logged(self) -> list[tuple[str, str, str | None]]:
        async with self.database.read() as connection:
            rows = await connection.execute(select(platform_logs).order_by(platform_logs.c.id))
            return [(row.level, row.message, row.error) for row in rows if row.category == "connection"]


@pytest.fixture
async def processes(database: Database) -> AsyncIterator[Processes]:
    await add_project(database)
    async with database.write() as connection:
        await connection.execute(delete(project_platforms).where(project_platforms.c.id == ACCOUNT))
    made = Processes(database)
    yield made
    for each in made.all:
        await each.stop()


async def until(is_so: Callable[[], Any], *, seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = is_so()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


def counts(*managers: ConnectionManager) -> list[int]:
    return [len(each._held) for each in managers]


async def test_what_comes_is_stored_once_with_the_state_and_goes_on_from_there(processes: Processes) -> None:
    [id_] = await processes.add(1)
    Radio.told[id_] = 3
    first = await processes.start()
    await until(lambda: _is(processes.stored(), [1, 2, 3]))
    await first.stop()
    processes.all.remove(first)
    Radio.told[id_] = 5
    await processes.start()
    await until(lambda: _is(processes.stored(), [1, 2, 3, 4, 5]))
    await until(lambda: _is(processes.told("Connected"), 2))
    assert await processes.told("a note of a stranger" + "x" * (1000 - 20)) == 1
    async with processes.database.read() as connection:
        row = (await connection.execute(select(inbound_requests))).first()
    assert row is not None
    assert (row.platform_id, row.project_id, row.platform, row.headers) == (id_, PROJECT, "sandbox", {"x": "y"})


async def _is(found: Any, expected: Any) -> bool:
    return bool(await found == expected)


async def test_each_connection_is_held_once_and_each_process_has_its_share(processes: Processes) -> None:
    ids = await processes.add(7)
    off = await processes.add(2, on=False)
    a = await processes.start()
    await until(lambda: sum(Radio.up.values()) == 7)
    b = await processes.start()
    await until(lambda: sorted(counts(a, b)) == [3, 4])
    c = await processes.start()
    await until(lambda: counts(a, b, c) and max(counts(a, b, c)) == 3 and sum(Radio.up.values()) == 7)
    await c.stop()
    processes.all.remove(c)
    await until(lambda: sorted(counts(a, b)) == [3, 4] and sum(Radio.up.values()) == 7)
    await processes.die(a)
    assert max(Radio.most.values()) == 1
    assert set(Radio.begun) == set(ids)
    assert not any(Radio.begun[id_] for id_ in off)


async def test_the_connections_of_a_process_that_died_move_when_their_leases_end(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(manager, "SAFETY_SECONDS", 0.3)
    await processes.add(4)
    a, b = await processes.start(), await processes.start()
    await until(lambda: counts(a, b) == [2, 2])
    await processes.die(a)
    await until(lambda: counts(b) == [4] and sum(Radio.up.values()) == 4)
    async with processes.database.read() as connection:
        holders = set((await connection.execute(select(connections.c.holder))).scalars())
    assert holders == {b._holder}


async def test_whoever_lost_the_lease_stores_nothing(processes: Processes) -> None:
    [id_] = await processes.add(1)
    a = await processes.start()
    await until(lambda: Radio.up[id_] == 1)
    await processes.die(a)
    async with processes.database.write() as connection:
        await connection.execute(update(connections).values(holder=new_id()))
    for holder_is_there in (True, False):
        if not holder_is_there:
            async with processes.database.write() as connection:
                await connection.execute(delete(connections))
        with pytest.raises(LeaseLostError):
            await Radio.sinks[id_][0].store([Payload(b"1")], {"at": 1}, ["a note"])
    assert await processes.stored() == []
    assert ("warn", "a note", None) not in await processes.logged()


async def test_a_holder_that_cannot_renew_lets_go_before_others_may_take_it(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(manager, "SAFETY_SECONDS", 1.0)
    [id_] = await processes.add(1)
    await processes.start()
    await until(lambda: Radio.up[id_] == 1)

    def away(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError

    async with processes.database.read() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(store, "beat", away)
            patch.setattr(store, "release", away)
            await until(lambda: Radio.up[id_] == 0)
            query = select(connections.c.until > store.now_in(processes.database.kind))
            assert await connection.scalar(query), "nobody else could take it yet"
    await until(lambda: Radio.up[id_] == 1)
    assert Radio.most[id_] == 1


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ({"is_active": False}, {"is_active": True}),
        ({"paused_at": NOW, "paused_by": "user"}, {"paused_at": None, "paused_by": None}),
        ({"credentials": {"on": False}}, {"credentials": {"on": True}}),
    ],
    ids=["switched off", "paused", "no connection asked for"],
)
async def test_an_account_that_is_to_have_none_has_none(
    processes: Processes, change: dict[str, Any], back: dict[str, Any]
) -> None:
    id_, other = await processes.add(2)
    await processes.start()
    await until(lambda: Radio.up[id_] == Radio.up[other] == 1)
    await processes.change(id_, **change)
    await until(lambda: Radio.up[id_] == 0)
    await processes.change(id_, **back)
    await until(lambda: Radio.up[id_] == 1)
    assert Radio.begun[other] == 1


async def test_an_account_that_changed_is_connected_anew_and_one_that_is_gone_not_at_all(processes: Processes) -> None:
    [id_, other] = await processes.add(2)
    running = await processes.start()
    await until(lambda: Radio.up[id_] == Radio.up[other] == 1)
    await processes.change(id_, credentials={"new": 1})
    running.hurry()
    await until(lambda: Radio.begun[id_] == 2 and Radio.up[id_] == 1)
    async with processes.database.write() as connection:
        await connection.execute(update(projects).values(paused_at=NOW))
    await until(lambda: not sum(Radio.up.values()))
    async with processes.database.write() as connection:
        await connection.execute(update(projects).values(paused_at=None))
        await connection.execute(delete(project_platforms).where(project_platforms.c.id == id_))
    await until(lambda: Radio.up == {id_: 0, other: 1})
    # Refused credentials of sending say nothing about those of receiving.
    await processes.change(other, paused_at=NOW, paused_by="credentials", credentials={"again": 1})
    await until(lambda: Radio.begun[other] == 3 and Radio.up[other] == 1)


async def test_the_same_error_is_told_once_and_refused_credentials_are_seldom_tried(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "BACKOFF", RetryPolicy(base=0.02, cap=0.02))
    [lost, refused, asked, broken] = await processes.add(4)
    texts = iter(["away"] * 3 + ["busy"] * 100)
    Radio.errors = {
        lost: lambda _: TemporaryError("x", next(texts, "busy")),
        refused: lambda _: AuthenticationError("no", "the login is refused"),
        asked: lambda _: ThrottledError("slow", "wait", retry_after=3600.0),
        broken: lambda _: KeyError("secret-of-mine"),
    }
    await processes.start()
    await until(lambda: Radio.begun[lost] > 8 and Radio.begun[broken] > 3)
    errors = sorted(error or "" for _, _, error in await processes.logged())
    assert errors == [
        "MsgCore failed here (KeyError); its log says how",
        "away",
        "busy",
        "the login is refused",
        "wait",
    ]
    assert (Radio.begun[refused], Radio.begun[asked]) == (1, 1)
    del Radio.errors[refused]
    await processes.change(refused, credentials={"right": True})
    await until(lambda: _is(processes.told("Connected"), 1))


async def test_a_process_takes_no_connections_of_a_platform_that_it_does_not_know(processes: Processes) -> None:
    [id_] = await processes.add(1)
    newer = await processes.start()
    await until(lambda: Radio.up[id_] == 1)
    older = await processes.start(platform="of-yesterday")
    await newer.stop()
    processes.all.remove(newer)
    beaten = older._safe_until
    await until(lambda: older._safe_until > beaten)
    assert (counts(older), older._beating is not None and older._beating.done()) == ([0], False)
    await processes.start()
    await until(lambda: Radio.up[id_] == 1)


async def test_an_error_of_a_beat_does_not_end_the_manager(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    [id_] = await processes.add(1)
    failed = asyncio.Event()

    def failing(*_: Any) -> Any:
        failed.set()
        raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr(manager, "Holding", failing)
        await processes.start()
        await asyncio.wait_for(failed.wait(), PATIENCE)
    await until(lambda: Radio.up[id_] == 1)

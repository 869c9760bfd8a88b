"""The processor with the real ledger and scheduler; only the platform is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError

from contract.scheduler_harness import valkey
from msgcore.core.clock import SystemClock
from msgcore.core.content import Content, SendOptions
from msgcore.core.deliveries import Lease
from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)
from msgcore.core.limits import PACING, Pacing
from msgcore.core.retry import RetryPolicy
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.dispatch.fallbacks import Fallbacks
from msgcore.dispatch.feeder import Feeder
from msgcore.dispatch.handover import Handover
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.messages import MessageBody, MessageCache
from msgcore.dispatch.opt_outs import OptOutDirectory
from msgcore.dispatch.processor import Processor
from msgcore.dispatch.redis import RedisConnection, RedisScheduler
from msgcore.dispatch.redis.loader import ShardLoader
from msgcore.dispatch.scheduler import Scheduler
from msgcore.dispatch.verdict import Judge
from msgcore.platforms.base import Account, OutgoingDelivery, PlatformAdapter, PlatformDeclaration, SentReceipt
from msgcore.security.keyring import Keyring
from msgcore.store.database import Database
from msgcore.store.ledger import reads
from msgcore.store.ledger.accept import AcceptLog, NewMessage
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.ledger.feed import Feed
from msgcore.store.ledger.work import WorkLog
from msgcore.store.lock import Leadership
from msgcore.store.tables import project_platforms
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, PROJECT, add_project, new_message
from store.test_faults import wrapped

KEYRING = Keyring(b"k" * 32)
FAST = RetryPolicy(max_attempts=3, max_age=0.0, base=0.01, cap=0.02)

Script = Callable[[OutgoingDelivery], Awaitable[SentReceipt]]


class ScriptedAdapter(PlatformAdapter):
    """A platform that does what the test says, at the edge of the machine."""

    declaration: ClassVar[PlatformDeclaration] = PlatformDeclaration(
        name="sandbox", display_name="Scripted", capabilities=(), credentials=(), retry=FAST
    )

    def __init__(self) -> None:
        self.calls: list[OutgoingDelivery] = []
        self.script: Script = self.take
        self.already_sent: SentReceipt | DeliveryError | None = None
        self.running = 0
        self.most_running = 0

    async def take(self, delivery: OutgoingDelivery) -> SentReceipt:
        return SentReceipt(f"pm-{delivery.id}")

    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        assert account.credentials == {"token": "t"}
        self.calls.append(delivery)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.script(delivery)
        finally:
            self.running -= 1

    async def find_sent(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt | None:
        if isinstance(self.already_sent, DeliveryError):
            raise self.already_sent
        return self.already_sent


class Core:
    """A dispatch core over one database; can be stopped and started again like a process."""

    def __init__(self, database: Database, redis_url: str | None = None) -> None:
        self.database = database
        self.redis_url = redis_url
        self.prefix = f"core-{uuid4().hex[:8]}"
        self.adapter = ScriptedAdapter()
        self.pacing = PACING
        self.settings = {"concurrency": 16, "lease_seconds": 30.0, "send_timeout": 5.0}
        self.build()

    def build(self) -> None:
        clock = SystemClock()
        work = WorkLog(self.database)
        self.messages = MessageCache(work)
        self.scheduler: Scheduler = MemoryScheduler(clock, pacing=self.pacing)
        self.accept_log = AcceptLog(self.database, self._committed)
        self.accounts = AccountDirectory(self.database, KEYRING)
        shared: dict[str, Any] = {}
        if self.redis_url is not None:
            connection = RedisConnection.open(self.redis_url, prefix=self.prefix, pacing=self.pacing)
            self.scheduler = RedisScheduler(connection, clock)
            self.leadership = Leadership(self.database)
            shared["leadership"] = self.leadership
        parts = {"feed": Feed(self.database), "scheduler": self.scheduler, "limits": {}, "clock": clock}
        if self.redis_url is not None:
            shared["loader"] = ShardLoader(**parts)  # type: ignore[arg-type]
        self.handover = Handover(**parts, gate=self.accept_log.gate)  # type: ignore[arg-type]
        self.feeder = Feeder(
            **parts,  # type: ignore[arg-type]
            gate=self.accept_log.gate,
            handover=self.handover,
            on_resume=self.accounts.forget,
            on_found=lambda _: None,
            every=0.05,
            **shared,
        )
        self.fallbacks = Fallbacks(
            database=self.database,
            scheduler=self.scheduler,
            limits={},
            clock=clock,
            leads=lambda: self.feeder.leads,
            every=0.05,
        )
        self.processor = Processor(
            scheduler=self.scheduler,
            work=work,
            accounts=self.accounts,
            messages=self.messages,
            adapters={"sandbox": self.adapter},
            clock=clock,
            judge=Judge(),
            opt_outs=OptOutDirectory(self.database, lambda platform, user_id: user_id),
            on_fallible=self.fallbacks.look,
            **self.settings,  # type: ignore[arg-type]
        )

    async def _committed(self, tickets) -> None:
        await self.handover.committed(tickets)

    async def start(self) -> None:
        await self.feeder.start()
        self.fallbacks.start()
        self.processor.start()

    async def stop(self, seconds: float = 5.0) -> None:
        await self.fallbacks.stop()
        await self.feeder.stop()
        await self.handover.stop()
        await self.processor.stop(seconds)
        if isinstance(self.scheduler, RedisScheduler):
            await self.leadership.release()
            await self.scheduler.close()

    async def accept(self, *targets: str, **columns) -> NewMessage:
        new = new_message(*targets, now=datetime.now(UTC), **columns)
        await self.accept_log.accept(new)
        return new

    async def until(self, **wanted: int) -> None:
        """Until the ledger has exactly these open and final deliveries."""
        async with asyncio.timeout(PATIENCE):
            while True:
                counts = await count_by_state(self.database, project_id=PROJECT)
                found = {state.value: number for state, number in counts.items() if number}
                if found == wanted:
                    return
                await asyncio.sleep(0.01)

    async def timeline(self, new: NewMessage, index: int = 0) -> list[str]:
        return [row.outcome for row in await reads.attempts_of(self.database, new.deliveries[index]["id"])]


KINDS = ("sqlite alone", "postgresql alone", "postgresql and redis")


@pytest.fixture(params=KINDS)
async def core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    async with running_core(request) as running:
        yield running


@asynccontextmanager
async def running_core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    """A dispatch core of the kind that the fixture's parameter names, started."""
    kind = request.param.split()[0]
    database = Database.open(request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url"))
    await add_project(database)
    async with database.write() as connection:
        await connection.execute(
            update(project_platforms).values(credentials_encrypted=KEYRING.encrypt(b'{"token":"t"}', context=ACCOUNT))
        )
    made = Core(database, valkey().url if request.param.endswith("redis") else None)
    await made.start()
    yield made
    await made.stop()
    await database.close()


def failing(*errors: Exception) -> Script:
    """Raises these, one a call, then takes everything."""
    queue = list(errors)

    async def script(delivery: OutgoingDelivery) -> SentReceipt:
        if queue:
            raise queue.pop(0)
        return SentReceipt("pm")

    return script


async def test_an_accepted_message_is_sent(core: Core) -> None:
    new = await core.accept("ann")
    await core.until(sent=1)
    (row,) = await reads.deliveries_of(core.database, new.message["id"])
    assert row.provider_message_id == f"pm-{row.id}"
    (call,) = core.adapter.calls
    assert (call.target.id, call.content.text, call.attempt) == ("ann", "hello", 1)


@pytest.mark.parametrize(
    ("errors", "timeline", "final"),
    [
        ([TemporaryError("down", "later")], ["retry", "sent"], "sent"),
        ([PermanentError("refused", "no")], ["failed"], "failed"),
        ([ThrottledError("429", "", retry_after=0.05, scope=Scope.DELIVERY)], ["throttled", "sent"], "sent"),
        ([ThrottledError("429", "", retry_after=0.05, scope=Scope.ACCOUNT)], ["throttled", "sent"], "sent"),
        ([ValueError("a bug")], ["retry", "sent"], "sent"),
        ([TemporaryError("down", "")] * 3, ["retry", "retry", "failed"], "failed"),
        ([TimeoutError()], ["retry", "sent"], "sent"),
    ],
    ids=["temporary", "permanent", "throttled", "account throttled", "bug", "given up", "time-out"],
)
async def test_every_kind_of_failure(core: Core, errors: list[Exception], timeline: list[str], final: str) -> None:
    core.adapter.script = failing(*errors)
    new = await core.accept("ann")
    await core.until(**{final: 1})
    assert await core.timeline(new) == timeline


async def test_a_lane_keeps_its_order_through_failures(core: Core) -> None:
    seen: dict[str, int] = {}

    async def flaky(delivery: OutgoingDelivery) -> SentReceipt:
        seen[delivery.id] = seen.get(delivery.id, 0) + 1
        if seen[delivery.id] == 1 and len(seen) % 3 == 0:
            raise TemporaryError("down", "")
        return SentReceipt(None)

    core.adapter.script = flaky
    made = [(await core.accept("ann")).deliveries[0]["id"] for _ in range(30)]
    await core.until(sent=30)
    final = list(dict.fromkeys(call.id for call in reversed(core.adapter.calls)))[::-1]
    assert final == made


async def test_lanes_of_an_account_run_side_by_side_and_leave_places_free(core: Core) -> None:
    gate = asyncio.Event()

    async def slow(delivery: OutgoingDelivery) -> SentReceipt:
        await gate.wait()
        return SentReceipt(None)

    core.adapter.script = slow
    await core.accept(*(f"user-{n}" for n in range(50)))
    async with asyncio.timeout(PATIENCE):
        while core.adapter.running < 12:
            await asyncio.sleep(0.005)
    gate.set()
    await core.until(sent=50)
    assert core.adapter.most_running == 12, "three quarters of 16"


async def test_what_waits_for_its_moment_leaves_its_place_to_others(core: Core) -> None:
    await core.stop()
    core.pacing = Pacing(ahead=3.0)  # longer than a busy machine takes to accept a message
    core.settings["concurrency"] = 1
    core.build()
    await core.start()
    await core.accept("later", due_in=timedelta(seconds=2.5))
    await core.until(sending=1)  # claimed ahead of time
    await core.accept("now")
    await core.until(sent=2)
    assert [call.target.id for call in core.adapter.calls] == ["now", "later"]


async def test_planned_moments_that_come_at_once_take_no_more_places_than_there_are(core: Core) -> None:
    await core.stop()
    core.settings["concurrency"] = 2
    core.build()
    await core.start()

    async def slow(delivery: OutgoingDelivery) -> SentReceipt:
        await asyncio.sleep(0.01)
        return SentReceipt(None)

    core.adapter.script = slow
    await core.accept(*(f"user-{number}" for number in range(10)), due_in=timedelta(seconds=PACING.ahead * 0.9))
    await core.until(sent=10)
    assert core.adapter.most_running <= 2
    assert len(core.adapter.calls) == 10


async def test_a_stop_interrupts_what_waits_for_a_planned_moment_or_a_place(core: Core) -> None:
    await core.stop()
    core.settings["concurrency"] = 1
    core.build()
    await core.start()
    never = asyncio.Event()

    async def stuck(delivery: OutgoingDelivery) -> SentReceipt:
        await never.wait()
        return SentReceipt(None)

    core.adapter.script = stuck
    new = await core.accept(
        *(f"user-{number}" for number in range(4)),
        due_in=timedelta(seconds=PACING.ahead * 0.9),
        on_uncertain="fail",
    )
    async with asyncio.timeout(PATIENCE):
        while not (core.adapter.calls and core.processor._places._returning):
            await asyncio.sleep(0.01)
    (called,) = core.adapter.calls
    await core.stop(0.0)
    assert (core.processor._places.busy, core.processor._places.planned) == (0, 0)
    core.adapter.script = core.adapter.take
    core.build()
    await core.start()
    await core.until(sent=3, failed=1)
    failed = next(row for row in await reads.deliveries_of(core.database, new.message["id"]) if row.state == "failed")
    assert failed.id == called.id, "of the others nothing is uncertain"


async def test_what_is_in_memory_does_not_wait_for_what_must_be_read(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read = asyncio.Event()
    load = WorkLog.load_messages

    async def late(self: WorkLog, message_ids: Any) -> Any:
        await may_read.wait()
        return await load(self, message_ids)

    monkeypatch.setattr(WorkLog, "load_messages", late)
    await core.stop()
    core.build()
    await core.feeder.start()
    old, new = await core.accept("ann"), await core.accept("bob")
    core.messages.put(new.message["id"], MessageBody(Content(text="hello"), SendOptions()), 5)
    core.processor.start()  # claims both at once
    try:
        async with asyncio.timeout(PATIENCE):
            while not core.adapter.calls:
                await asyncio.sleep(0.01)
        assert [call.target.id for call in core.adapter.calls] == ["bob"]
    finally:
        may_read.set()
    await core.until(sent=2)
    assert await core.timeline(old) == ["sent"]


async def test_what_waits_for_the_ledger_leaves_places_to_others_but_not_without_end(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_record = asyncio.Event()
    record = WorkLog.record

    async def late(self: WorkLog, results: Any) -> None:
        await may_record.wait()
        await record(self, results)

    monkeypatch.setattr(WorkLog, "record", late)
    for first in range(0, 60, 10):
        await core.accept(*(f"user-{number}" for number in range(first, first + 10)))
    try:
        async with asyncio.timeout(PATIENCE):
            while len(core.adapter.calls) <= 16:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(core.adapter.calls) <= 32
    finally:
        may_record.set()
    await core.until(sent=60)


async def test_refused_credentials_pause_the_account_and_cost_no_attempt(core: Core) -> None:
    core.adapter.script = failing(AuthenticationError("401", "token revoked"))
    new = await core.accept("ann")
    async with asyncio.timeout(PATIENCE):
        while await core.timeline(new) != ["authentication"]:
            await asyncio.sleep(0.01)
    await core.until(queued=1)
    (row,) = await reads.deliveries_of(core.database, new.message["id"])
    assert row.attempts == 0
    await core.accept("bob")
    await core.until(queued=2)
    async with core.database.write() as connection:
        await connection.execute(update(project_platforms).values(paused_at=None))
    core.accounts.forget(ACCOUNT)
    await core.scheduler.resume(ACCOUNT)
    await core.until(sent=2)


async def test_a_platform_that_was_deleted_fails_its_deliveries(core: Core) -> None:
    async with core.database.write() as connection:
        await connection.execute(delete(project_platforms))
    new = await core.accept("ann")
    await core.until(failed=1)
    (row,) = await reads.deliveries_of(core.database, new.message["id"])
    assert row.error_code == "platform_deleted"


async def test_credentials_that_cannot_be_decrypted_pause_the_account(core: Core) -> None:
    async with core.database.write() as connection:
        await connection.execute(
            update(project_platforms).values(credentials_encrypted=Keyring(b"x" * 32).encrypt(b"{}", context=ACCOUNT))
        )
    new = await core.accept("ann")
    async with asyncio.timeout(PATIENCE):
        while await core.timeline(new) != ["authentication"]:
            await asyncio.sleep(0.01)
    assert core.adapter.calls == []


async def test_an_expired_message_is_not_sent(core: Core) -> None:
    await core.accept("ann", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await core.until(expired=1)
    assert core.adapter.calls == []


class TestRestart:
    async def test_what_was_queued_is_sent_by_the_next_process(self, core: Core) -> None:
        await core.stop()
        core.build()
        made = [(await core.accept("ann")).deliveries[0]["id"] for _ in range(5)]
        await core.accept(*(f"u{n}" for n in range(1100)))
        await core.start()
        await core.until(sent=1105)
        assert [call.id for call in core.adapter.calls if call.target.id == "ann"] == made

    async def test_an_interrupted_delivery_is_sent_again_and_says_so(self, core: Core) -> None:
        new, core = await self.interrupt(core)
        await core.start()
        await core.until(sent=1)
        assert await core.timeline(new) == ["uncertain", "sent"]
        assert core.adapter.calls[-1].attempt == 2

    async def test_a_platform_that_can_be_asked_is_asked_first(self, core: Core) -> None:
        new, core = await self.interrupt(core)
        calls = len(core.adapter.calls)
        core.adapter.already_sent = SentReceipt("found")
        await core.start()
        await core.until(sent=1)
        assert len(core.adapter.calls) == calls
        (row,) = await reads.deliveries_of(core.database, new.message["id"])
        assert row.provider_message_id == "found"

    @pytest.mark.parametrize(("core", "parts"), [("sqlite alone", 1), ("postgresql alone", 2)], indirect=["core"])
    async def test_one_with_the_same_text_is_not_taken_for_it(self, core: Core, parts: int) -> None:
        """Some platforms can only be asked what was said, and it may have been said before."""
        ids = [f"pm-{number}" for number in range(parts)]

        async def in_parts(delivery: OutgoingDelivery) -> SentReceipt:
            done = len(delivery.part_ids)
            return SentReceipt(ids[done], more=done + 1 < parts)

        core.adapter.script = in_parts
        await core.accept("ann")
        await core.until(sent=1)
        new, core = await self.interrupt(core)
        core.adapter.already_sent, core.adapter.script = SentReceipt(ids[-1]), core.adapter.take
        await core.start()
        await core.until(sent=2)
        assert core.adapter.calls[-1].id == new.deliveries[0]["id"]

    async def test_on_uncertain_fail_does_not_send_twice(self, core: Core) -> None:
        new, core = await self.interrupt(core, on_uncertain="fail")
        calls = len(core.adapter.calls)
        core.adapter.already_sent = PermanentError("missing_scope", "it does not let us look")
        await core.start()
        await core.until(failed=1)
        assert len(core.adapter.calls) == calls
        (row,) = await reads.deliveries_of(core.database, new.message["id"])
        assert row.error_code == "uncertain"

    async def test_a_stop_waits_for_what_is_running(self, core: Core) -> None:
        entered, gate = asyncio.Event(), asyncio.Event()

        async def slow(delivery: OutgoingDelivery) -> SentReceipt:
            entered.set()
            await gate.wait()
            return SentReceipt(None)

        core.adapter.script = slow
        await core.accept("ann")
        await entered.wait()
        stopping = asyncio.create_task(core.stop())
        await asyncio.sleep(0)
        gate.set()
        await stopping
        await core.until(sent=1)

    async def test_a_stop_interrupts_what_takes_too_long_and_leaves_it_retrying(self, core: Core) -> None:
        entered = asyncio.Event()

        async def endless(delivery: OutgoingDelivery) -> SentReceipt:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        core.adapter.script = endless
        new = await core.accept("ann")
        await entered.wait()
        await core.stop(0.05)
        await core.until(retrying=1)
        (entry,) = await reads.attempts_of(core.database, new.deliveries[0]["id"])
        assert (entry.outcome, entry.reached) == ("retry", "maybe")

    async def interrupt(self, core: Core, **columns) -> tuple[NewMessage, Core]:
        """Leave a delivery in `sending`, as a kill does."""
        await core.stop()
        core.build()
        new = await core.accept("ann", **columns)
        await WorkLog(core.database).begin([new.deliveries[0]["id"]], datetime.now(UTC))
        return new, core


async def test_a_database_that_fails_for_a_while_loses_nothing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    real_begin, real_record = WorkLog.begin, WorkLog.record
    failures = {"begin": 2, "record": 2}

    async def begin(self, *rest):
        if failures["begin"]:
            failures["begin"] -= 1
            raise OSError("database away")
        return await real_begin(self, *rest)

    async def record(self, *rest):
        if failures["record"]:
            failures["record"] -= 1
            raise OSError("database away")
        return await real_record(self, *rest)

    monkeypatch.setattr(WorkLog, "begin", begin)
    monkeypatch.setattr(WorkLog, "record", record)
    await core.accept("ann", "bob")
    await core.until(sent=2)
    assert len(core.adapter.calls) == 2


@pytest.mark.parametrize("core", ["sqlite alone"], indirect=True)
async def test_a_fault_that_nobody_expects_ends_no_loop(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = {"claim", "renew", "enqueue"}

    def failing_once(name: str) -> Callable[..., Awaitable[Any]]:
        real = getattr(core.scheduler, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if name in faults:
                faults.remove(name)
                raise ValueError("a bug")
            return await real(*arguments, **named)

        return call

    await core.stop()
    core.settings["lease_seconds"] = 0.3
    core.build()
    for name in tuple(faults):
        monkeypatch.setattr(core.scheduler, name, failing_once(name))
    await core.start()
    await core.accept("ann")  # is committed, and so is the answer
    await core.until(sent=1)
    async with asyncio.timeout(PATIENCE):
        while faults:
            await asyncio.sleep(0.01)
    assert {"claim", "renew"} <= {task.get_name() for task in asyncio.all_tasks()}


@pytest.mark.parametrize("core", ["sqlite alone"], indirect=True)
async def test_an_outcome_that_gives_way_to_others_is_stored_after_them(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is: else the message is sent again when its lease runs out."""
    real, faults = WorkLog.record, [wrapped(asyncpg.DeadlockDetectedError("deadlock")) for _ in range(3)]

    async def record(self: WorkLog, results: Any) -> None:
        if faults:
            raise faults.pop()
        await real(self, results)

    monkeypatch.setattr(WorkLog, "record", record)
    new = await core.accept("ann")
    await core.until(sent=1)
    (row,) = await reads.deliveries_of(core.database, new.message["id"])
    assert (len(core.adapter.calls), row.provider_message_id) == (1, f"pm-{row.id}")


async def test_an_outcome_that_cannot_be_stored_does_not_hold_the_others_back(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = WorkLog.record

    async def record(self, results):
        if any(result.provider_message_id == "poison" for result in results):
            raise IntegrityError("insert", {}, ValueError("does not fit"))
        return await real(self, results)

    async def script(delivery: OutgoingDelivery) -> SentReceipt:
        return SentReceipt("poison" if delivery.target.id == "bad" else "pm")

    monkeypatch.setattr(WorkLog, "record", record)
    core.adapter.script = script
    await core.accept("bad", "good")
    await core.until(sent=2)


def test_delivery_errors_are_one_family() -> None:
    assert all(issubclass(e, DeliveryError) for e in (PermanentError, TemporaryError, ThrottledError))


async def test_a_pause_and_its_end_are_heard_from_other_processes(core: Core) -> None:
    """Another process, the API's, writes both to the ledger and nothing else."""

    async def note(**columns: object) -> None:
        async with core.database.write() as connection:
            await connection.execute(update(project_platforms).values(columns))

    await note(is_active=False)
    async with asyncio.timeout(PATIENCE):
        while ACCOUNT not in await core.scheduler.paused():
            await asyncio.sleep(0.01)
    await core.accept("ann")
    await core.until(queued=1)
    await note(is_active=True)
    await core.until(sent=1)
    assert len(core.adapter.calls) == 1


async def test_what_fails_between_beginning_and_sending_costs_nothing(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account cannot be read: what was begun is given back, sent once, and not taken for uncertain."""
    real, faults = core.accounts.get, iter([OSError("the database is away")])

    async def get(account_id: str) -> object:
        for fault in faults:
            raise fault
        return await real(account_id)

    monkeypatch.setattr(core.accounts, "get", get)
    new = await core.accept("ann", "bob", on_uncertain="fail")
    await core.until(sent=2)
    assert len(core.adapter.calls) == 2
    assert {call.attempt for call in core.adapter.calls} == {1}
    assert await core.timeline(new) == ["released", "sent"]


@pytest.mark.parametrize("core", ["sqlite alone"], indirect=True)
@pytest.mark.parametrize("step", ["begin", "load_messages"])
async def test_leases_are_kept_while_the_ledger_takes_its_time(
    core: Core, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """One that runs out is claimed again, and its delivery sent twice."""
    await core.stop()
    core.settings["lease_seconds"] = 0.06
    core.build()
    real, renew, is_renewed = getattr(WorkLog, step), core.scheduler.renew, asyncio.Event()

    async def late(self: WorkLog, *arguments: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            await is_renewed.wait()
        return await real(self, *arguments)

    async def noted(leases: Sequence[Lease]) -> list[Lease]:
        lost = await renew(leases)
        if leases and not lost:
            is_renewed.set()
        return lost

    monkeypatch.setattr(WorkLog, step, late)
    monkeypatch.setattr(core.scheduler, "renew", noted)
    await core.start()
    await core.accept("ann")
    await core.until(sent=1)
    assert is_renewed.is_set()


@pytest.mark.parametrize("core", ["sqlite alone"], indirect=True)
async def test_one_that_was_claimed_twice_before_it_was_begun_is_sent_once(core: Core) -> None:
    """The first lease ran out while its batch waited for its turn."""
    await core.stop()
    new = await core.accept("ann")
    first, second = (Lease(new.deliveries[0]["id"], ACCOUNT, token) for token in (1, 2))
    lost, begun = await core.processor._begin_groups([[first], [second]])
    assert (list(lost), list(begun)) == ([], [second.delivery_id])


async def test_a_stop_waits_for_outcomes_on_their_way(core: Core) -> None:
    entered = asyncio.Event()

    async def slow(delivery: OutgoingDelivery) -> SentReceipt:
        entered.set()
        await asyncio.sleep(0.05)
        return SentReceipt("pm")

    core.adapter.script = slow
    await core.accept("ann")
    await entered.wait()
    await core.stop()
    await core.until(sent=1)


class TestSeveralCalls:
    """A message that a platform takes in parts."""

    @staticmethod
    def three_parts(*errors: Exception) -> Script:
        queue = list(errors)

        async def script(delivery: OutgoingDelivery) -> SentReceipt:
            done = len(delivery.part_ids)
            if delivery.target.id != "ann" or delivery.content.text != "hello":
                return SentReceipt("other")
            if done == 1 and queue:
                raise queue.pop(0)
            return SentReceipt(f"part-{done}", more=done < 2)

        return script

    async def test_each_part_takes_its_turn_and_nobody_comes_between(self, core: Core) -> None:
        core.adapter.script = self.three_parts(TemporaryError("down", ""))
        new, after = await core.accept("ann"), await core.accept("ann")
        await core.until(sent=2)
        calls = [(call.id, call.part_ids, call.attempt) for call in core.adapter.calls]
        parts = [((), 1), (("part-0",), 1), (("part-0",), 2), (("part-0", "part-1"), 2)]
        first = new.deliveries[0]["id"]
        assert calls[:4] == [(first, *part) for part in parts]
        assert {call[0] for call in calls[4:]} == {after.deliveries[0]["id"]}
        assert await core.timeline(new) == ["part", "retry", "part", "sent"]
        row = next(iter(await reads.deliveries_of(core.database, new.message["id"])))
        assert (row.provider_message_id, row.attempts, row.error_code) == ("part-0", 2, None)

    async def test_what_was_sent_is_not_sent_again_by_the_next_process(self, core: Core) -> None:
        entered = asyncio.Event()

        async def stuck(delivery: OutgoingDelivery) -> SentReceipt:
            if delivery.part_ids:
                entered.set()
                await asyncio.Event().wait()
            return SentReceipt("part-0", more=True)

        core.adapter.script = stuck
        new = await core.accept("ann")
        await entered.wait()
        await core.stop(0.05)
        core.build()
        core.adapter.script = self.three_parts()
        await core.start()
        await core.until(sent=1)
        assert [call.part_ids for call in core.adapter.calls] == [
            (),
            ("part-0",),
            ("part-0",),
            ("part-0", "part-1"),
        ]
        assert (await core.timeline(new))[0] == "part"

"""Handing over what is committed to a scheduler that is away now and then: nothing is missed, no lane overtaken."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from msgcore.core.clock import SystemClock
from msgcore.core.deliveries import Done, Ticket
from msgcore.core.ids import new_id
from msgcore.dispatch import handover
from msgcore.dispatch.handover import Handover
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.scheduler import Scheduler, SchedulerAwayError
from msgcore.dispatch.tickets import HORIZON
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.feed import Feed, OpenDelivery
from servers.patience import PATIENCE
from store.ledger_rows import add_project, new_message

ACCOUNT = "01920000-0000-7000-8000-0000000000aa"
PAGE = 5


@pytest.fixture(autouse=True, scope="module")
def quick() -> object:
    """Small pages, so that there are many, and no pauses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handover, "PAGE", PAGE)
        patch.setattr(handover, "RETRY_SECONDS", 0.0)
        yield


class MoodyScheduler(MemoryScheduler):
    """One whose server is away as often as `moods` says, before or after it did what was asked."""

    def __init__(self, moods: random.Random, away: float) -> None:
        super().__init__(SystemClock())
        self.moods, self.away = moods, away
        self.refused = 0

    async def enqueue(self, tickets: Sequence[Ticket]) -> int:
        await asyncio.sleep(0)
        if self.moods.random() < self.away:
            self.refused += 1
            if self.moods.random() < 0.5:
                await super().enqueue(tickets)
            raise SchedulerAwayError("away")
        return await super().enqueue(tickets)


class Ledger:
    """Committed deliveries, in pages. `failures` is how many more reads fail."""

    def __init__(self) -> None:
        self.rows: dict[str, OpenDelivery] = {}
        self.reads = 0
        self.failures = 0

    async def after(self, last_id: str, until: datetime) -> list[OpenDelivery]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the database is away")
        found = sorted(
            (row for row in self.rows.values() if row.id > last_id and row.due_at <= until), key=lambda r: r.id
        )
        await asyncio.sleep(0)
        return found[:PAGE]


class Process:
    """Accepts messages like one does: an id first, then, when the gate is free, the commit and the handing over."""

    def __init__(self, scheduler: MemoryScheduler) -> None:
        self.ledger = Ledger()
        self.scheduler = scheduler
        self.gate = asyncio.Lock()
        self.handover = Handover(
            feed=self.ledger,  # type: ignore[arg-type]
            scheduler=scheduler,
            limits={},
            clock=SystemClock(),
            gate=self.gate,
        )
        self.accepted: dict[str, list[str]] = defaultdict(list)
        self.claimed: dict[str, list[str]] = defaultdict(list)

    async def accept(self, lane: str, pauses: int = 0, delay: timedelta = timedelta(0)) -> str:
        due_at = datetime.now(UTC) + delay
        row = OpenDelivery(new_id(), ACCOUNT, "sandbox", lane, 1, due_at, tried=False, is_due=not delay)
        for _ in range(pauses):
            await asyncio.sleep(0)
        async with self.gate:
            self.ledger.rows[row.id] = row
            await self.handover.committed([Ticket(row.id, ACCOUNT, lane, delay=delay.total_seconds())])
        self.accepted[lane].append(row.id)
        return row.id

    async def work(self) -> int:
        """Claim and finish once; gives how many, of which some may be final already."""
        leases = await self.scheduler.claim(3)
        for lease in leases:
            row = self.ledger.rows.pop(lease.delivery_id, None)
            if row is not None:  # else it was final already
                assert row.lane is not None
                self.claimed[row.lane].append(row.id)
            await asyncio.sleep(0)
            await self.scheduler.finish([Done(lease)])
        return len(leases)

    async def is_live(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.handover.is_live:
                await asyncio.sleep(0)


@given(seed=st.integers(0, 2**32), away=st.sampled_from([0.05, 0.3, 0.7]), starts_empty=st.booleans())
@settings(max_examples=150, deadline=None)
async def test_nothing_is_missed_and_no_lane_is_overtaken(seed: int, away: float, starts_empty: bool) -> None:
    chance = random.Random(seed)
    process = Process(scheduler := MoodyScheduler(chance, away))

    async def client(lane: str) -> None:
        """Sends the next message of a lane once the one before it was answered."""
        for _ in range(20):
            await process.accept(lane, pauses=chance.randrange(6))

    if starts_empty:
        scheduler.away = 1.0
        for n in range(12):
            await process.accept(f"lane-{n % 4}")
        scheduler.away = away
        await process.handover.stop()
        process.handover.load()
    clients = [asyncio.create_task(client(f"lane-{n}")) for n in range(4)]
    while not all(task.done() for task in clients):
        await asyncio.sleep(0)
        if chance.random() < 0.3:
            await process.work()
        if chance.random() < 0.02:
            process.ledger.failures += 2
    await asyncio.gather(*clients)
    scheduler.away = 0.0
    await process.is_live()
    while process.ledger.rows:
        assert await process.work(), "some were never handed over"
    assert process.claimed == process.accepted
    await process.handover.stop()


async def test_while_it_is_behind_nothing_is_handed_over_directly() -> None:
    process = Process(scheduler := MoodyScheduler(random.Random(1), 1.0))
    first = await process.accept("x")
    assert not process.handover.is_live
    scheduler.away = 0.0
    async with process.gate:  # so that it cannot catch up to the end
        row = OpenDelivery(new_id(), ACCOUNT, "sandbox", "x", 1, datetime.now(UTC), tried=False)
        await process.handover.committed([Ticket(row.id, ACCOUNT, "x")])  # of which the ledger knows nothing
    await process.is_live()
    assert [lease.delivery_id for lease in await scheduler.claim(10)] == [first]
    await process.handover.stop()


async def test_an_answer_does_not_wait_for_a_scheduler_that_hangs() -> None:
    process = Process(scheduler := MoodyScheduler(random.Random(1), 1.0))
    await process.accept("x")
    scheduler.away = 0.0
    hangs = asyncio.Event()
    enqueue = scheduler.enqueue

    async def hanging(tickets: Sequence[Ticket]) -> int:
        await hangs.wait()
        return await enqueue(tickets)

    scheduler.enqueue = hanging  # type: ignore[method-assign] - a server that does not answer
    for _ in range(10):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await process.accept("x")
    hangs.set()
    await process.is_live()
    await process.work()
    await process.work()
    assert process.claimed == process.accepted
    await process.handover.stop()


async def test_a_commit_that_is_older_by_id_than_what_was_read_is_not_missed() -> None:
    process = Process(scheduler := MoodyScheduler(random.Random(1), 1.0))
    early = OpenDelivery(new_id(), ACCOUNT, "sandbox", "slow", 1, datetime.now(UTC), tried=False)
    for _ in range(PAGE * 2):
        await process.accept("x")
    scheduler.away = 0.0
    async with asyncio.timeout(PATIENCE):
        while (await scheduler.counts()).waiting < PAGE * 2:
            await asyncio.sleep(0)
    async with process.gate:
        process.ledger.rows[early.id] = early
        await process.handover.committed([Ticket(early.id, ACCOUNT, "slow")])
    await process.is_live()
    assert early.id in {lease.delivery_id for lease in await scheduler.claim(10)}
    await process.handover.stop()


async def test_a_page_that_shows_a_message_without_the_one_before_it_is_read_again() -> None:
    """Ids are given before the gate opens, so the first of a lane may be older than all that is missing."""
    process = Process(scheduler := MoodyScheduler(random.Random(1), 1.0))
    first = OpenDelivery(new_id(), ACCOUNT, "sandbox", "x", 1, datetime.now(UTC), tried=False)
    await process.accept("other")
    scheduler.away = 0.0
    read = process.ledger.after
    second: list[str] = []

    async def slow(last_id: str, until: datetime) -> list[OpenDelivery]:
        process.ledger.after = read  # type: ignore[method-assign]
        async with process.gate:
            process.ledger.rows[first.id] = first
            await process.handover.committed([Ticket(first.id, ACCOUNT, "x")])
        second.append(await process.accept("x"))
        return await read(last_id, until)

    process.ledger.after = slow  # type: ignore[method-assign] - both are committed just before the rows are read
    await process.is_live()
    while process.ledger.rows:
        assert await process.work()
    assert process.claimed["x"] == [first.id, *second]
    await process.handover.stop()


async def test_what_is_committed_while_a_page_is_read_is_due_at_once() -> None:
    process = Process(scheduler := MoodyScheduler(random.Random(1), 1.0))
    await process.accept("x")
    scheduler.away = 0.0
    read = process.ledger.after

    async def slow(last_id: str, until: datetime) -> list[OpenDelivery]:
        process.ledger.after = read  # type: ignore[method-assign]
        async with asyncio.timeout(PATIENCE):
            while datetime.now(UTC) < until - HORIZON + timedelta(milliseconds=2):
                await asyncio.sleep(0)
        await process.accept("y")
        return await read(last_id, until)

    process.ledger.after = slow  # type: ignore[method-assign] - a read during which a message is accepted
    await process.is_live()
    counts = await scheduler.counts()
    assert (counts.waiting, counts.delayed) == (2, 0)
    await process.handover.stop()


async def test_what_is_scheduled_for_long_after_is_left_to_the_feeder() -> None:
    process = Process(scheduler := MoodyScheduler(random.Random(1), 1.0))
    await process.accept("x", delay=HORIZON + timedelta(minutes=1))
    assert process.handover.is_live, "there was nothing to hand over"
    await process.accept("x", delay=HORIZON - timedelta(minutes=1))
    assert not process.handover.is_live
    scheduler.away = 0.0
    await process.is_live()
    assert (await scheduler.counts()).delayed == 1
    await process.handover.stop()


async def test_the_ledger_is_read_from_the_first_that_was_not_handed_over(database: Database) -> None:
    await add_project(database)
    scheduler = MoodyScheduler(random.Random(1), 0.0)
    gate = asyncio.Lock()
    over = Handover(feed=Feed(database), scheduler=scheduler, limits={}, clock=SystemClock(), gate=gate)
    log = AcceptLog(database, over.committed)
    over._gate = log.gate
    now = datetime.now(UTC)
    lanes: list[str] = []
    for number in range(30):
        scheduler.away = 1.0 if 8 <= number < 22 else 0.0
        message = new_message("ann", "ben", now=now)
        await log.accept(message)
        lanes += [row["id"] for row in message.deliveries]
    async with asyncio.timeout(PATIENCE):
        while not over.is_live:
            await asyncio.sleep(0.01)
    given = await finish_all(scheduler)
    assert sorted(given) == sorted(lanes)
    assert [i for i in given if lanes.index(i) % 2 == 0] == lanes[::2]
    assert [i for i in given if lanes.index(i) % 2 == 1] == lanes[1::2]
    assert scheduler.refused
    await over.stop()


async def finish_all(scheduler: Scheduler) -> list[str]:
    """Claim and finish all there is; their ids, in this order."""
    given: list[str] = []
    while leases := await scheduler.claim(10):
        given += [lease.delivery_id for lease in leases]
        await scheduler.finish([Done(lease) for lease in leases])
    return given


async def test_what_was_committed_without_a_word_of_it_is_handed_over_before_what_comes_after(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender asks again with the same key, hears that it was, and sends the next one."""
    await add_project(database)
    scheduler = MemoryScheduler(SystemClock())
    over = Handover(feed=Feed(database), scheduler=scheduler, limits={}, clock=SystemClock(), gate=asyncio.Lock())
    log = AcceptLog(database, over.committed, over.doubted)
    over._gate = log.gate
    transact = Database.transact

    async def silent(self: Database, work: Callable[[Connection], object]) -> object:
        await transact(self, work)
        raise OSError("the connection broke")

    now = datetime.now(UTC)
    first, again, second = (new_message("ann", key=key, now=now) for key in ("k", "k", "other"))
    with monkeypatch.context() as patch:
        patch.setattr(Database, "transact", silent)
        with pytest.raises(OSError, match="broke"):
            await log.accept(first)
    assert (await log.accept(again)).message_id == first.message["id"]
    await log.accept(second)
    async with asyncio.timeout(PATIENCE):
        while not over.is_live:
            await asyncio.sleep(0.01)
    given = await finish_all(scheduler)
    assert given == [first.deliveries[0]["id"], second.deliveries[0]["id"]]
    await over.stop()

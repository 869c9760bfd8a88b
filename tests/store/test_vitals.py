"""The ledger's numbers for metrics and health: right, and no more work for a large ledger than for a small one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import delete, func, insert, select, text, update

from msgcore.core.deliveries import DeliveryState
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.counts import count_by_state, count_queue
from msgcore.store.ledger.recording import WorkResult
from msgcore.store.ledger.vitals import platforms_of, read_vitals
from msgcore.store.ledger.work import WorkLog
from msgcore.store.tables import deliveries, delivery_counts, project_platforms, projects
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project, new_message
from store.query_cost import work_of

SECOND = timedelta(seconds=1)
MANY = 200_000


async def ignore(_tickets: object) -> None:
    """Nobody sends here."""


@pytest.fixture
async def accept_log(database: Database) -> AcceptLog:
    await add_project(database)
    return AcceptLog(database, ignore)


async def test_an_empty_ledger(database: Database) -> None:
    vitals = await read_vitals(database, NOW)
    assert (vitals.deliveries, vitals.accounts) == ({}, {})
    assert (vitals.oldest_accepted_at, vitals.oldest_due_at) == (None, None)


async def test_what_waits_and_since_when(database: Database, accept_log: AcceptLog) -> None:
    await accept_log.accept(new_message("later", due_in=timedelta(days=1), now=NOW - 99 * SECOND))
    await accept_log.accept(new_message("a", now=NOW - 9 * SECOND))
    await accept_log.accept(new_message("b", now=NOW - 3 * SECOND))
    vitals = await read_vitals(database, NOW)
    assert vitals.deliveries == {("sandbox", "queued"): 2, ("sandbox", "scheduled"): 1}
    assert vitals.accounts == {("sandbox", "active"): 1}
    assert vitals.oldest_accepted_at == vitals.oldest_due_at == NOW - 9 * SECOND


async def test_one_that_is_tried_again_later_is_old_and_not_late(database: Database, accept_log: AcceptLog) -> None:
    new = new_message("a", now=NOW - 9 * SECOND)
    await accept_log.accept(new)
    work = WorkLog(database)
    (item,) = await work.begin([new.deliveries[0]["id"]], NOW)
    assert (await read_vitals(database, NOW)).oldest_accepted_at is None, "what is being sent does not wait"
    await work.record([WorkResult(item, DeliveryState.RETRYING, "retry", NOW, due_at=NOW + 60 * SECOND)])
    vitals = await read_vitals(database, NOW)
    assert (vitals.oldest_accepted_at, vitals.oldest_due_at) == (NOW - 9 * SECOND, None)
    assert (await read_vitals(database, NOW + 61 * SECOND)).oldest_due_at == NOW + 60 * SECOND


async def test_a_scheduled_one_is_late_once_its_time_has_come(database: Database, accept_log: AcceptLog) -> None:
    await accept_log.accept(new_message("a", due_in=60 * SECOND))
    assert (await read_vitals(database, NOW + 59 * SECOND)).oldest_due_at is None
    assert (await read_vitals(database, NOW + 90 * SECOND)).oldest_due_at == NOW + 60 * SECOND


@pytest.mark.parametrize("how", ["off", "paused", "project paused"])
async def test_held_accounts_are_counted_and_do_not_wait(database: Database, accept_log: AcceptLog, how: str) -> None:
    await accept_log.accept(new_message("a", now=NOW - 9 * SECOND))
    await accept_log.accept(new_message("b", due_in=SECOND, now=NOW - 9 * SECOND))
    hold = {
        "off": update(project_platforms).values(is_active=False),
        "paused": update(project_platforms).values(paused_at=NOW),
        "project paused": update(projects).values(paused_at=NOW),
    }[how]
    async with database.write() as connection:
        await connection.execute(hold)
    vitals = await read_vitals(database, NOW)
    assert vitals.accounts == {("sandbox", how.rpartition(" ")[2]): 1}
    assert vitals.deliveries == {("sandbox", "queued"): 1, ("sandbox", "scheduled"): 1}
    assert (vitals.oldest_accepted_at, vitals.oldest_due_at) == (None, None)


async def test_platforms_of_accounts(database: Database, accept_log: AcceptLog) -> None:
    nobody = "01920000-0000-7000-8000-0000000000cc"
    assert await platforms_of(database, [ACCOUNT, nobody]) == {ACCOUNT: "sandbox"}


async def multiply(database: Database, number: int, state: str = "queued") -> None:
    """Copy the ledger's only delivery so many times, with ids in its past, and count the copies."""
    if database.kind == "sqlite":
        copies = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :number)"
        new_id = "printf('01000000-0000-7000-8000-%012x', i)"
    else:
        copies = "WITH n AS (SELECT i FROM generate_series(1, :number) AS i)"
        new_id = "('01000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid"
    columns = [column.name for column in deliveries.columns]
    kept = ", ".join(name for name in columns if name not in {"id", "state"})
    copy = f"INSERT INTO deliveries (id, state, {kept}) {copies} SELECT {new_id}, :state, {kept} FROM deliveries, n"
    counted = {"project_id": PROJECT, "platform_id": ACCOUNT, "platform": "sandbox", "state": state, "slot": 99}
    async with database.write() as connection:
        await connection.execute(text(copy), {"number": number, "state": state})
        await connection.execute(insert(delivery_counts), counted | {"count": number})
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("ANALYZE")


async def vitals(database: Database) -> object:
    return await read_vitals(database, NOW)


async def queue(database: Database) -> object:
    return await count_queue(database, PROJECT), await count_by_state(database, project_id=PROJECT)


async def scan(database: Database) -> object:
    """What costs more the larger the ledger is."""
    async with database.read() as connection:
        return await connection.scalar(select(func.max(deliveries.c.target_id)))


async def test_asking_costs_the_same_at_any_size(database: Database, accept_log: AcceptLog) -> None:
    await accept_log.accept(new_message("a"))
    await multiply(database, 2000)
    small = [await work_of(database, ask) for ask in (vitals, queue, scan)]
    async with database.write() as connection:
        await connection.execute(text("DELETE FROM deliveries WHERE id < '01900000-0000-7000-8000-000000000000'"))
        await connection.execute(delete(delivery_counts).where(delivery_counts.c.slot == 99))
    await multiply(database, MANY)
    large = [await work_of(database, ask) for ask in (vitals, queue, scan)]
    assert large[0] <= 1.5 * small[0]
    assert large[1] <= 1.5 * small[1]
    assert large[2] > 10 * small[2], "the measure sees nothing"


async def test_what_is_scheduled_for_later_is_passed_over(database: Database, accept_log: AcceptLog) -> None:
    await accept_log.accept(new_message("a", now=NOW - 9 * SECOND))
    await multiply(database, 5000, "scheduled")
    async with database.write() as connection:
        later = {"due_at": NOW + timedelta(days=999)}
        await connection.execute(update(deliveries).where(deliveries.c.state == "scheduled").values(later))
    assert (await read_vitals(database, NOW)).oldest_due_at == NOW - 9 * SECOND

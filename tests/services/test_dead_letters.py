"""Many dead letters at once: in batches, with progress, and without a scheduler to tell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select

from msgcore.core.clock import SystemClock
from msgcore.core.deliveries import DeliveryState, Ticket
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.scheduler import Scheduler
from msgcore.platforms.registry import PlatformRegistry
from msgcore.services.dead_letters import DeadLetterService
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.ledger.dead import BATCH, DeadLetterFilter
from msgcore.store.ledger.recording import WorkResult
from msgcore.store.ledger.work import WorkLog
from msgcore.store.tables import audit_logs
from store.ledger_rows import CALLER, NOW, PROJECT, add_project, new_message

NUMBER = 2 * BATCH + 50
ALL = DeadLetterFilter(PROJECT)


class UnreachableScheduler(MemoryScheduler):
    """One whose server is away."""

    async def enqueue(self, tickets: Sequence[Ticket]) -> None:
        raise ConnectionError


async def bury(database: Database, number: int) -> None:
    await add_project(database)

    async def committed(_tickets: Sequence[Ticket]) -> None:
        pass

    new = new_message(*(f"t{index}" for index in range(number)))
    await AcceptLog(database, committed).accept(new)
    work = WorkLog(database)
    items = await work.begin([row["id"] for row in new.deliveries], NOW)
    # Long ago, so that it failed before now whatever the test's clock says.
    failed_at = NOW - timedelta(days=3650)
    await work.record(
        [WorkResult(item, DeliveryState.FAILED, "failed", failed_at, error_code="refused") for item in items]
    )


def service(database: Database, scheduler: Scheduler | None = None) -> DeadLetterService:
    return DeadLetterService(database=database, scheduler=scheduler, registry=PlatformRegistry(), clock=SystemClock())


async def kept(database: Database) -> dict[DeliveryState, int]:
    counts = await count_by_state(database, project_id=PROJECT)
    return {state: number for state, number in counts.items() if number}


async def test_all_are_requeued_in_batches_and_handed_over(database: Database) -> None:
    await bury(database, NUMBER)
    scheduler = MemoryScheduler(SystemClock(), lease_seconds=30)
    told: list[int] = []
    assert await service(database, scheduler).requeue(None, ALL, progress=told.append) == NUMBER
    assert told == [BATCH, 2 * BATCH, NUMBER]
    assert await kept(database) == {DeliveryState.QUEUED: NUMBER}
    assert (await scheduler.counts()).waiting == NUMBER


@pytest.mark.parametrize("scheduler", [None, UnreachableScheduler(SystemClock(), lease_seconds=30)])
async def test_the_ledger_is_enough_where_no_scheduler_can_be_told(
    database: Database, scheduler: Scheduler | None
) -> None:
    await bury(database, 3)
    assert await service(database, scheduler).requeue(None, ALL) == 3
    assert await kept(database) == {DeliveryState.QUEUED: 3}


async def test_a_limit_holds_and_the_rest_is_counted(database: Database) -> None:
    await bury(database, NUMBER)
    dead_letters = service(database)
    assert await dead_letters.requeue(None, ALL, limit=BATCH + 7) == BATCH + 7
    assert await dead_letters.count(ALL) == BATCH - 7 + 50
    assert await dead_letters.purge(None, ALL, limit=1) == 1
    assert await kept(database) == {DeliveryState.QUEUED: BATCH + 7, DeliveryState.FAILED: BATCH + 42}


async def test_a_purge_is_in_the_audit_log(database: Database) -> None:
    await bury(database, NUMBER)
    dead_letters = service(database)
    told: list[int] = []
    asked = DeadLetterFilter(PROJECT, error_code="refused")
    assert await dead_letters.purge(Principal("jwt", CALLER), asked, progress=told.append) == NUMBER
    assert told == [BATCH, 2 * BATCH, NUMBER]
    assert await dead_letters.purge(Principal("jwt", CALLER), asked) == 0
    assert await kept(database) == {}
    async with database.read() as connection:
        rows = (await connection.execute(select(audit_logs).order_by(audit_logs.c.id))).all()
    assert {(row.action, row.project_id, row.actor_id) for row in rows} == {("dead_letters.purged", PROJECT, CALLER)}
    assert [row.before["count"] for row in rows] == [BATCH, BATCH, NUMBER - 2 * BATCH]
    assert rows[0].before["errorCode"] == "refused"


async def test_what_an_interrupted_purge_did_is_known(database: Database) -> None:
    await bury(database, NUMBER)

    def interrupt(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await service(database).purge(None, ALL, progress=interrupt)
    assert await kept(database) == {DeliveryState.FAILED: NUMBER - BATCH}
    async with database.read() as connection:
        (row,) = (await connection.execute(select(audit_logs))).all()
    assert (row.actor_kind, row.before["count"]) == ("operator", BATCH)


async def test_letters_of_other_projects_stay(database: Database) -> None:
    await bury(database, 2)
    await add_project(database, "other", new_id())
    dead_letters = service(database)
    other = DeadLetterFilter("other")
    assert (await dead_letters.requeue(None, other), await dead_letters.purge(None, other)) == (0, 0)
    assert await kept(database) == {DeliveryState.FAILED: 2}

"""Recording what became of attempts while others change the same deliveries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from msgcore.core.deliveries import DeliveryState
from msgcore.store.database import Database
from msgcore.store.ledger import reads
from msgcore.store.ledger.beginning import WorkItem, begin
from msgcore.store.ledger.recording import WorkResult, record
from msgcore.store.tables import deliveries, platform_logs
from store.ledger_rows import NOW
from store.side_by_side import accept, states


def sent(item: WorkItem) -> WorkResult:
    return WorkResult(item, DeliveryState.SENT, "sent", NOW, provider_message_id=f"pm-{item.id}", sent_at=NOW)


def failed(item: WorkItem) -> WorkResult:
    return WorkResult(item, DeliveryState.FAILED, "failed", NOW, error_code="refused", error_message="no")


async def test_what_is_not_the_running_attempt_holds_nothing_back(database: Database) -> None:
    ids = await accept(database, "ann", "bob", "cy")
    old = await begin(database, ids, NOW)
    newer = {item.id: item for item in await begin(database, ids[:1], NOW)}
    await record(database, [sent(item) for item in old])
    assert await states(database) == {"sending": 1, "sent": 2}
    await record(database, [sent(newer[ids[0]])])
    assert await states(database) == {"sent": 3}
    assert [row.outcome for row in await reads.attempts_of(database, ids[0])] == ["uncertain", "sent", "sent"]


async def test_a_batch_with_a_final_failure_is_recorded_as_a_whole(database: Database) -> None:
    items = await begin(database, await accept(database, "ann", "bob", "cy"), NOW)
    later = WorkResult(items[1], DeliveryState.RETRYING, "throttled", NOW, counts=False, due_at=NOW, reached="no")
    await record(database, [sent(items[0]), later, failed(items[2])])
    assert await states(database) == {"sent": 1, "retrying": 1, "failed": 1}
    async with database.read() as connection:
        rows = {row.id: row for row in await connection.execute(select(deliveries))}
        (entry,) = (await connection.execute(select(platform_logs))).all()
    assert [(rows[item.id].attempts, rows[item.id].throttles) for item in items] == [(1, 0), (0, 1), (1, 0)]
    assert rows[items[0].id].provider_message_id == f"pm-{items[0].id}"
    assert entry.metadata == {"deliveryId": items[2].id, "jobId": items[2].message_id, "attempts": 1}


async def test_two_that_record_the_same_at_once_end_it_once(database: Database) -> None:
    ids = await accept(database, *(f"u{number}" for number in range(40)))
    items = await begin(database, ids, NOW)
    halves = items[:20], items[10:]
    await asyncio.gather(*(record(database, [sent(item) for item in half]) for half in halves))
    assert await states(database) == {"sent": 40}
    entries: list[Any] = [await reads.attempts_of(database, id_) for id_ in ids]
    assert sum(map(len, entries)) == 50, "what was recorded twice is in the timeline twice"


@pytest.mark.parametrize("state", ["sent", "retrying"])
async def test_everything_that_is_known_of_an_attempt_is_kept(database: Database, state: str) -> None:
    (item,) = await begin(database, await accept(database, "ann"), NOW)
    outcome = {"sent": "sent", "retrying": "retry"}[state]
    known = {"error_code": "down", "error_message": "try later \u00e9\U0001f600", "reached": "maybe"}
    await record(database, [WorkResult(item, DeliveryState(state), outcome, NOW, due_at=NOW, **known)])  # type: ignore[arg-type]
    async with database.read() as connection:
        (row,) = (await connection.execute(select(deliveries))).all()
    assert (row.error_code, row.error_message, row.uncertain) == ("down", "try later \u00e9\U0001f600", True)
    assert row.finished_at == (NOW if state == "sent" else None)
    (entry,) = await reads.attempts_of(database, item.id)
    assert (entry.outcome, entry.reached, entry.started_at, entry.finished_at) == (outcome, "maybe", NOW, NOW)

"""Recording what became of attempts while others change the same deliveries."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, select

from msgcore.core.deliveries import DeliveryState
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append
from msgcore.store.ledger import reads
from msgcore.store.ledger.beginning import WorkItem, begin
from msgcore.store.ledger.recording import WorkResult, record
from msgcore.store.tables import deliveries, events, platform_logs, projects
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project
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


async def told(database: Database, project_id: str = PROJECT) -> list[Any]:
    """The events of a project; their places have no gap."""
    async with database.read() as connection:
        query = select(events).where(events.c.project_id == project_id).order_by(events.c.sequence)
        rows = list(await connection.execute(query))
    assert [row.sequence for row in rows] == [*range(1, len(rows) + 1)]
    return rows


async def test_an_end_is_an_event_and_nothing_else_is(database: Database) -> None:
    items = await begin(database, await accept(database, "ann", "bob", "cy", "dora", "eve"), NOW)
    text = "x" * 20_000
    await record(database, [msgspec.structs.replace(sent(items[0]), text=text), _retrying(items[1])])
    await record(database, [failed(items[2])])
    await record(database, [msgspec.structs.replace(sent(each), text="hi") for each in items[3:]])
    rows = await told(database)
    assert [(row.type, row.data["chat_id"]) for row in rows] == [
        ("message.sent", "ann"),
        ("message.failed", "cy"),
        ("message.sent", "dora"),
        ("message.sent", "eve"),
    ]
    assert {row.platform_id for row in rows} == {ACCOUNT}
    assert {row.created_at for row in rows} == {NOW}
    first, second, third, _ = (row.data for row in rows)
    assert len(first.pop("text")) == 10_000
    assert third["text"] == "hi"
    about = {"platform": "sandbox", "platform_id": ACCOUNT, "attempts": 1, "job_id": items[0].message_id}
    assert first == about | {
        "message_id": items[0].id,
        "chat_id": "ann",
        "target": {"type": "user", "chat_id": "ann", "user_id": "ann"},
        "provider_message_id": f"pm-{items[0].id}",
        "sent_at": "2030-01-01T00:00:00.000Z",
    }
    assert second == about | {
        "message_id": items[2].id,
        "chat_id": "cy",
        "target": {"type": "user", "chat_id": "cy", "user_id": "cy"},
        "error": "no",
        "error_code": "refused",
        "state": "failed",
        "failed_at": "2030-01-01T00:00:00.000Z",
    }


def _retrying(item: WorkItem) -> WorkResult:
    return WorkResult(item, DeliveryState.RETRYING, "retry", NOW, due_at=NOW)


@pytest.mark.parametrize("end", [sent, failed])
async def test_no_event_tells_of_posting_an_event(database: Database, end: Any) -> None:
    items = await begin(database, await accept(database, "ann", "bob"), NOW)
    posting = msgspec.structs.replace(items[0], platform=EVENT_WEBHOOK, platform_id=items[0].id)
    await record(database, [end(posting), end(items[1])])
    assert [row.data["chat_id"] for row in await told(database)] == ["bob"]


@pytest.mark.parametrize("end", [sent, failed])
async def test_what_was_of_a_deleted_project_is_recorded_without_an_event(database: Database, end: Any) -> None:
    await add_project(database, "other", "01920000-0000-7000-8000-0000000000cc")
    items = await begin(database, await accept(database, "ann", "bob"), NOW)
    async with database.write() as connection:
        await connection.execute(delete(projects).where(projects.c.id == PROJECT))
    await record(database, [end(items[0]), end(msgspec.structs.replace(items[1], project_id="other"))])
    async with database.read() as connection:
        found = (await connection.execute(select(deliveries.c.state))).scalars().all()
    assert set(found) == {end(items[0]).state}
    assert [row.data["chat_id"] for row in await told(database, "other")] == ["bob"]


async def test_recording_and_others_append_at_once_without_a_gap(database: Database) -> None:
    """Two projects in each batch, each in another order, and somebody who appends to both."""
    await add_project(database, "other", "01920000-0000-7000-8000-0000000000cc")
    ids = await accept(database, *(f"u{number}" for number in range(120)))
    items = [
        msgspec.structs.replace(item, project_id=("other", PROJECT)[number % 2])
        for number, item in enumerate(await begin(database, ids, NOW))
    ]

    async def receive(number: int) -> None:
        new = [NewEvent(name, "typing.started", {}, NOW) for name in (PROJECT, "other")[:: 1 if number % 2 else -1]]
        await database.transact(lambda connection: append(connection, new))

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(
            *(record(database, [sent(item) for item in items[start : start + 6]]) for start in range(0, 120, 6)),
            *map(receive, range(20)),
        )
    for name in (PROJECT, "other"):
        kinds = [row.type for row in await told(database, name)]
        assert (kinds.count("message.sent"), kinds.count("typing.started")) == (60, 20)

"""Batches in the ledger on both databases: accepted as a whole, counted, listed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from msgcore.core.deliveries import DeliveryState
from msgcore.core.errors import IdempotencyMismatchError, UnavailableError
from msgcore.core.ids import new_id
from msgcore.store.database import Database
from msgcore.store.ledger import accept, batches
from msgcore.store.ledger.accept import AcceptLog, IdempotencyClaim, NewBatch
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.tables import messages
from store.ledger_rows import CALLER, NOW, PROJECT, add_project, new_message


def new_batch(*targets: str, key: str | None = None, body_hash: str = "h") -> NewBatch:
    """One message to each target."""
    batch_id = new_id()
    parts = [new_message(target) for target in targets]
    for part in parts:
        for row in (part.message, *part.deliveries):
            row["batch_id"] = batch_id
    row: dict[str, Any] = {
        "id": batch_id,
        "project_id": PROJECT,
        "messages": len(parts),
        "deliveries": len(parts),
        "created_by": CALLER,
        "created_at": NOW,
    }
    return NewBatch(row, parts, None if key is None else IdempotencyClaim(CALLER, key, body_hash))


@pytest.fixture
async def accept_log(database: Database) -> AcceptLog:
    await add_project(database)

    async def committed(_tickets: object) -> None:
        pass

    return AcceptLog(database, committed)


async def stored(database: Database) -> int:
    async with database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(messages))).scalar_one()


async def test_a_batch_is_stored_in_its_order_and_counted(database: Database, accept_log: AcceptLog) -> None:
    new = new_batch(*(str(number) for number in range(2500)))
    accepted = await accept_log.accept(new)
    assert accepted.message_id == new.row["id"]
    row = await batches.find_batch(database, PROJECT, new.row["id"])
    assert row is not None
    assert (row.messages, row.deliveries) == (2500, 2500)
    assert await batches.find_batch(database, "other", new.row["id"]) is None
    ids = [part.message["id"] for part in new.messages]
    assert await batches.message_ids_of(database, new.row["id"]) == ids
    assert await batches.count_batch(database, new.row["id"]) == {DeliveryState.QUEUED: 2500}
    assert (await count_by_state(database, project_id=PROJECT))[DeliveryState.QUEUED] == 2500


async def test_pages_of_a_batch(database: Database, accept_log: AcceptLog) -> None:
    new = new_batch(*"abcde")
    await accept_log.accept(new_batch("x"))
    await accept_log.accept(new)
    first, counts = await batches.list_batch(database, new.row["id"], limit=3, after=None)
    rest, _ = await batches.list_batch(database, new.row["id"], limit=3, after=first[-1].id)
    assert [row.id for row in (*first, *rest)] == [part.message["id"] for part in new.messages]
    assert counts[first[0].id] == [(DeliveryState.QUEUED, 1)]


async def test_a_batch_is_stored_as_a_whole_or_not_at_all(database: Database, accept_log: AcceptLog) -> None:
    broken = new_batch(*"abc")
    broken.messages[2].deliveries[0]["target_id"] = None
    with pytest.raises(Exception, match=r"(?i)null"):
        await accept_log.accept(broken)
    assert await stored(database) == 0
    assert await batches.find_batch(database, PROJECT, broken.row["id"]) is None


async def test_a_key_is_for_one_batch_however_many_come_at_once(database: Database, accept_log: AcceptLog) -> None:
    answers = await asyncio.gather(*(accept_log.accept(new_batch("a", "b", key="k")) for _ in range(10)))
    assert len({answer.message_id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 9
    assert await stored(database) == 2
    with pytest.raises(IdempotencyMismatchError):
        await accept_log.accept(new_batch("a", key="k", body_hash="other"))
    with pytest.raises(IdempotencyMismatchError):
        await accept_log.accept(new_message("a", key="k", body_hash="of one message"))


async def test_processes_share_keys(database_url: str, database: Database, accept_log: AcceptLog) -> None:
    """Two processes with connections of their own, and the same key at the same time."""
    other = Database.open(database_url)
    try:

        async def committed(_tickets: object) -> None:
            pass

        logs = (accept_log, AcceptLog(other, committed))
        answers = await asyncio.gather(
            *(log.accept(new_message("a", key=f"k{number}")) for number in range(20) for log in logs)
        )
        assert len({answer.message_id for answer in answers}) == 20
        assert await stored(database) == 20
    finally:
        await other.close()


async def test_an_earlier_answer_is_found_by_key_and_body(accept_log: AcceptLog) -> None:
    first = await accept_log.accept(new_message("a", key="k", body_hash="h"))
    found = await accept_log.find(PROJECT, IdempotencyClaim(CALLER, "k", "h"), NOW)
    assert found is not None
    assert (found.message_id, found.created_at, found.replayed) == (first.message_id, first.created_at, True)
    for project, claim, now in (
        ("other", IdempotencyClaim(CALLER, "k", "h"), NOW),
        (PROJECT, IdempotencyClaim(new_id(), "k", "h"), NOW),
        (PROJECT, IdempotencyClaim(CALLER, "k", "x"), NOW),
        (PROJECT, IdempotencyClaim(CALLER, "k", "h"), NOW + accept.IDEMPOTENCY_WINDOW * 2),
    ):
        assert await accept_log.find(project, claim, now) is None


async def test_what_waits_to_be_committed_is_bounded(
    database: Database, accept_log: AcceptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "BACKLOG", 50)
    async with accept_log.gate:  # nothing is committed meanwhile
        first = asyncio.create_task(accept_log.accept(new_message("a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert accept_log._writer.waiting == 0, "the first one is being written"
        waiting = [asyncio.create_task(accept_log.accept(new_message("a"))) for _ in range(600)]
        await asyncio.sleep(0)
        assert accept_log._writer.waiting == 50
        with pytest.raises(UnavailableError) as refused:
            await accept_log.accept(new_batch("a", "b"))
        assert refused.value.retry_after
    answers = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [accept.Accepted] * 51 + [UnavailableError] * 550
    assert await stored(database) == 51
    large = new_batch(*(str(number) for number in range(60)))  # more than may wait: allowed when nothing does
    assert (await accept_log.accept(large)).message_id == large.row["id"]

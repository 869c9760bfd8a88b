"""Fallbacks in the ledger, on both databases: who takes over, when, and who is not needed."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from msgcore.core.deliveries import OPEN_STATES, DeliveryState
from msgcore.core.ids import new_id
from msgcore.store.database import Database
from msgcore.store.ledger import dead, ending, fallbacks, reads, receipts
from msgcore.store.ledger.accept import NewBatch, NewMessage
from msgcore.store.ledger.batches import list_batch
from msgcore.store.ledger.feed import NIL, Feed
from msgcore.store.ledger.receipts import DeliveryReceipt
from msgcore.store.ledger.rescheduling import reschedule
from msgcore.store.tables import deliveries
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project, new_chain, new_message
from store.test_ledger import Ledger, result

S = DeliveryState
TEN = timedelta(seconds=10)
LATE = {"after": 10, "now": NOW - TEN}
MAYBE = {"uncertain": True, "on_uncertain": "fail"}


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    await add_project(database)
    return Ledger(database)


async def accepted(ledger: Ledger, new: NewMessage) -> tuple[str, list[str]]:
    """The ids of the message and of its deliveries, in the order of the chain."""
    await ledger.accept_log.accept(new)
    return new.message["id"], [row["id"] for row in (*new.deliveries, *new.standbys)]


async def chain_of(database: Database, message_id: str) -> list[str]:
    """Each delivery's state, with its error's code where it has one."""
    rows = await reads.deliveries_of(database, message_id)
    return [row.state + (f" {row.error_code}" if row.error_code else "") for row in rows]


async def late(database: Database, now: datetime) -> list[str]:
    """The messages that the sweep looks at for the time."""
    page = await fallbacks.overdue(database, NOW - 9 * TEN, NIL, now)
    return await fallbacks.free_among(database, [row.message_id for row in page])


async def found(database: Database, message_id: str, now: datetime = NOW) -> bool:
    """Whether the sweep would come to it."""
    page = [row.message_id for row in await fallbacks.standing_by(database, NIL)]
    ready = await fallbacks.ready_among(database, page)
    return message_id in {*ready, *await late(database, now)}


async def advance(database: Database, message_id: str, now: datetime = NOW) -> fallbacks.Advanced:
    return await fallbacks.advance(database, [message_id], now)


NOT_NEEDED = "cancelled fallback_not_needed"
TIMEOUT = "cancelled fallback_timeout"
UNCERTAIN = "cancelled fallback_uncertain"
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    # The one before failed, however it did: the next takes over, and no other one.
    ("failed standby standby", {}, ["failed", "queued", "standby"]),
    ("expired standby", {}, ["expired", "queued"]),
    ("cancelled standby", {}, ["cancelled", "queued"]),
    ("failed failed cancelled standby", {}, ["failed", "failed", "cancelled", "queued"]),
    ("failed failed", {}, ["failed", "failed"]),
    # One was sent: the others are not needed.
    ("sent standby standby", {}, ["sent", NOT_NEEDED, NOT_NEEDED]),
    ("delivered standby", {}, ["delivered", NOT_NEEDED]),
    ("failed sent standby", {}, ["failed", "sent", NOT_NEEDED]),
    ("sent retrying standby", {}, ["sent", NOT_NEEDED, NOT_NEEDED]),
    ("sent sending standby", {}, ["sent", "sending", NOT_NEEDED]),
    # One is on its way.
    ("queued standby", {}, ["queued", "standby"]),
    ("scheduled standby", {}, ["scheduled", "standby"]),
    ("failed retrying standby", {}, ["failed", "retrying", "standby"]),
    # It is on its way for too long.
    ("queued standby", {"after": 11, "now": NOW - TEN}, ["queued", "standby"]),
    ("queued standby standby", LATE, [TIMEOUT, "queued", "standby"]),
    ("retrying standby", LATE, [TIMEOUT, "queued"]),
    ("sending standby", LATE, ["sending", "standby"]),
    ("retrying standby", LATE | MAYBE, ["retrying", "standby"]),
    ("retrying standby", LATE | {"uncertain": True}, [TIMEOUT, "queued"]),
    ("failed queued", LATE, ["failed", "queued"]),
    # It may have arrived.
    ("failed standby standby", MAYBE, ["failed", UNCERTAIN, UNCERTAIN]),
    ("failed standby", {"uncertain": True}, ["failed", "queued"]),
    # Too late for everybody.
    ("failed standby standby", {"expires_at": NOW}, ["failed", "expired expired", "expired expired"]),
    ("failed standby", {"expires_at": NOW + TEN}, ["failed", "queued"]),
    # Requeued: in its turn, and for nothing where another was sent since.
    ("standby failed", {}, ["queued", "failed"]),
    ("standby standby", {}, ["queued", "standby"]),
    ("standby sent", {}, [NOT_NEEDED, "sent"]),
    ("standby retrying", {}, ["standby", "retrying"]),
]


@pytest.mark.parametrize(("before", "columns", "after"), CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
async def test_what_follows_from_a_chain(
    ledger: Ledger, before: str, columns: dict[str, Any], after: list[str]
) -> None:
    states = before.split()
    new = new_chain(*map(str, range(len(states))), **columns)
    rows = [*new.deliveries, *new.standbys]
    for row, state in zip(rows, states, strict=True):
        row["state"] = state
    message_id, ids = await accepted(ledger, new)
    assert await found(ledger.database, message_id) == (states != after), "the sweep finds what is to be done"

    advanced = await advance(ledger.database, message_id)
    assert await chain_of(ledger.database, message_id) == after
    fresh = [id_ for id_, old, state in zip(ids, states, after, strict=True) if state == "queued" != old]
    assert [takeover.delivery.id for takeover in advanced.activated] == fresh
    waits_no_more = [i for i, old, state in zip(ids, states, after, strict=True) if old in OPEN_STATES and old != state]
    assert advanced.ended == waits_no_more
    for delivery_id in fresh:
        (entry,) = await reads.attempts_of(ledger.database, delivery_id)
        assert (entry.number, entry.outcome) == (0, "activated")
    await ledger.states()  # which compares the kept counts with the rows

    assert not await found(ledger.database, message_id), "and does not come to it again for nothing"
    again = await advance(ledger.database, message_id)
    assert (again, await chain_of(ledger.database, message_id)) == (fallbacks.Advanced([], []), after)


async def test_one_that_was_sent_in_part_is_waited_for(ledger: Ledger) -> None:
    message_id, (first, _) = await accepted(ledger, new_chain("a", "b", **LATE))
    (item,) = await ledger.start(first)
    await ledger.work.record([result(item, "retrying", "part", counts=False, part_ids=("p-1",))])
    assert not await found(ledger.database, message_id)
    await advance(ledger.database, message_id)
    assert await chain_of(ledger.database, message_id) == ["retrying", "standby"]
    (item,) = await ledger.start(first)
    await ledger.work.record([result(item, "failed", "failed", error_code="x")])
    await advance(ledger.database, message_id)
    assert await chain_of(ledger.database, message_id) == ["failed x", "queued"]


async def test_each_has_its_seconds_from_when_it_became_due(ledger: Ledger) -> None:
    message_id, (_, second, third) = await accepted(ledger, new_chain(*"abc", after=10))
    for seconds, expected in (
        (9, ["queued", "standby", "standby"]),
        (12, [TIMEOUT, "queued", "standby"]),
        (21, [TIMEOUT, "queued", "standby"]),
        (22, [TIMEOUT, TIMEOUT, "queued"]),
        (99, [TIMEOUT, TIMEOUT, "queued"]),
    ):
        now = NOW + timedelta(seconds=seconds)
        for message in await late(ledger.database, now):
            await advance(ledger.database, message, now)
        assert await chain_of(ledger.database, message_id) == expected, seconds
    rows = {row.id: row for row in await reads.deliveries_of(ledger.database, message_id)}
    assert [rows[id_].first_due_at - NOW for id_ in (second, third)] == [timedelta(seconds=12), timedelta(seconds=22)]


async def test_others_are_neither_handed_over_nor_begun_nor_touched(ledger: Ledger) -> None:
    new = new_chain("a", "b")
    message_id, (first, standby) = await accepted(ledger, new)
    plain = new_message("c", "d")
    await ledger.accept_log.accept(plain)
    assert [ticket.delivery_id for ticket in ledger.handed_over] == [first, *(row["id"] for row in plain.deliveries)]
    assert standby not in {delivery.id for delivery in await Feed(ledger.database).after(NIL, NOW)}
    assert await ledger.start(standby) == []
    assert await fallbacks.advance(ledger.database, [plain.message["id"]], NOW) == fallbacks.Advanced([], [])
    assert await ledger.states() == {S.QUEUED: 3, S.STANDBY: 1}
    assert await chain_of(ledger.database, message_id) == ["queued", "standby"]


async def test_cancelling_a_message_cancels_its_fallbacks(ledger: Ledger) -> None:
    message_id, ids = await accepted(ledger, new_chain(*"abc"))
    await ledger.start(ids[0])
    cancelled = await ending.cancel_message(ledger.database, message_id, NOW)
    assert cancelled == ending.Cancelled(ids=ids[1:], sending=1, sent=0)
    assert await chain_of(ledger.database, message_id) == ["sending"] + ["cancelled cancelled"] * 2


async def test_rescheduling_moves_the_moment_of_the_fallback(ledger: Ledger) -> None:
    message_id, ids = await accepted(ledger, new_chain(*"abc", after=10))
    found_others = await reschedule(ledger.database, message_id, NOW + 6 * TEN, NOW)
    assert ([delivery.id for delivery in found_others.moved], found_others.others) == (ids[:1], 0)
    assert await late(ledger.database, NOW + 6 * TEN) == []
    assert await late(ledger.database, NOW + 7 * TEN) == [message_id]
    await advance(ledger.database, message_id, NOW + 7 * TEN)
    assert await chain_of(ledger.database, message_id) == [TIMEOUT, "queued", "standby"]


async def test_a_requeued_chain_begins_anew_and_goes_to_one_target_at_a_time(ledger: Ledger) -> None:
    message_id, ids = await accepted(ledger, new_chain(*"abc", after=10))
    for delivery_id in ids:
        (item,) = await ledger.start(delivery_id)
        await ledger.work.record([result(item, "failed", "failed", error_code="x")])
        await advance(ledger.database, message_id)
    assert await chain_of(ledger.database, message_id) == ["failed x"] * 3
    requeued = await dead.requeue(ledger.database, dead.DeadLetterFilter(PROJECT), NOW)
    assert requeued == dead.Requeued(ids, [])
    assert await late(ledger.database, NOW) == [message_id], "it is not found page by page only"
    await advance(ledger.database, message_id)
    assert await chain_of(ledger.database, message_id) == ["queued", "standby", "standby"]
    assert await late(ledger.database, NOW) == []
    await advance(ledger.database, message_id, NOW + TEN)
    assert await chain_of(ledger.database, message_id) == [TIMEOUT, "queued", "standby"]


async def bounce(database: Database, *provider_ids: str) -> None:
    told = [
        DeliveryReceipt(new_id(), PROJECT, ACCOUNT, "x", provider_id, "failed", "no such user", NOW, NOW, {})
        for provider_id in provider_ids
    ]
    await database.transact(lambda connection: receipts.take(connection, ACCOUNT, told, NOW))


async def test_a_receipt_that_says_no_activates_the_next(ledger: Ledger) -> None:
    message_id, ids = await accepted(ledger, new_chain(*"abc"))
    plain = new_message("d")
    await ledger.accept_log.accept(plain)
    items = await ledger.start(ids[0], plain.deliveries[0]["id"])
    await ledger.work.record(
        [result(item, "sent", "sent", provider_message_id=f"p-{item.target_id}") for item in items]
    )
    await advance(ledger.database, message_id)
    assert await chain_of(ledger.database, message_id) == ["sent", NOT_NEEDED, NOT_NEEDED]
    await bounce(ledger.database, "p-a", "p-d", "of-nobody")
    assert await chain_of(ledger.database, message_id) == ["failed undelivered", "standby", "standby"]
    assert await late(ledger.database, NOW) == [message_id], "it is not found page by page only"
    await advance(ledger.database, message_id)
    for _ in "twice":
        assert await chain_of(ledger.database, message_id) == ["failed undelivered", "queued", "standby"]
        await bounce(ledger.database, "p-a")
    assert not await found(ledger.database, message_id)
    (item,) = await ledger.start(ids[1])
    await ledger.work.record([result(item, "sent", "sent", provider_message_id="p-b")])
    await advance(ledger.database, message_id)
    assert await chain_of(ledger.database, message_id) == ["failed undelivered", "sent", NOT_NEEDED]
    await bounce(ledger.database, "p-b")
    await advance(ledger.database, message_id)
    assert await chain_of(ledger.database, message_id) == ["failed undelivered"] * 2 + ["queued"]
    assert await ledger.states() == {S.FAILED: 3, S.QUEUED: 1}


async def test_a_batch_counts_them_and_leaves_out_those_that_were_not_needed(ledger: Ledger) -> None:
    batch_id = "0190a000-0000-7000-8000-0000000000b1"
    chain, plain = new_chain("a", "b", batch_id=batch_id), new_message("c", batch_id=batch_id)
    for new in (chain, plain):
        new.message["batch_id"] = batch_id
    about = {"id": batch_id, "project_id": PROJECT, "messages": 2, "deliveries": 3, "created_by": None}
    await ledger.accept_log.accept(NewBatch(about | {"created_at": NOW}, [chain, plain]))
    message_id = chain.message["id"]
    _, counts = await list_batch(ledger.database, batch_id, limit=9, after=None)
    assert sorted(counts[message_id]) == [(S.QUEUED, 1), (S.STANDBY, 1)]
    items = await ledger.start(chain.deliveries[0]["id"], plain.deliveries[0]["id"])
    await ledger.work.record([result(item, "sent", "sent") for item in items])
    await advance(ledger.database, message_id)
    _, counts = await list_batch(ledger.database, batch_id, limit=9, after=None)
    assert counts == {message_id: [(S.SENT, 1)], plain.message["id"]: [(S.SENT, 1)]}


async def test_beside_workers_each_message_is_sent_once_or_fails_everywhere(ledger: Ledger) -> None:
    """Several processes look at the same messages while others send: one target at a time, and nobody deadlocks."""
    rng = random.Random(7)
    database = ledger.database
    chains = [await accepted(ledger, new_chain(*"abcd", after=10)) for _ in range(15)]

    async def work(ids: list[str]) -> None:
        for item in await ledger.start(*ids):
            word = rng.choice(("sent", "failed", "failed", "retrying"))
            outcome = "retry" if word == "retrying" else word
            due_at = NOW if word == "retrying" else None
            await ledger.work.record([result(item, word, outcome, due_at=due_at)])

    async def look(turn: int) -> None:
        some = [message_id for message_id, _ in chains]
        await fallbacks.advance(database, rng.sample(some, len(some)), NOW + timedelta(seconds=3 * turn))

    async with asyncio.timeout(PATIENCE):
        for turn in range(40):
            ids = [id_ for _, ids in chains for id_ in ids]
            parts = [rng.sample(ids, 20) for _ in range(3)]
            await asyncio.gather(*(work(part) for part in parts), *(look(turn) for _ in range(3)))
            async with database.read() as connection:
                open_ones = select(deliveries.c.message_id).where(deliveries.c.state.in_(sorted(OPEN_STATES)))
                under_way = (await connection.execute(open_ones)).scalars().all()
            assert len(under_way) == len(set(under_way)), "two targets of one message at a time"
    for message_id, _ in chains:
        states = [state.split()[0] for state in await chain_of(database, message_id)]
        assert states.count("sent") <= 1
        if "sent" in states:
            assert set(states) <= {"sent", "failed", "cancelled"}
    await ledger.states()


async def test_they_are_found_by_index(ledger: Ledger) -> None:
    async with ledger.database.read() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            await connection.exec_driver_sql("SET enable_seqscan = off")
            await connection.exec_driver_sql("SET enable_bitmapscan = off")
        explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
        for index, of_partition, condition in (
            ("ix_deliveries_standby", "_id_idx", f"id > '{NIL}' ORDER BY id"),
            (
                "ix_deliveries_fallback",
                "_fallback_at_id_idx",
                "fallback_at IS NOT NULL AND fallback_at <= '2030-01-01 00:00:00.000000' ORDER BY fallback_at, id",
            ),
        ):
            statement = f"{explain} SELECT id FROM deliveries WHERE state = 'standby' AND {condition} LIMIT 10"
            plan = str((await connection.execute(text(statement))).all())
            assert index in plan or of_partition in plan, plan


async def test_those_that_are_late_come_page_by_page_the_longest_first(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallbacks, "CHAINS", 2)
    expected = []
    for after in (30, 10, 10, 20, 500):
        message_id, _ = await accepted(ledger, new_chain("a", "b", after=after))
        expected += [(after, message_id)] * (after < 500)
    seen, since, last_id = [], NOW, NIL
    while page := await fallbacks.overdue(ledger.database, since, last_id, NOW + 6 * TEN):
        assert len(page) == 2
        seen += [row.message_id for row in page]
        since, last_id = page[-1].fallback_at, page[-1].id
    assert seen == [message_id for _, message_id in sorted(expected)]

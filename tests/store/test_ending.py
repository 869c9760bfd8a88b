"""Ending what waits, on both databases: cancelled by its sender, or expired."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from msgcore.core.deliveries import DeliveryState
from msgcore.store.database import Database
from msgcore.store.ledger import ending, reads
from msgcore.store.ledger.accept import NewMessage
from msgcore.store.tables import events
from servers.patience import PATIENCE
from store.ledger_rows import NOW, add_project, new_message
from store.test_ledger import Ledger, result

S = DeliveryState
HOUR = timedelta(hours=1)


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    await add_project(database)
    return Ledger(database)


async def accepted(ledger: Ledger, *targets: str, **columns: object) -> tuple[NewMessage, list[str]]:
    new = new_message(*targets, **columns)  # type: ignore[arg-type]
    await ledger.accept_log.accept(new)
    return new, [row["id"] for row in new.deliveries]


async def told(ledger: Ledger) -> list[tuple[str, str, str | None]]:
    """The events: type, delivery and error's code."""
    async with ledger.database.read() as connection:
        rows = await connection.execute(select(events.c.type, events.c.data).order_by(events.c.sequence))
        return [(row.type, row.data["message_id"], row.data.get("error_code")) for row in rows]


class TestCancel:
    async def test_what_waits_is_cancelled_and_the_rest_is_counted(self, ledger: Ledger) -> None:
        new, (queued, retrying, sending, sent, failed) = await accepted(ledger, *"abcde")
        _, untouched = await accepted(ledger, "x")
        items = {item.id: item for item in await ledger.start(retrying, sending, sent, failed)}
        await ledger.work.record(
            [
                result(items[retrying], "retrying", "retry", due_at=NOW + HOUR),
                result(items[sent], "sent", "sent"),
                result(items[failed], "failed", "failed"),
            ]
        )
        cancelled = await ending.cancel_message(ledger.database, new.message["id"], NOW)
        assert cancelled == ending.Cancelled(ids=[queued, retrying], sending=1, sent=1)
        assert await ledger.states() == {S.CANCELLED: 2, S.SENDING: 1, S.SENT: 1, S.FAILED: 1, S.QUEUED: 1}
        (row, *_) = await reads.deliveries_of(ledger.database, new.message["id"])
        assert (row.state, row.error_code, row.finished_at) == ("cancelled", "cancelled", NOW)
        timeline = await reads.attempts_of(ledger.database, retrying)
        assert [(entry.number, entry.outcome) for entry in timeline] == [(1, "retry"), (0, "cancelled")]
        ends = await told(ledger)
        assert sorted(ends[:2]) == sorted([("message.sent", sent, None), ("message.failed", failed, None)])
        assert ends[2:] == [("message.cancelled", queued, "cancelled"), ("message.cancelled", retrying, "cancelled")]
        assert await ledger.start(queued, retrying) == []
        again = await ending.cancel_message(ledger.database, new.message["id"], NOW)
        assert again == ending.Cancelled(ids=[], sending=1, sent=1)
        assert [item.id for item in await ledger.start(*untouched)] == untouched

    async def test_many_at_once(self, ledger: Ledger) -> None:
        new, ids = await accepted(ledger, *(str(number) for number in range(3500)))
        cancelled = await ending.cancel_message(ledger.database, new.message["id"], NOW)
        assert cancelled.ids == ids
        assert await ledger.states() == {S.CANCELLED: 3500}

    async def test_workers_that_begin_and_record_meanwhile(self, ledger: Ledger) -> None:
        """Each delivery is cancelled or sent, never both, and nobody deadlocks."""
        jobs = [await accepted(ledger, *"abcdefgh") for _ in range(20)]

        async def work(ids: list[str]) -> int:
            # Backwards, as scheduling may order them.
            items = await ledger.start(*reversed(ids))
            await ledger.work.record([result(item, "sent", "sent") for item in items])
            return len(items)

        async def cancel(new: NewMessage) -> int:
            return len((await ending.cancel_message(ledger.database, new.message["id"], NOW)).ids)

        sent, cancelled = 0, 0
        async with asyncio.timeout(PATIENCE):
            numbers = await asyncio.gather(
                *(call for new, ids in jobs for call in (work(ids[:4]), cancel(new), work(ids[4:])))
            )
        for first, ended, second in zip(*[iter(numbers)] * 3, strict=True):
            sent, cancelled = sent + first + second, cancelled + ended
        assert sent + cancelled == 160
        assert await ledger.states() == {
            state: number for state, number in ((S.SENT, sent), (S.CANCELLED, cancelled)) if number
        }

    async def test_between_the_parts_it_says_how_many_were_sent(self, ledger: Ledger) -> None:
        new, (half, whole) = await accepted(ledger, *"ab")
        (item,) = await ledger.start(half)
        await ledger.work.record([result(item, "retrying", "part", counts=False, part_ids=("p-1",))])
        await ending.cancel_message(ledger.database, new.message["id"], NOW)
        messages = [row.error_message for row in await reads.deliveries_of(ledger.database, new.message["id"])]
        assert messages == ["Cancelled before it was sent; 1 part of it had been sent", "Cancelled before it was sent"]
        ends = [(await reads.attempts_of(ledger.database, each))[-1].reached for each in (half, whole)]
        assert ends == ["yes", "no"]


class TestExpiry:
    async def test_what_was_sent_in_part_does_not_expire(self, ledger: Ledger) -> None:
        _, (half,) = await accepted(ledger, "a", expires_at=NOW)
        (item,) = await ledger.start(half)
        await ledger.work.record([result(item, "retrying", "part", counts=False, part_ids=("p-1",))])
        assert await ending.expire_overdue(ledger.database, NOW) == []
        assert await ledger.states() == {S.RETRYING: 1}

    async def test_what_waits_past_its_time_ends_with_a_trace(self, ledger: Ledger) -> None:
        _, (queued,) = await accepted(ledger, "a", expires_at=NOW - HOUR)
        _, (retrying,) = await accepted(ledger, "b", expires_at=NOW)
        _, (sending,) = await accepted(ledger, "c", expires_at=NOW)
        await accepted(ledger, "d", expires_at=NOW + HOUR)
        await accepted(ledger, "e")
        (item, _) = await ledger.start(retrying, sending)
        await ledger.work.record([result(item, "retrying", "retry", due_at=NOW + HOUR)])
        assert await ending.expire_overdue(ledger.database, NOW) == [queued, retrying]
        assert await ledger.states() == {S.EXPIRED: 2, S.SENDING: 1, S.QUEUED: 2}
        (entry,) = await reads.attempts_of(ledger.database, queued)
        assert (entry.number, entry.outcome, entry.reached) == (0, "expired", "no")
        assert "expiresAt" in entry.error_message
        assert await told(ledger) == [("message.failed", each, "expired") for each in (queued, retrying)]
        assert await ending.expire_overdue(ledger.database, NOW) == []

    async def test_it_is_done_in_portions_the_longest_overdue_first(self, ledger: Ledger) -> None:
        expected = []
        for minutes in (1, 3, 2):
            _, ids = await accepted(ledger, *"ab", expires_at=NOW - timedelta(minutes=minutes))
            expected.append((-minutes, ids))
        found: list[str] = []
        while portion := await ending.expire_overdue(ledger.database, NOW, limit=2):
            assert len(portion) == 2
            found += portion
        assert found == [i for _, ids in sorted(expected) for i in ids]

    async def test_what_a_worker_holds_is_left_to_it(self, ledger: Ledger) -> None:
        """On PostgreSQL rows that are locked are passed over; SQLite lets one write at a time."""
        jobs = [await accepted(ledger, *"abcd", expires_at=NOW) for _ in range(10)]

        async def work(ids: list[str]) -> list[str]:
            return [item.id for item in await ledger.start(*reversed(ids))]

        async with asyncio.timeout(PATIENCE):
            parts = await asyncio.gather(
                *(work(ids) for _, ids in jobs), *(ending.expire_overdue(ledger.database, NOW) for _ in range(5))
            )
        ids = [delivery_id for part in parts for delivery_id in part]
        assert len(ids) == len(set(ids)) == 40

    async def test_it_finds_them_by_index(self, ledger: Ledger) -> None:
        async with ledger.database.read() as connection:
            sqlite = connection.dialect.name == "sqlite"
            if not sqlite:
                await connection.exec_driver_sql("SET enable_seqscan = off")
                await connection.exec_driver_sql("SET enable_bitmapscan = off")
            explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
            when = "'2030-01-01 00:00:00.000000'"
            plan = await connection.execute(
                text(
                    f"{explain} SELECT id FROM deliveries WHERE state IN ('queued', 'retrying', 'scheduled') "
                    f"AND expires_at IS NOT NULL AND expires_at <= {when} ORDER BY expires_at LIMIT 10"
                )
            )
            found = str(plan.all())
        assert "ix_deliveries_expiring" in found or "_expires_at_idx" in found, found

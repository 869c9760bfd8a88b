"""The ledger on both databases: accepting, working, counting, feeding and burying."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from msgcore.core.deliveries import DeliveryState, Ticket
from msgcore.core.errors import IdempotencyMismatchError
from msgcore.store.database import Database
from msgcore.store.ledger import dead, reads
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.beginning import WorkItem
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.ledger.feed import NIL, PAGE, Feed
from msgcore.store.ledger.recording import WorkResult
from msgcore.store.ledger.work import WorkLog
from msgcore.store.tables import attempts, deliveries, idempotency_keys, messages, platform_logs
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project, new_message


class Ledger:
    """An accept log that remembers what it handed over, and the worker's side."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.handed_over: list[Ticket] = []
        self.batches = 0
        self.accept_log = AcceptLog(database, self._committed)
        self.work = WorkLog(database)

    async def _committed(self, tickets: Sequence[Ticket]) -> None:
        self.batches += 1
        self.handed_over.extend(tickets)

    async def states(self) -> dict[DeliveryState, int]:
        counts = await count_by_state(self.database, project_id=PROJECT)
        async with self.database.read() as connection:
            query = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
            real = {state: number for state, number in await connection.execute(query)}  # noqa: C416 - rows, not tuples, for the type checker
        kept = {state: number for state, number in counts.items() if number}
        assert {str(k): v for k, v in kept.items()} == real, "the kept counts differ from the rows"
        return kept

    async def start(self, *ids: str) -> list[WorkItem]:
        return await self.work.begin(ids, NOW)


def result(item: WorkItem, state: str, outcome: str, **rest: object) -> WorkResult:
    return WorkResult(item, DeliveryState(state), outcome, NOW, **rest)  # type: ignore[arg-type]


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    await add_project(database)
    return Ledger(database)


async def rows_of(database: Database, table: object) -> int:
    async with database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()  # type: ignore[arg-type]


class TestAccept:
    async def test_a_message_is_stored_with_its_deliveries_and_handed_over(self, ledger: Ledger) -> None:
        new = new_message("ann", "bob")
        accepted = await ledger.accept_log.accept(new)
        assert accepted.message_id == new.message["id"]
        stored = await reads.find_message(ledger.database, PROJECT, accepted.message_id)
        assert stored is not None
        assert stored.content == {"text": "hello"}
        assert stored.created_at == NOW
        rows = await reads.deliveries_of(ledger.database, accepted.message_id)
        assert [row.target_id for row in rows] == ["ann", "bob"]
        assert [ticket.delivery_id for ticket in ledger.handed_over] == [row.id for row in rows]
        assert await ledger.states() == {DeliveryState.QUEUED: 2}

    async def test_messages_that_come_together_are_committed_together(self, ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.accept_log.accept(new_message()) for _ in range(200)))
        assert await ledger.states() == {DeliveryState.QUEUED: 200}
        assert ledger.batches < 20

    async def test_another_project_does_not_see_it(self, ledger: Ledger) -> None:
        accepted = await ledger.accept_log.accept(new_message())
        assert await reads.find_message(ledger.database, "other", accepted.message_id) is None

    async def test_a_batch_that_cannot_be_written_is_not_handed_over(self, ledger: Ledger) -> None:
        broken = new_message()
        broken.message["created_at"] = None
        with pytest.raises(Exception, match=r"(?i)null"):
            await ledger.accept_log.accept(broken)
        assert ledger.handed_over == []
        assert await ledger.states() == {}


class TestIdempotency:
    async def test_the_first_answer_comes_again(self, ledger: Ledger) -> None:
        first = await ledger.accept_log.accept(new_message(key="k"))
        second = await ledger.accept_log.accept(new_message(key="k"))
        assert (second.message_id, second.created_at) == (first.message_id, first.created_at)
        assert (first.replayed, second.replayed) == (False, True)
        assert await ledger.states() == {DeliveryState.QUEUED: 1}
        assert len(ledger.handed_over) == 1

    async def test_the_same_key_at_the_same_time_is_one_message(self, ledger: Ledger) -> None:
        answers = await asyncio.gather(*(ledger.accept_log.accept(new_message(key="k")) for _ in range(40)))
        assert len({answer.message_id for answer in answers}) == 1
        assert await rows_of(ledger.database, messages) == 1

    async def test_another_body_is_refused_and_disturbs_nobody(self, ledger: Ledger) -> None:
        await ledger.accept_log.accept(new_message(key="k"))
        wrong, other = await asyncio.gather(
            ledger.accept_log.accept(new_message(key="k", body_hash="different")),
            ledger.accept_log.accept(new_message(key="k2")),
            return_exceptions=True,
        )
        assert isinstance(wrong, IdempotencyMismatchError)
        assert not isinstance(other, BaseException)
        assert await ledger.states() == {DeliveryState.QUEUED: 2}

    async def test_the_key_is_free_again_after_a_day(self, ledger: Ledger) -> None:
        first = await ledger.accept_log.accept(new_message(key="k"))
        later = await ledger.accept_log.accept(new_message(key="k", body_hash="x", now=NOW + timedelta(hours=25)))
        assert later.message_id != first.message_id
        assert not later.replayed

    async def test_expired_keys_are_dropped(self, ledger: Ledger) -> None:
        await ledger.accept_log.accept(new_message(key="k"))
        await Feed(ledger.database).drop_expired_keys(NOW + timedelta(hours=23))
        assert await rows_of(ledger.database, idempotency_keys) == 1
        await Feed(ledger.database).drop_expired_keys(NOW + timedelta(hours=25))
        assert await rows_of(ledger.database, idempotency_keys) == 0


class TestWork:
    async def test_an_attempt_from_begin_to_sent(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        (item,) = await ledger.start(new.deliveries[0]["id"])
        assert (item.attempt, item.uncertain, item.target_id) == (1, False, "ann")
        assert await ledger.states() == {DeliveryState.SENDING: 1}
        await ledger.work.record([result(item, "sent", "sent", provider_message_id="pm", reached="yes", sent_at=NOW)])
        assert await ledger.states() == {DeliveryState.SENT: 1}
        (row,) = await reads.deliveries_of(ledger.database, new.message["id"])
        assert (row.provider_message_id, row.attempts, row.sent_at) == ("pm", 1, NOW)
        (entry,) = await reads.attempts_of(ledger.database, row.id)
        assert (entry.number, entry.outcome, entry.reached) == (1, "sent", "yes")

    async def test_items_come_in_the_order_asked(self, ledger: Ledger) -> None:
        new = new_message(*"abcdef")
        await ledger.accept_log.accept(new)
        asked = [row["id"] for row in reversed(new.deliveries)]
        assert [item.id for item in await ledger.start(*asked)] == asked

    async def test_a_final_or_unknown_delivery_is_not_begun(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        (item,) = await ledger.start(item_id := new.deliveries[0]["id"])
        await ledger.work.record([result(item, "failed", "failed", error_code="x")])
        assert await ledger.start(item_id, NIL) == []

    async def test_what_does_not_count_leaves_the_attempts_alone(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        (item,) = await ledger.start(new.deliveries[0]["id"])
        await ledger.work.record([result(item, "retrying", "throttled", counts=False, due_at=NOW)])
        (again,) = await ledger.start(new.deliveries[0]["id"])
        assert (again.attempt, again.throttles) == (1, 1)

    async def test_an_interrupted_attempt_is_told_in_the_timeline(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        await ledger.start(new.deliveries[0]["id"])
        (again,) = await ledger.start(new.deliveries[0]["id"])  # as after a crash
        assert (again.attempt, again.uncertain) == (2, True)
        (entry,) = await reads.attempts_of(ledger.database, again.id)
        assert (entry.number, entry.outcome, entry.reached) == (1, "uncertain", "maybe")
        assert await ledger.states() == {DeliveryState.SENDING: 1}

    async def test_a_lost_attempt_never_overwrites_a_newer_one(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        (old,) = await ledger.start(new.deliveries[0]["id"])
        (newer,) = await ledger.start(new.deliveries[0]["id"])
        await ledger.work.record([result(old, "failed", "failed")])
        assert await ledger.states() == {DeliveryState.SENDING: 1}
        await ledger.work.record([result(newer, "sent", "sent")])
        await ledger.work.record([result(old, "failed", "failed")])
        assert await ledger.states() == {DeliveryState.SENT: 1}
        assert len(await reads.attempts_of(ledger.database, old.id)) == 4

    async def test_may_have_reached_is_remembered_for_the_next_attempt(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        (item,) = await ledger.start(new.deliveries[0]["id"])
        await ledger.work.record([result(item, "retrying", "retry", reached="maybe", due_at=NOW)])
        (again,) = await ledger.start(item.id)
        assert again.uncertain

    async def test_a_failure_is_in_the_platform_log(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        (item,) = await ledger.start(new.deliveries[0]["id"])
        await ledger.work.record([result(item, "failed", "failed", error_code="refused", error_message="no")])
        async with ledger.database.read() as connection:
            row = (await connection.execute(select(platform_logs))).one()
        assert (row.level, row.category, row.error) == ("error", "message", "no")
        assert "refused" in row.message

    async def test_an_account_is_paused_once(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        (item,) = await ledger.start(new.deliveries[0]["id"])
        assert await ledger.work.pause_account(item, "bad token", NOW - timedelta(seconds=1), NOW) == "changed"
        assert await Feed(ledger.database).held_accounts() == set()
        assert await ledger.work.pause_account(item, "bad token", NOW, NOW) == "now"
        assert await ledger.work.pause_account(item, "bad token", NOW, NOW) == "already"
        assert await Feed(ledger.database).held_accounts() == {ACCOUNT}


class TestFeed:
    async def test_open_deliveries_page_by_page(self, ledger: Ledger) -> None:
        for _ in range(3):
            await ledger.accept_log.accept(new_message(*(str(n) for n in range(500))))
        feed = Feed(ledger.database)
        first = await feed.after(NIL, NOW)
        second = await feed.after(first[-1].id, NOW)
        assert (len(first), len(second)) == (PAGE, 500)
        found = [delivery.id for delivery in (*first, *second)]
        assert found == sorted(set(found))

    async def test_far_scheduled_ones_come_when_they_are_near(self, ledger: Ledger) -> None:
        day = timedelta(days=1)
        await ledger.accept_log.accept(new_message("soon"))
        await ledger.accept_log.accept(new_message("x", "y", due_in=day))
        feed = Feed(ledger.database)
        assert len(await feed.after(NIL, NOW + timedelta(hours=1))) == 1
        (x, y) = await feed.falling_due(NOW + timedelta(hours=1), NIL, NOW + day)
        assert [d.id for d in await feed.falling_due(x.due_at, x.id, NOW + day)] == [y.id]

    async def test_a_tried_one_is_read_however_late_it_is_due(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        (item,) = await ledger.start(new.deliveries[0]["id"])
        late = NOW + timedelta(hours=9)
        await ledger.work.record([result(item, "retrying", "throttled", counts=False, due_at=late)])
        (found,) = await Feed(ledger.database).after(NIL, NOW)
        assert (found.tried, found.due_at) == (True, late)

    async def test_open_deliveries_are_found_by_index(self, ledger: Ledger) -> None:
        """However many are final: the partial index is used, on both databases."""
        async with ledger.database.read() as connection:
            sqlite = connection.dialect.name == "sqlite"
            if not sqlite:
                await connection.exec_driver_sql("SET enable_seqscan = off")
            plan = (
                await connection.exec_driver_sql(
                    ("EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN ")
                    + "SELECT id FROM deliveries WHERE state IN ('queued', 'retrying', 'scheduled', 'sending') "
                    "AND id > '00000000000000000000000000000000' ORDER BY id LIMIT 10"
                )
            ).all()
        text = str(plan)
        assert "ix_deliveries_open" in text or "_id_idx" in text, text


class TestDeadLetters:
    async def bury(self, ledger: Ledger, *targets: str, code: str = "refused") -> list[str]:
        new = new_message(*targets)
        await ledger.accept_log.accept(new)
        items = await ledger.start(*(row["id"] for row in new.deliveries))
        await ledger.work.record([result(item, "failed", "failed", error_code=code) for item in items])
        return [item.id for item in items]

    async def test_list_newest_first_and_by_page(self, ledger: Ledger) -> None:
        buried = await self.bury(ledger, "a", "b", "c")
        chosen = dead.DeadLetterFilter(PROJECT)
        first = await dead.list_dead(ledger.database, chosen, limit=2, before=None)
        rest = await dead.list_dead(ledger.database, chosen, limit=2, before=first[-1].id)
        assert [row.id for row in (*first, *rest)] == buried[::-1]

    async def test_requeue_forgives_the_attempts_and_keeps_the_timeline(self, ledger: Ledger) -> None:
        (buried,) = await self.bury(ledger, "a")
        earlier = dead.DeadLetterFilter(PROJECT, until=NOW - timedelta(seconds=1))
        assert (await dead.requeue(ledger.database, earlier, NOW)).ids == []
        (requeued,) = (await dead.requeue(ledger.database, dead.DeadLetterFilter(PROJECT, until=NOW), NOW)).due
        assert requeued.id == buried
        assert await ledger.states() == {DeliveryState.QUEUED: 1}
        assert len(await reads.attempts_of(ledger.database, buried)) == 1
        (item,) = await ledger.start(buried)
        assert item.attempt == 1

    async def test_requeue_sends_anew_what_bounced_and_goes_on_with_what_was_sent_in_part(self, ledger: Ledger) -> None:
        bounced, half = await self.bury(ledger, "a", "b")
        parts = {"part_ids": "p-1\np-2", "provider_message_id": "p-1", "sent_at": NOW}
        async with ledger.database.write() as connection:
            await connection.execute(update(deliveries).values(parts))
            of_bounced = update(deliveries).where(deliveries.c.id == bounced)
            await connection.execute(of_bounced.values(error_code="undelivered"))
        await dead.requeue(ledger.database, dead.DeadLetterFilter(PROJECT), NOW)
        async with ledger.database.read() as connection:
            columns = (deliveries.c.part_ids, deliveries.c.provider_message_id, deliveries.c.sent_at)
            rows = (await connection.execute(select(*columns).order_by(deliveries.c.id))).all()
        assert [tuple(row) for row in rows] == [(None, None, None), tuple(parts.values())]
        items = await ledger.start(bounced, half)
        assert [item.part_ids for item in items] == [(), ("p-1", "p-2")]

    async def test_filters_narrow(self, ledger: Ledger) -> None:
        (one,) = await self.bury(ledger, "a", code="x")
        await self.bury(ledger, "b", code="y")
        for chosen in (
            dead.DeadLetterFilter(PROJECT, error_code="x"),
            dead.DeadLetterFilter(PROJECT, ids=(one,)),
            dead.DeadLetterFilter(PROJECT, since=NOW, until=NOW, error_code="x"),
        ):
            assert await dead.count_dead(ledger.database, chosen) == 1
            assert [row.id for row in await dead.list_dead(ledger.database, chosen, limit=9, before=None)] == [one]
        assert await dead.purge(ledger.database, dead.DeadLetterFilter("other")) == []

    async def test_purge_deletes_with_timeline(self, ledger: Ledger) -> None:
        buried = await self.bury(ledger, "a", "b")
        assert await dead.purge(ledger.database, dead.DeadLetterFilter(PROJECT), limit=1) == buried[:1]
        assert await rows_of(ledger.database, messages) == 1
        assert await dead.purge(ledger.database, dead.DeadLetterFilter(PROJECT), after=buried[0]) == buried[1:]
        assert await ledger.states() == {}
        assert await rows_of(ledger.database, attempts) == 0
        assert await rows_of(ledger.database, messages) == 0, "a job without deliveries would look completed"

    async def test_a_message_stays_while_one_of_its_deliveries_does(self, ledger: Ledger) -> None:
        new = new_message("a", "b")
        await ledger.accept_log.accept(new)
        (item,) = await ledger.start(new.deliveries[0]["id"])
        await ledger.work.record([result(item, "failed", "failed")])
        assert await dead.purge(ledger.database, dead.DeadLetterFilter(PROJECT)) == [item.id]
        assert await rows_of(ledger.database, messages) == 1
        assert await ledger.states() == {DeliveryState.QUEUED: 1}

    async def test_a_delivery_that_did_not_fail_is_never_touched(self, ledger: Ledger) -> None:
        new = new_message()
        await ledger.accept_log.accept(new)
        chosen = dead.DeadLetterFilter(PROJECT, ids=(new.deliveries[0]["id"],))
        assert (await dead.requeue(ledger.database, chosen, NOW)).ids == []
        assert await dead.purge(ledger.database, chosen) == []


class TestReads:
    async def test_a_page_of_sent_deliveries_with_content_and_total(self, ledger: Ledger) -> None:
        for _ in range(3):
            await ledger.accept_log.accept(new_message("a", "b"))
        rows, total = await reads.list_deliveries(
            ledger.database, PROJECT, platform="sandbox", states=frozenset({DeliveryState.QUEUED}), limit=4, offset=1
        )
        assert total == 6
        assert len(rows) == 4
        assert [row.id for row in rows] == sorted((row.id for row in rows), reverse=True)
        assert rows[0].content == {"text": "hello"}

    async def test_counts_survive_many_writers(self, ledger: Ledger) -> None:
        """Accepting and working at the same time: the counts still equal the rows."""
        new = [new_message(*"abcde") for _ in range(20)]

        async def run(message: object) -> None:
            await ledger.accept_log.accept(message)  # type: ignore[arg-type]
            items = await ledger.start(*(row["id"] for row in message.deliveries))  # type: ignore[attr-defined]
            await ledger.work.record([result(item, "sent", "sent") for item in items])

        await asyncio.gather(*(run(message) for message in new))
        assert await ledger.states() == {DeliveryState.SENT: 100}

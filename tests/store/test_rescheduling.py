"""Changing due times in the ledger, on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from msgcore.core.deliveries import DeliveryState
from msgcore.core.errors import InvalidInputError
from msgcore.store.database import Database
from msgcore.store.ledger import reads
from msgcore.store.ledger.feed import NIL, Feed
from msgcore.store.ledger.rescheduling import reschedule
from servers.patience import PATIENCE
from store.ledger_rows import NOW, add_project
from store.test_ending import accepted
from store.test_ledger import Ledger, result

S = DeliveryState
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    await add_project(database)
    return Ledger(database)


async def test_untried_deliveries_get_the_new_time(ledger: Ledger) -> None:
    new, (queued, released, tried, sent) = await accepted(ledger, *"abcd")
    items = {item.id: item for item in await ledger.start(released, tried, sent)}
    await ledger.work.record(
        [
            result(items[released], "queued", "released", counts=False, due_at=NOW),
            result(items[tried], "retrying", "retry", due_at=NOW),
            result(items[sent], "sent", "sent"),
        ]
    )
    found = await reschedule(ledger.database, new.message["id"], NOW + HOUR, NOW)
    assert [(delivery.id, delivery.due_at, delivery.tried) for delivery in found.moved] == [
        (queued, NOW + HOUR, False),
        (released, NOW + HOUR, False),
    ]
    assert found.others == 2
    assert await ledger.states() == {S.SCHEDULED: 2, S.RETRYING: 1, S.SENT: 1}
    (row, *_) = await reads.deliveries_of(ledger.database, new.message["id"])
    assert (row.due_at, row.first_due_at, row.rescheduled_at) == (NOW + HOUR, NOW + HOUR, NOW)


async def test_what_was_sent_in_part_is_too_late(ledger: Ledger) -> None:
    new, (half, untried) = await accepted(ledger, *"ab")
    (item,) = await ledger.start(half)
    await ledger.work.record([result(item, "retrying", "part", counts=False, part_ids=("p-1",), due_at=NOW)])
    (item,) = await ledger.start(half)
    await ledger.work.record([result(item, "queued", "released", counts=False, due_at=NOW)])
    (row, _) = await reads.deliveries_of(ledger.database, new.message["id"])
    assert row.provider_message_id == "p-1", "known to the platform by its first part, also after another attempt"
    found = await reschedule(ledger.database, new.message["id"], NOW + HOUR, NOW)
    assert ([delivery.id for delivery in found.moved], found.others) == ([untried], 1)


async def test_from_later_to_now(ledger: Ledger) -> None:
    new, ids = await accepted(ledger, *"ab", due_in=DAY)
    found = await reschedule(ledger.database, new.message["id"], NOW, NOW)
    assert [delivery.id for delivery in found.moved] == ids
    assert await ledger.states() == {S.QUEUED: 2}
    assert [delivery.id for delivery in await Feed(ledger.database).after(NIL, NOW)] == ids


async def test_what_was_put_off_is_not_begun_before_its_time(ledger: Ledger) -> None:
    """However early somebody claims it who knows the old time only."""
    new, (delivery_id,) = await accepted(ledger, "a")
    await reschedule(ledger.database, new.message["id"], NOW + HOUR, NOW)
    assert await ledger.work.begin([delivery_id], NOW + HOUR - timedelta(seconds=1)) == []
    assert await ledger.states() == {S.SCHEDULED: 1}
    assert len(await ledger.work.begin([delivery_id], NOW + HOUR)) == 1


async def test_a_clock_that_is_wrong_holds_up_nothing_else(ledger: Ledger) -> None:
    """What was never rescheduled is begun when the scheduler says so."""
    _, (delivery_id,) = await accepted(ledger, "a", due_in=HOUR)
    assert len(await ledger.work.begin([delivery_id], NOW)) == 1


async def test_not_beyond_its_expiry(ledger: Ledger) -> None:
    new, _ = await accepted(ledger, *"ab", expires_at=NOW + HOUR)
    with pytest.raises(InvalidInputError) as refused:
        await reschedule(ledger.database, new.message["id"], NOW + HOUR, NOW)
    assert refused.value.errors[0].pointer == "/scheduled"
    assert "expiresAt, 2030-01-01T01:00:00" in refused.value.message
    assert await ledger.states() == {S.QUEUED: 2}


async def test_others_learn_of_it_page_by_page(ledger: Ledger) -> None:
    first, (a, b) = await accepted(ledger, *"ab")
    second, (c,) = await accepted(ledger, "c", due_in=DAY)
    await accepted(ledger, "d", due_in=DAY)
    await reschedule(ledger.database, second.message["id"], NOW + timedelta(seconds=1), NOW + timedelta(seconds=1))
    await reschedule(ledger.database, first.message["id"], NOW + HOUR, NOW + timedelta(seconds=2))
    found = await Feed(ledger.database).rescheduled_after(NOW, NIL)
    assert [(delivery.id, delivery.due_at) for _, delivery in found] == [
        (c, NOW + timedelta(seconds=1)),
        (a, NOW + HOUR),
        (b, NOW + HOUR),
    ]
    when, last = found[1]
    assert [delivery.id for _, delivery in await Feed(ledger.database).rescheduled_after(when, last.id)] == [b]
    await ledger.start(c)
    assert len(await Feed(ledger.database).rescheduled_after(NOW, NIL)) == 2


async def test_workers_that_begin_meanwhile(ledger: Ledger) -> None:
    """Each delivery is begun or put off, never both, and the counts stay right."""
    jobs = [await accepted(ledger, *"abcdef") for _ in range(20)]

    async def work(ids: list[str]) -> int:
        return len(await ledger.start(*reversed(ids)))

    async def put_off(message_id: str) -> int:
        return len((await reschedule(ledger.database, message_id, NOW + HOUR, NOW)).moved)

    async with asyncio.timeout(PATIENCE):
        numbers = await asyncio.gather(
            *(call for new, ids in jobs for call in (work(ids[:3]), put_off(new.message["id"]), work(ids[3:])))
        )
    assert sum(numbers) == 120
    states = await ledger.states()
    assert states.get(S.SCHEDULED, 0) == sum(numbers[1::3])

"""The newest events in memory: never a gap, never one twice, and one query for many who follow."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from msgcore.inbound.tail import KEPT, KEPT_BYTES, EventTail
from msgcore.store import events
from msgcore.store.database import Database
from msgcore.store.events import PAGE_BYTES, Log, NewEvent, append, bounds, purge
from msgcore.store.tables import projects, users
from store.ledger_rows import NOW, PROJECT, add_project

LOG = Log(PROJECT, NOW)


async def add(database: Database, number: int, size: int = 0) -> None:
    new = [NewEvent(PROJECT, "test", {"text": "x" * size}, NOW) for _ in range(number)]
    await database.transact(lambda connection: append(connection, new))


@pytest.fixture
async def log(database: Database) -> Database:
    await add_project(database)
    return database


async def follow(tail: EventTail, after: int, until: int) -> list[int]:
    found: list[int] = []
    while after < until:
        page = (await tail.read(LOG, after)).events
        found += [event.sequence for event in page]
        after = page[-1].sequence if page else after
        await asyncio.sleep(0)
    return found


async def test_everybody_gets_everything_from_where_they_stand(log: Database) -> None:
    tail, rng = EventTail(log), random.Random(7)
    total = KEPT * 2

    async def write() -> None:
        left = total
        while left:
            number = min(left, rng.randrange(1, 90))
            await add(log, number)
            left -= number

    starts = [0, 0, 3, 250, KEPT, total - 1]
    async with asyncio.timeout(60):
        _, *seen = await asyncio.gather(write(), *(follow(tail, start, total) for start in starts))
    assert seen == [list(range(start + 1, total + 1)) for start in starts]
    assert await follow(tail, 0, total) == list(range(1, total + 1)), "one who comes late"


async def test_many_who_follow_cost_one_query(log: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tail, queries = EventTail(log), 0
    read_after = events.read_after

    async def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal queries
        queries += 1
        return await read_after(*arguments, **named)

    monkeypatch.setattr(events, "read_after", counted)
    await add(log, 5)
    pages = await asyncio.gather(*(tail.read(LOG, 0) for _ in range(100)))
    assert {len(page.events) for page in pages} == {5}
    assert queries == 1


async def test_large_events_are_few(log: Database) -> None:
    tail = EventTail(log)
    await add(log, 10, size=KEPT_BYTES // 4)
    assert await follow(tail, 0, 10) == list(range(1, 11))
    assert len(tail._ends[LOG]._events) == 3
    assert await follow(tail, 0, 10) == list(range(1, 11))
    await add(log, 1, size=KEPT_BYTES * 2)
    assert await follow(tail, 10, 11) == [11]
    assert not tail._ends[LOG]._events


async def test_what_is_read_at_once_is_bounded(log: Database) -> None:
    """However large events are, and however many there are for whoever comes late."""
    tail, after, seen = EventTail(log), 0, list[int]()
    for size in (100, PAGE_BYTES, 100, PAGE_BYTES // 3, 100):
        await add(log, 6, size=size)
    while after < 30:
        page = await tail.read(LOG, after)
        assert sum(event.size for event in page.events[:-1]) < PAGE_BYTES
        seen += [event.sequence for event in page.events]
        after = seen[-1]
        assert page.more == (after < 30)
    assert seen == list(range(1, 31))


async def test_who_gets_what_another_one_read_is_told_that_there_is_more(log: Database) -> None:
    tail = EventTail(log)
    await add(log, 300)
    assert (await tail.read(LOG, 0)).more
    behind = await tail.read(LOG, 150)
    assert (len(behind.events), behind.more) == (50, True)
    assert not (await tail.read(LOG, 200)).more
    assert not (await tail.read(LOG, 250)).more


async def test_what_was_deleted_with_age_is_passed_over(log: Database) -> None:
    tail = EventTail(log)
    await add(log, 3)
    assert len((await tail.read(LOG, 1)).events) == 2
    await purge(log, NOW + timedelta(seconds=1))
    await add(log, 2)
    assert await follow(tail, 0, 5) == [4, 5]
    assert await follow(tail, 4, 5) == [5]


async def test_a_project_that_takes_the_id_of_a_deleted_one_has_a_log_of_its_own(log: Database) -> None:
    tail = EventTail(log)
    await add(log, 3)
    old = (await bounds(log, PROJECT)).log
    assert len((await tail.read(old, 0)).events) == 3
    async with log.write() as connection:
        await connection.execute(delete(projects))
        made = {"id": PROJECT, "name": "p", "environment": "development", "is_default": False}
        stamps = {"created_at": NOW + timedelta(seconds=1), "updated_at": NOW}
        owner = (await connection.execute(select(users.c.id))).scalar_one()
        await connection.execute(insert(projects), made | {"owner_id": owner} | stamps)
    new = (await bounds(log, PROJECT)).log
    assert list((await tail.read(new, 0)).events) == []
    await add(log, 1)
    assert [event.sequence for event in (await tail.read(new, 0)).events] == [1]
    assert list((await tail.read(old, 3)).events) == [], "whoever still follows the old one gets nothing of the new"

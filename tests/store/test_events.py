"""The event log: one order for each project, whoever appends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from msgcore.core.clock import SystemClock
from msgcore.store import events
from msgcore.store.database import Database
from msgcore.store.events import Log, NewEvent, append, bounds, purge, read_after
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project

OTHER, OTHERS_ACCOUNT = "other", "01920000-0000-7000-8000-0000000000ab"


def event(word: str, project: str = PROJECT, **more: object) -> NewEvent:
    return NewEvent(project, f"test.{word}", {"word": word}, NOW, **more)  # type: ignore[arg-type]


async def add(database: Database, *new: NewEvent) -> None:
    await database.transact(lambda connection: append(connection, new))


async def words(database: Database, after: int = 0, project: str = PROJECT) -> list[tuple[int, str]]:
    return [
        (each.sequence, each.data["word"]) for each in await read_after(database, Log(project, NOW), after, limit=1000)
    ]


async def places(database: Database, project: str = PROJECT) -> tuple[int, int]:
    found = await bounds(database, project)
    return found.oldest, found.newest


@pytest.fixture
async def log(database: Database) -> Database:
    await add_project(database)
    await add_project(database, OTHER, OTHERS_ACCOUNT)
    return database


async def test_events_are_counted_for_each_project(log: Database) -> None:
    await add(log, event("a"), event("x", OTHER), event("b"))
    await add(log, event("c"))
    assert await words(log) == [(1, "a"), (2, "b"), (3, "c")]
    assert await words(log, after=2) == [(3, "c")]
    assert await words(log, project=OTHER) == [(1, "x")]
    assert await places(log) == (1, 3)


async def test_what_is_rolled_back_takes_no_place(log: Database) -> None:
    await add(log, event("a"))
    with pytest.raises(IntegrityError):
        await add(log, event("b"), event("lost", "nobody"))
    await add(log, event("c"))
    assert await words(log) == [(1, "a"), (2, "c")]


async def test_a_reader_never_meets_a_gap(log: Database) -> None:
    """However many append at once: what is read up to a place stays all there is before it."""
    read: list[int] = []

    async def follow() -> None:
        while len(read) < 100:
            read.extend(
                each.sequence for each in await read_after(log, Log(PROJECT, NOW), read[-1] if read else 0, limit=7)
            )
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(follow(), *(add(log, event(f"{n}"), event(f"{n}+", OTHER)) for n in range(100)))
    assert read == list(range(1, 101))
    assert await places(log, OTHER) == (1, 100)


async def test_a_page_has_a_limit(log: Database) -> None:
    await add(log, event("a"), event("b", platform_id=ACCOUNT), event("c"))
    assert [(each.sequence, each.platform_id) for each in await read_after(log, Log(PROJECT, NOW), 0, limit=2)] == [
        (1, None),
        (2, ACCOUNT),
    ]


async def test_a_page_ends_where_it_has_its_bytes(log: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE_BYTES", 1000)
    sizes = [300, 300, 300, 300, 10, 5000, 10, 10, 400, 400, 400, 400]
    of_sizes = [(PROJECT, size) for size in sizes] + [(OTHER, 9000)]
    await add(log, *(NewEvent(project, "test", {"word": "x" * size}, NOW) for project, size in of_sizes))
    pages: list[list[int]] = []
    while not pages or pages[-1][-1] < len(sizes):
        found = await read_after(log, Log(PROJECT, NOW), pages[-1][-1] if pages else 0, limit=4)
        pages.append([each.sequence for each in found])
    assert pages == [[1, 2, 3, 4], [5, 6], [7, 8, 9, 10], [11, 12]]
    assert [events.is_full(found, 3), events.is_full(found, 2)] == [False, True]


async def test_to_find_a_page_no_more_is_looked_at_than_it_has(sqlite_url: str) -> None:
    log = Database.open(sqlite_url)
    async with log.read() as connection:
        statement = str(events._PAGE.compile(log.engine, compile_kwargs={"render_postcompile": True}))
        number = statement.count("?")
        plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (1,) * number)).all()
    await log.close()
    steps = [row.detail for row in plan]
    assert not [step for step in steps if step.startswith("SCAN") and step not in {"SCAN page", "SCAN CONSTANT ROW"}]
    assert (
        "SEARCH events USING INDEX ix_events_project_id_sequence (project_id=? AND sequence>? AND sequence<?)" in steps
    )


async def test_old_events_go_and_the_count_goes_on(log: Database) -> None:
    await add(log, event("old"))
    assert await purge(log, NOW + timedelta(seconds=1)) == 1
    assert await purge(log, NOW + timedelta(seconds=1)) == 0
    assert await places(log) == (2, 1), "the next one, and the last that was"
    await add(log, event("new"))
    assert await words(log) == [(2, "new")]


async def test_what_was_read_late_is_kept_as_long_as_other_events(log: Database) -> None:
    """A request may wait for its account's credentials, or with all of a machine that was off."""
    await add(log, NewEvent(PROJECT, "test", {"word": "late"}, NOW - timedelta(days=20_000)))
    assert await purge(log, SystemClock().now() - timedelta(hours=1)) == 0
    assert await words(log) == [(1, "late")]

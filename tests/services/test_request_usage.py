"""Counting what keys are used for: by the hour, from several processes, bounded, and through an outage."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from msgcore.core.errors import InvalidInputError, NotFoundError
from msgcore.core.ids import new_id
from msgcore.services import request_usage
from msgcore.services.request_usage import RequestUsage
from msgcore.services.usage import UsageService
from msgcore.store.database import Database
from msgcore.store.key_usage import purge
from msgcore.store.tables import api_key_usage, api_keys
from servers.clock import FakeClock
from store.ledger_rows import PROJECT, add_project

NOON = datetime(2030, 5, 20, 12, 30, tzinfo=UTC)
SEND = "/api/v1/projects/{project}/messages/send"


@pytest.fixture
async def key_id(database: Database) -> str:
    await add_project(database)
    return await add_key(database)


async def add_key(database: Database, project: str = PROJECT) -> str:
    key = new_id()
    row = {"id": key, "project_id": project, "key_hash": key, "key_prefix": "p", "key_suffix": "s", "name": "k"}
    async with database.write() as connection:
        await connection.execute(insert(api_keys), row | {"created_at": NOON})
    return key


def note(usage: RequestUsage, key_id: str, status: int = 201, seconds: float = 0.01, endpoint: str = SEND) -> None:
    usage.note(key_id, "POST", endpoint, status, seconds=seconds, address="192.0.2.7")


async def rows(database: Database) -> list[Any]:
    query = select(api_key_usage).order_by(api_key_usage.c.timestamp, api_key_usage.c.status_code)
    async with database.read() as connection:
        return list((await connection.execute(query)).all())


async def test_requests_are_summed_by_hour_endpoint_and_status(database: Database, key_id: str) -> None:
    clock = FakeClock(NOON - timedelta(seconds=1000))
    for _ in range(2):  # two processes, or one after the other
        usage = RequestUsage(database, clock)
        for seconds in (0.01, 0.03):
            note(usage, key_id, seconds=seconds)
        note(usage, key_id, 404)
        await usage.close()
    clock.advance(3600)
    usage = RequestUsage(database, clock)
    note(usage, key_id, 429)
    note(usage, new_id())  # of a key that is gone with its project, and takes no other along
    await usage.close()
    hour = NOON.replace(minute=0)
    assert [
        (row.timestamp, row.status_code, row.requests, row.total_ms, row.response_time_ms)
        for row in await rows(database)
    ] == [
        (hour, 201, 4, 80, 30),
        (hour, 404, 2, 20, 10),
        (hour + timedelta(hours=1), 429, 1, 10, 10),
    ]
    assert {(row.api_key_id, row.method, row.endpoint, row.ip_address) for row in await rows(database)} == {
        (key_id, "POST", SEND, "192.0.2.7")
    }

    service = UsageService(database=database, clock=clock)
    by_day = await service.of_key(PROJECT, key_id, "day", since=None, until=None)
    assert [(part.moment, part.status_class, part.requests, part.errors) for part in by_day.parts] == [
        ("2030-05-20", 2, 4, 0),
        ("2030-05-20", 4, 3, 3),
    ]
    assert (by_day.total.requests, by_day.total.errors, by_day.total.total_ms) == (7, 3, 110)
    by_hour = await service.of_project(PROJECT, "hour", since=None, until=None)
    assert [(part.moment, part.requests) for part in by_hour.parts] == [
        *(("2030-05-20 13", 1), ("2030-05-20 12", 4), ("2030-05-20 12", 2)),
    ]
    some = await service.of_project(PROJECT, "hour", since=NOON, until=NOON + timedelta(minutes=20))
    assert some.total.requests == 6
    assert (await service.of_project("other", "day", since=None, until=None)).parts == []


async def test_what_is_asked_for(database: Database, key_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = UsageService(database=database, clock=FakeClock(NOON))
    await add_project(database, "other", new_id())
    for project, key in (("other", key_id), (PROJECT, new_id()), (PROJECT, "x")):
        with pytest.raises(NotFoundError):
            await service.of_key(project, key, "day", since=None, until=None)
    for since, until in ((NOON, NOON), (NOON, NOON - timedelta(days=1)), (NOON - timedelta(days=94), NOON)):
        with pytest.raises(InvalidInputError):
            await service.of_project(PROJECT, "day", since=since, until=until)
    monkeypatch.setattr("msgcore.services.usage.MOST_ENTRIES", 2)
    usage = RequestUsage(database, FakeClock(NOON - timedelta(hours=2)))
    for number in range(3):
        note(usage, key_id, endpoint=f"/{number}")
    await usage.close()
    found = await service.of_project(PROJECT, "day", since=None, until=None)
    assert (len(found.parts), found.limited, found.total.requests) == (2, True, 3)


async def test_an_outage_loses_nothing_and_memory_is_bounded(
    database: Database, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_usage, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(request_usage, "MOST_COUNTED", 5)
    usage = RequestUsage(database, FakeClock(NOON))

    async def rename(old: str, new: str) -> None:
        async with database.write() as connection:
            await connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    await rename("api_key_usage", "away")
    for number in range(3):
        note(usage, key_id, endpoint=f"/{number}")
        while usage._counted:  # until it was tried to be written
            await asyncio.sleep(0.01)
    for number in range(50):
        note(usage, key_id, endpoint=f"/{number}")
    assert len(usage._counted) + len(usage._unwritten) <= 5
    await rename("away", "api_key_usage")
    await usage.close()
    counted = {row.endpoint: row.requests for row in await rows(database)}
    assert counted == {"/0": 2, "/1": 2, "/2": 1}


async def test_old_counts_go(database: Database, key_id: str) -> None:
    usage = RequestUsage(database, FakeClock(NOON))
    note(usage, key_id)
    await usage.close()
    now = datetime.now(UTC)
    assert [await purge(database, now - timedelta(days=1)), await purge(database, now + timedelta(days=1))] == [0, 1]
    assert await rows(database) == []

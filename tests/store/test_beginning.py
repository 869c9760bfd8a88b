"""Beginning attempts while others change the same deliveries."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from msgcore.core.deliveries import DeliveryState
from msgcore.store.database import Database
from msgcore.store.ledger.beginning import WorkItem, begin
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.tables import deliveries
from servers.patience import PATIENCE
from store.ledger_rows import NOW, PROJECT
from store.side_by_side import accept, states, until_somebody_waits


async def beside(database: Database, delivery_id: str, **values: Any) -> list[WorkItem]:
    """Begin while another transaction has changed the delivery and is not committed yet."""
    async with asyncio.timeout(PATIENCE):
        async with database.write() as connection:
            changed = update(deliveries).where(deliveries.c.id == delivery_id).values(values)
            await connection.execute(changed)
            if "state" in values:
                changes = CountChanges()
                (row,) = (await connection.execute(select(deliveries).where(deliveries.c.id == delivery_id))).all()
                changes.move(PROJECT, row.platform_id, row.platform, "queued", values["state"])
                await connection.run_sync(changes.apply)
            task = asyncio.create_task(begin(database, [delivery_id], NOW))
            await until_somebody_waits(database)
        return await task


@pytest.fixture
async def database(request: pytest.FixtureRequest) -> Any:
    opened = Database.open(request.getfixturevalue("postgres_url"))
    yield opened
    await opened.close()


async def test_what_was_cancelled_meanwhile_is_not_begun(database: Database) -> None:
    (one,) = await accept(database, "ann")
    assert await beside(database, one, state=DeliveryState.CANCELLED) == []
    assert await states(database) == {"cancelled": 1}


async def test_what_was_put_off_meanwhile_is_not_begun(database: Database) -> None:
    (one,) = await accept(database, "ann")
    later = NOW + timedelta(hours=1)
    put_off = {"state": DeliveryState.SCHEDULED, "due_at": later, "rescheduled_at": NOW}
    assert await beside(database, one, **put_off) == []
    assert await states(database) == {"scheduled": 1}


async def test_what_was_changed_meanwhile_is_begun_as_it_is_now(database: Database) -> None:
    (one,) = await accept(database, "ann")
    (item,) = await beside(database, one, attempts=4, throttles=2, state=DeliveryState.RETRYING)
    assert (item.attempt, item.throttles) == (5, 2)
    async with database.read() as connection:
        (row,) = (await connection.execute(select(deliveries))).all()
    assert (row.state, row.attempts, row.started_at) == ("sending", 5, NOW)
    assert await states(database) == {"sending": 1}


async def test_one_that_two_begin_is_begun_once_and_then_uncertain(database: Database) -> None:
    ids = await accept(database, *(f"u{number}" for number in range(20)))
    both = await asyncio.gather(begin(database, ids, NOW), begin(database, ids[::-1], NOW))
    attempts = sorted((item.id, item.attempt, item.uncertain) for items in both for item in items)
    assert attempts == sorted((id_, attempt, attempt == 2) for id_ in ids for attempt in (1, 2))
    assert await states(database) == {"sending": 20}

"""Following a project's events: nobody waits for news while there is more in the log."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from msgcore.inbound.bus import EventBus
from msgcore.services import event_streams
from msgcore.services.event_streams import EventFilter, EventStreamService
from msgcore.store.database import Database
from msgcore.store.events import PAGE_BYTES, NewEvent, append
from servers.adapters import attachment_links
from servers.patience import PATIENCE
from store.ledger_rows import NOW, PROJECT, add_project


@pytest.mark.parametrize(("number", "size"), [(450, 1), (7, PAGE_BYTES // 2)], ids=["many", "large"])
async def test_a_backlog_is_given_without_a_break(
    database: Database, monkeypatch: pytest.MonkeyPatch, number: int, size: int
) -> None:
    monkeypatch.setattr(event_streams, "LOOK_SECONDS", math.inf)
    await add_project(database)
    new = [NewEvent(PROJECT, "test", {"text": "x" * size}, NOW) for _ in range(number)]
    await database.transact(lambda connection: append(connection, new))
    service = EventStreamService(database=database, bus=EventBus(), links=attachment_links())
    wanted = EventFilter(PROJECT)
    start = await service.start_of(wanted, 0)

    async def follow() -> list[int]:
        found: list[int] = []
        async for page in service.follow(wanted, start, idle=math.inf):
            found += [event.sequence for event in page.events]
            if found[-1] == number:
                break
        return found

    async def turn_pages() -> list[int]:
        found: list[int] = []
        while len(found) < number:
            after = replace(start, after=found[-1] if found else 0)
            page = await service.page(wanted, after, limit=100, seconds=PATIENCE * 2)
            found += [event.sequence for event in page.events]
        return found

    nothing = service.page(EventFilter(PROJECT, types=("other",)), start, limit=100, seconds=0.1)
    async with asyncio.timeout(PATIENCE):
        *found, none = await asyncio.gather(follow(), turn_pages(), follow(), nothing)
    assert found == [list(range(1, number + 1))] * 3
    assert none.events == []

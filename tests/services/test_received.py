"""Where counting and deleting received messages stop, and where a chat's history stops looking for what was sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from msgcore.core.clock import SystemClock
from msgcore.core.ids import earliest_id, new_id
from msgcore.core.scopes import Principal
from msgcore.security.tokens import Tokens
from msgcore.services import received as service
from msgcore.services.authenticator import Authenticator
from msgcore.services.received import ReceivedService
from msgcore.store import received as store
from msgcore.store.database import Database
from msgcore.store.tables import received_messages
from servers.adapters import attachment_links
from store.ledger_rows import ACCOUNT, PROJECT, add_project

KEY = Principal(kind="api-key", id=new_id(), project_id=PROJECT)


def received(database: Database) -> ReceivedService:
    clock = SystemClock()
    return ReceivedService(
        database=database,
        authenticator=Authenticator(database, Tokens("s" * 32, clock), clock),
        links=attachment_links(),
        clock=clock,
    )


async def receive(database: Database, number: int, *, days: int = 0) -> None:
    moment = datetime.now(UTC) - timedelta(days=days)
    rows: list[dict[str, Any]] = [
        {
            "id": earliest_id(moment)[:14] + new_id()[14:],
            "project_id": PROJECT,
            "platform_id": ACCOUNT,
            "platform": "sandbox",
            "provider_message_id": new_id(),
            "provider_chat_id": "ann",
            "provider_user_id": "ann",
            "message_text": str(index),
            "message_type": "text",
            "raw_data": {},
            "received_at": moment,
        }
        for index in range(number)
    ]
    async with database.write() as connection:
        await connection.execute(insert(received_messages), rows)


async def test_a_long_cleanup_stops_and_goes_on_when_repeated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCH", 10)
    monkeypatch.setattr(service, "MOST_DELETED", 30)
    await add_project(database)
    await receive(database, 45, days=10)
    await receive(database, 5)
    done = [await received(database).clean_up(KEY, PROJECT, 9) for _ in range(3)]
    assert [(one.deleted, one.remaining) for one in done] == [(30, True), (15, False), (0, False)]
    stats = await received(database).stats(PROJECT)
    assert (stats.received.total, stats.limited) == (5, False)


async def test_counts_tell_where_they_stopped(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_COUNTED", 10)
    await add_project(database)
    await receive(database, 4)
    await receive(database, 8, days=2)
    stats = await received(database).stats(PROJECT)
    assert (stats.received.total, stats.received.recent, stats.limited) == (10, 4, True)

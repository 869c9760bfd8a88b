"""Answers by number: `2` presses the second button of a numbered list that was the last thing sent to the chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select

from inbound.test_reader import request
from msgcore.core.deliveries import DeliveryState, Ticket
from msgcore.inbound import recording
from msgcore.platforms.base import PlatformAdapter
from msgcore.platforms.sandbox.inbound import SandboxInbound
from msgcore.platforms.telegram import TelegramAdapter
from msgcore.platforms.twilio_sms import TwilioSmsAdapter
from msgcore.store.database import Database
from msgcore.store.inbound import keep, peek
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.beginning import begin
from msgcore.store.ledger.recording import WorkResult, record
from msgcore.store.tables import events, received_messages
from servers.deliveries import make_account
from store.ledger_rows import ACCOUNT, NOW, add_project, new_message

MENU = {
    "text": "Which?",
    "buttons": [{"text": "Red", "value": "r"}, {"text": "Map", "url": "https://a.example"}, {"text": "Blue"}],
}


@pytest.fixture
async def database(database: Database) -> Database:
    await add_project(database)
    return database


async def nobody(tickets: Sequence[Ticket]) -> None:
    del tickets


async def send(database: Database, content: dict[str, Any], chat: str = "room") -> None:
    new = new_message(chat)
    new.message["content"] = content
    await AcceptLog(database, nobody).accept(new)
    (item,) = await begin(database, [new.deliveries[0]["id"]], NOW)
    await record(
        database,
        [WorkResult(item, DeliveryState.SENT, "sent", NOW, provider_message_id=f"pm-{content['text']}", sent_at=NOW)],
    )


async def answer(database: Database, text: str, adapter: type[PlatformAdapter] = TwilioSmsAdapter) -> dict[str, Any]:
    """The event of an answer in the chat, without what all have."""
    await database.transact(lambda connection: keep(connection, [request(text)]))
    waiting = await peek(database, ACCOUNT, 1)
    readings = recording.read(adapter, SandboxInbound(), make_account("sandbox", {}), waiting.requests)
    await database.transact(lambda connection: recording.record(connection, adapter, ACCOUNT, readings, NOW))
    async with database.read() as connection:
        newest = select(events.c.type, events.c.data).order_by(events.c.sequence.desc()).limit(1)
        row = (await connection.execute(newest)).one()
        stored = (await connection.execute(select(received_messages.c.message_text))).scalars().all()
    assert text in stored  # whatever it is told as
    told = ("text", "button_value", "button_label", "provider_message_id")
    return {"type": row.type} | {name: row.data[name] for name in told if name in row.data}


@pytest.mark.parametrize(
    ("text", "value", "label"), [("1", "r", "Red"), (" 2. ", "Blue", "Blue"), ("2)", "Blue", "Blue")]
)
async def test_a_number_presses_the_button(database: Database, text: str, value: str, label: str) -> None:
    await send(database, MENU)
    assert await answer(database, text) == {
        "type": "button.clicked",
        "button_value": value,
        "button_label": label,
        "provider_message_id": "pm-Which?",
    }


@pytest.mark.parametrize("text", ["3", "0", "2 please", "12", "２"])
async def test_what_is_no_number_of_the_list_is_a_message(database: Database, text: str) -> None:
    await send(database, MENU)
    assert (await answer(database, text))["type"] == "message.received"


async def test_only_the_message_that_was_sent_last_is_answered(database: Database) -> None:
    await send(database, MENU)
    await send(database, {"text": "How many?"})
    assert (await answer(database, "2"))["type"] == "message.received"
    await send(database, MENU)
    await send(database, {"text": "elsewhere"}, chat="other")
    assert (await answer(database, "1"))["type"] == "button.clicked"


async def test_buttons_that_were_shown_as_such_have_no_numbers(database: Database) -> None:
    await send(database, MENU)
    assert (await answer(database, "2", TelegramAdapter))["type"] == "message.received"
    await send(database, {**MENU, "buttons": [{"text": "Long", "value": "x" * 65}]})
    assert (await answer(database, "1", TelegramAdapter))["type"] == "button.clicked"

"""Telegram beyond what holds for every platform: answers on the spot, its limits, and changing messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import Action, Delete, Edit
from msgcore.core.content import SendOptions
from msgcore.core.errors import PermanentError
from msgcore.core.ids import new_id
from msgcore.core.limits import Budget
from msgcore.dispatch.tickets import tickets_of
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.receiving import InboundRequest
from msgcore.platforms.telegram import LIMITS, TelegramAdapter
from msgcore.platforms.telegram.inbound import TelegramInbound
from msgcore.store.ledger.feed import OpenDelivery
from platforms.telegram.facts import answers, arguments, check
from servers.deliveries import make_account, make_action, make_content
from servers.http_sink import HttpSink

ANSWERS = [
    (b'{"update_id":1,"callback_query":{"id":"42"}}', {"method": "answerCallbackQuery", "callback_query_id": "42"}),
    (b'{"update_id":1,"message":{"text":"\\"callback_query\\""}}', {"success": True}),
    (b'{"callback_query":1,"x":"callback_query"}', {"success": True}),
    (b'{"callback_query":{}}', {"success": True}),
    (b'["callback_query"]', {"success": True}),
    (b'{"callback_query"', {"success": True}),
]


@pytest.mark.parametrize(("body", "answer"), ANSWERS)
def test_a_pressed_button_is_answered_at_once_and_whatever_else_is_taken(
    body: bytes, answer: dict[str, object]
) -> None:
    request = InboundRequest("POST", {}, "", body, datetime.now(UTC))
    assert msgspec.json.decode(TelegramInbound().reply(request).body) == answer


@pytest.mark.parametrize(
    ("lane", "a_minute"),
    [
        ("user:123456789", None),
        ("chat:123456789", None),
        ("chat:-1001234567890", 20),
        ("group:-42", 20),
        ("channel:@news_of_today", 20),
        (None, None),
    ],
)
def test_groups_are_written_to_more_slowly(lane: str | None, a_minute: int | None) -> None:
    now = datetime.now(UTC)
    [ticket] = tickets_of(
        [OpenDelivery(new_id(), new_id(), "telegram", lane, 0, now, tried=False)], {"telegram": LIMITS}, now
    )
    assert ticket.limits.account == LIMITS.account
    assert ticket.limits.lane[0] == Budget(1, 1.02)
    assert [budget.count for budget in ticket.limits.lane[1:]] == ([] if a_minute is None else [a_minute])


# --- messages that are there

MESSAGE = "-100200:42"
NEW = Edit(
    message_id=MESSAGE,
    content=make_content(
        markdown="**new**",
        buttons=[{"text": "B", "value": "b"}],
        platformOptions={"telegram": {"disableLinkPreview": True, "protectContent": True}},
    ),
)
GONE = Delete(message_id=MESSAGE)
NO_TEXT = "there is no text in the message to edit"
SAME = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current "
    "content and reply markup of the message"
)
ENDINGS: list[tuple[Action, dict[str, str], list[str], str | None]] = [
    (NEW, {}, ["editMessageText"], None),
    (NEW, {"editMessageText": SAME}, ["editMessageText"], None),
    (NEW, {"editMessageText": NO_TEXT}, ["editMessageText", "editMessageCaption"], None),
    (NEW, {"editMessageText": NO_TEXT, "editMessageCaption": SAME}, ["editMessageText", "editMessageCaption"], None),
    (NEW, {"editMessageText": "message to edit not found"}, ["editMessageText"], "message_unknown"),
    (NEW, {"editMessageText": "message can't be edited"}, ["editMessageText"], "message_fixed"),
    (GONE, {}, ["deleteMessage"], None),
    (GONE, {"deleteMessage": "message to delete not found"}, ["deleteMessage"], None),
    (GONE, {"deleteMessage": "message can't be deleted for everyone"}, ["deleteMessage"], "message_fixed"),
]
SHOWN_AS = [
    ({"url": "https://x.example/a.png"}, "sendPhoto"),
    ({"data": "QUJDRA==", "filename": "a.mp4"}, "sendVideo"),
    ({"data": "QUJDRA==", "filename": "a.png", "mimeType": "application/octet-stream"}, "sendDocument"),
    ({"data": "QUJDRA==", "filename": "a.svg"}, "sendDocument"),
    ({"url": "https://x.example/a"}, "sendDocument"),
]


@pytest.mark.parametrize(("file", "method"), SHOWN_AS)
def test_a_file_is_shown_by_its_type_or_its_name(file: dict[str, str], method: str) -> None:
    [call] = TelegramAdapter.render(make_content(attachments=[file]), SendOptions()).calls
    assert call.method == method


@pytest.mark.parametrize(("action", "wrong", "methods", "code"), ENDINGS)
async def test_what_is_done_already_is_done(
    services: AdapterServices,
    sink: HttpSink,
    action: Action,
    wrong: dict[str, str],
    methods: list[str],
    code: str | None,
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        method, _given, _files = arguments(sink.requests[-1])
        if method in wrong:
            said = {"ok": False, "error_code": 400, "description": f"Bad Request: {wrong[method]}"}
            return web.json_response(said, status=400)
        status, body = answers(sink.requests[-1])
        return web.json_response(body, status=status)

    sink.answer = answer
    services.base_urls["telegram"] = sink.url
    adapter = TelegramAdapter(services)
    account = make_account("telegram", {"token": "123456789:AAExampleExampleExampleExampleExam"})
    done = adapter.act(account, make_action("-100200", action, target_type="group"))
    if code is None:
        assert (await done).provider_message_id is None
    else:
        with pytest.raises(PermanentError) as raised:
            await done
        assert raised.value.code == code
    assert [check(request) for request in sink.requests] == methods
    bodies: list[dict[str, Any]] = [arguments(request)[1] for request in sink.requests]
    assert {(body["chat_id"], body["message_id"]) for body in bodies} == {("-100200", 42)}
    keyboard = {"inline_keyboard": [[{"text": "B", "callback_data": "b"}]]}
    assert [body.get("reply_markup") for body in bodies] == [keyboard if action is NEW else None] * len(bodies)

"""What Telegram is answered on the spot."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from msgcore.platforms.receiving import InboundRequest
from msgcore.platforms.telegram.inbound import TelegramInbound

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

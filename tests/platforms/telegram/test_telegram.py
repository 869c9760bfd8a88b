"""What Telegram is answered on the spot, and how fast it may be written to."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from msgcore.core.ids import new_id
from msgcore.core.limits import Budget
from msgcore.dispatch.tickets import tickets_of
from msgcore.platforms.receiving import InboundRequest
from msgcore.platforms.telegram import LIMITS
from msgcore.platforms.telegram.inbound import TelegramInbound
from msgcore.store.ledger.feed import OpenDelivery

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

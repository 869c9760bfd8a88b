"""The platforms that `bench/limits.py` sends to refuse what their documentation says, as it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from bench.http_server import Request
from bench.limit_rules import PLATFORMS, FixedWindow, SlidingWindow


def post(platform: str) -> Callable[[str, float], tuple[int, dict[str, str], Any]]:
    """A caller of a fresh account: to whom and when; gives status, headers and body."""
    rules = PLATFORMS[platform]()
    bodies = {"telegram": "chat_id", "slack": "channel", "whatsapp-cloud": "to", "discord": "unused"}

    def send(to: str, now: float) -> tuple[int, dict[str, str], Any]:
        path = f"/api/v10/channels/{to}/messages"
        answer = rules.answer(Request("POST", path, b"", json.dumps({bodies[platform]: to}).encode()), now)
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, json.loads(body)

    return send


@pytest.mark.parametrize(
    ("platform", "allowed", "lanes", "period"),
    [
        pytest.param("telegram", 30, "{n}", 1.0, id="telegram: 30 a second in all"),
        pytest.param("telegram", 1, "7", 1.0, id="telegram: 1 a second to a chat"),
        pytest.param("discord", 50, "{n}", 1.0, id="discord: 50 a second in all"),
        pytest.param("discord", 5, "7", 5.0, id="discord: 5 in 5 seconds to a channel"),
        pytest.param("slack", 1, "C7", 1.0, id="slack: 1 a second to a channel"),
        pytest.param("whatsapp-cloud", 80, "{n}", 1.0, id="whatsapp: 80 a second of a number"),
        pytest.param("whatsapp-cloud", 1, "7", 6.0, id="whatsapp: 1 in 6 seconds to a recipient"),
    ],
)
def test_one_more_than_allowed_is_refused_until_the_period_is_over(platform, allowed, lanes, period) -> None:
    send = post(platform)
    step = period / allowed / 2
    sent = [send(lanes.format(n=n), 100 + n * step)[0] for n in range(allowed)]
    one_more = lanes.format(n=allowed)
    assert sent == [200] * allowed
    assert send(one_more, 100 + period - 0.001)[0] in (400, 429)
    assert send(one_more, 100 + period)[0] == 200


def test_telegram_takes_20_a_minute_to_a_group() -> None:
    send = post("telegram")
    assert [send("-5", 100 + n)[0] for n in range(20)] == [200] * 20
    status, _, body = send("-5", 130.5)
    assert (status, body["parameters"]) == (429, {"retry_after": 30})
    assert send("-5", 160)[0] == 200


def test_discord_tells_what_is_left_of_its_bucket() -> None:
    send = post("discord")
    _, headers, _ = send("7", 100.0)
    assert headers["x-ratelimit-limit"] == "5"
    assert headers["x-ratelimit-remaining"] == "4"
    assert headers["x-ratelimit-reset-after"] == "5.000"
    for n in range(4):
        _, headers, _ = send("7", 101.0 + n)
    assert (headers["x-ratelimit-remaining"], headers["x-ratelimit-reset-after"]) == ("0", "1.000")
    status, headers, body = send("7", 104.5)
    assert (status, body["global"], headers["x-ratelimit-scope"]) == (429, False, "user")
    assert 0.5 <= body["retry_after"] <= 0.502
    assert headers["retry-after"] == "1"


def test_discord_says_when_the_whole_bot_is_limited() -> None:
    send = post("discord")
    for n in range(50):
        send(str(n), 100.0)
    status, headers, body = send("50", 100.5)
    assert (status, body["global"]) == (429, True)
    assert (headers["x-ratelimit-scope"], headers["x-ratelimit-global"]) == ("global", "true")


def test_slack_asks_to_wait_whole_seconds() -> None:
    send = post("slack")
    send("C1", 100.0)
    status, headers, body = send("C1", 100.2)
    assert (status, headers["retry-after"], body) == (429, "1", {"ok": False, "error": "ratelimited"})


def test_whatsapp_tells_its_limits_apart_by_code() -> None:
    send = post("whatsapp-cloud")
    send("1", 100.0)
    assert send("1", 101.0)[2]["error"]["code"] == 131056
    for n in range(2, 82):
        send(str(n), 102.0)
    status, _, body = send("82", 102.5)
    assert (status, body["error"]["code"]) == (400, 130429)


def test_a_refused_call_uses_nothing_up() -> None:
    window = SlidingWindow(1, 1.0)
    window.add(100.0)
    assert window.wait(100.4) == pytest.approx(0.6)
    assert window.wait(101.0) == 0


def test_a_bucket_begins_with_its_first_call() -> None:
    bucket = FixedWindow(2, 5.0)
    bucket.add(103.0)
    bucket.add(107.9)
    assert bucket.wait(107.95) == pytest.approx(0.05)
    assert bucket.add(108.5) == pytest.approx(0.5)
    assert (bucket.remaining, bucket.reset_after(108.5)) == (1, 5.0)

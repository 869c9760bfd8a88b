"""What tests know of ntfy: its answers, its errors, and what its documentation says of requests."""

from __future__ import annotations

from typing import Any

import msgspec

from servers.facts import Facts, Throttle
from servers.http_sink import Request
from specs import ntfy


def answers(request: Request) -> tuple[int, Any]:
    """The message, as it is published."""
    known: dict[str, Any] = msgspec.json.decode(request.body) if request.path == "/" else {"topic": "alerts"}
    about = {"id": "wze9zgqK41ab", "time": 1638542110, "expires": 1638543112, "event": "message"}
    return 200, about | {name: known[name] for name in ("topic", "message", "sequence_id") if name in known}


def check(request: Request) -> str:
    """By the documentation, as `specs/ntfy.json` has it."""
    assert request.headers["Authorization"] == "Bearer tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"
    return ntfy.check(request.method, request.path, request.headers, request.body)


def credentials(url: str) -> dict[str, Any]:
    """The address of the server."""
    return {"serverUrl": url}


def _limit(code: int, words: str, seconds: float) -> Throttle:
    return Throttle(429, {"code": code, "http": 429, "error": f"limit reached: {words}"}, seconds=seconds)


FACTS = Facts(
    target="alerts",
    message_id="alerts:wze9zgqK41ab",
    answers=answers,
    check=check,
    credentials=credentials,
    throttles=(
        _limit(42901, "too many requests", 5),
        _limit(42908, "daily message quota reached", 3600),
        _limit(42911, "too many new topics, please wait", 60),
        Throttle(429, {}, {"Retry-After": "120"}, seconds=120),  # of a proxy in front
    ),
)

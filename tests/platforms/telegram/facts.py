"""What tests know of Telegram: its answers, its documented errors, and its published description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from msgcore.platforms.base import Account
from msgcore.platforms.telegram.inbound import webhook_secret
from servers.facts import Facts, Throttle
from servers.http_sink import Request
from servers.multipart import read_form
from specs.telegram import check_method

_PATH = re.compile(r"/bot(?P<token>[0-9]+:[\w-]+)/(?P<method>\w+)")


def arguments(request: Request) -> tuple[str, dict[str, Any], Mapping[str, bytes]]:
    """The method of a request, its arguments, and its files."""
    match = _PATH.fullmatch(request.path)
    assert match is not None, request.path
    if not request.body:
        return match["method"], {}, {}
    if request.headers["Content-Type"].startswith("application/json"):
        return match["method"], msgspec.json.decode(request.body), {}
    fields, files = read_form(request)
    return match["method"], {name: _value(text) for name, text in fields.items()}, files


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def answers(request: Request) -> tuple[int, Any]:
    """A message, or an album of them."""
    method, given, _ = arguments(request)
    message = {"message_id": 42, "date": 1700000000, "chat": {"id": 123456789, "type": "private"}}
    return 200, {"ok": True, "result": [message] * len(given["media"]) if method == "sendMediaGroup" else message}


def check(request: Request) -> str:
    """By the description of the Bot API."""
    method, given, files = arguments(request)
    check_method(method, given, files)
    return method


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As Telegram does once `setWebhook` gave it the secret."""
    del body
    return {"X-Telegram-Bot-Api-Secret-Token": webhook_secret(account)}


FACTS = Facts(
    sign=sign,
    target="123456789",
    answers=answers,
    check=check,
    throttles=(
        Throttle(
            429,
            {
                "ok": False,
                "error_code": 429,
                "description": "Too Many Requests: retry after 14",
                "parameters": {"retry_after": 14},
            },
            seconds=14,
        ),
    ),
)

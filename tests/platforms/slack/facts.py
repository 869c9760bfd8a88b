"""What tests know of Slack: its answers, its documented errors, and its published description."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from msgcore.platforms.base import Account
from msgcore.platforms.slack.inbound import sign as signature
from servers.facts import Facts, Throttle
from servers.http_sink import Request
from specs.slack import JSON, check_method

UPLOAD = "/upload/v1/CwABAAAAAgAKAAA"
"""Where Slack tells to upload a file (https://docs.slack.dev/reference/methods/files.getUploadURLExternal)."""
CHANNEL, TS, FILE = "C024BE91L", "1503435956.000247", "F024BERPE"

_PATH = re.compile(r"/(?P<method>[a-z]+\.[A-Za-z]+)")


def arguments(request: Request) -> tuple[str, dict[str, Any]]:
    """The method of a request, and its arguments; `upload` for the bytes of a file."""
    if request.path == UPLOAD:
        return "upload", {"bytes": request.body}
    match = _PATH.fullmatch(request.path)
    assert match is not None, request.path
    assert request.headers["Authorization"].startswith("Bearer xoxb-")
    if request.headers["Content-Type"].startswith(JSON):
        return match["method"], msgspec.json.decode(request.body)
    return match["method"], dict(parse_qsl(request.body.decode(), strict_parsing=True))


def answers(request: Request) -> tuple[int, Any]:
    """As on the methods' pages."""
    method, given = arguments(request)
    more: dict[str, dict[str, Any]] = {
        "files.getUploadURLExternal": {"upload_url": f"http://{request.headers['Host']}{UPLOAD}", "file_id": FILE},
        "files.completeUploadExternal": {"files": [{"id": FILE, "title": "slack-test"}]},
        "conversations.open": {"channel": {"id": "D069C7QFK"}},
    }
    return 200, {"ok": True, **more.get(method, {"channel": given.get("channel"), "ts": TS})}


def check(request: Request) -> str:
    """By the description of the Web API."""
    method, given = arguments(request)
    if method != "upload":
        check_method(method, given, request.headers["Content-Type"].partition(";")[0])
    return method


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As https://docs.slack.dev/authentication/verifying-requests-from-slack has it."""
    at = str(int(time.time()))
    return {
        "X-Slack-Request-Timestamp": at,
        "X-Slack-Signature": signature(account.credentials["signingSecret"], at, body),
    }


FACTS = Facts(
    sign=sign,
    target=CHANNEL,
    message_id=f"{CHANNEL}:1700000000.000100",
    target_type="channel",
    answers=answers,
    check=check,
    throttles=(
        Throttle(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "30"}, seconds=30),
        Throttle(200, {"ok": False, "error": "rate_limited"}, seconds=5),
    ),
)

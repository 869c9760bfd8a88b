"""What tests know of the Cloud API: its answers, its documented errors, and its published description."""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import Any

import msgspec

from msgcore.platforms.base import Account
from servers.facts import Facts, Throttle
from servers.http_sink import Request
from servers.multipart import read_form
from specs.whatsapp import check_message, check_upload

_PATH = re.compile(r"/106540352242922/(messages|media)")


def answers(request: Request) -> tuple[int, Any]:
    """What a message or an upload is answered."""
    if request.path.endswith("/media"):
        return 200, {"id": "4490709327384033"}
    if b'"status":"read"' in request.body:
        return 200, {"success": True}
    sent = {"id": "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBJCOTY3NDc0NDFDRUI3NTA0Q0UA"}
    who = {"input": "+16505551234", "wa_id": "16505551234"}
    return 200, {"messaging_product": "whatsapp", "contacts": [who], "messages": [sent]}


def check(request: Request) -> str:
    """By Meta's description."""
    match = _PATH.fullmatch(request.path)
    assert match is not None, request.path
    assert request.headers["Authorization"].startswith("Bearer EAAJB")
    if match[1] == "messages":
        return check_message(msgspec.json.decode(request.body))
    fields, files = read_form(request)
    check_upload([*fields, *files])
    return "media"


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As Meta does."""
    digest = hmac.new(account.credentials["appSecret"].encode(), body, sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def error(code: int, message: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": f"(#{code}) {message}", "type": "OAuthException", "code": code}}


USAGE = '{"419561257915477":[{"type":"whatsapp","call_count":101,"estimated_time_to_regain_access":2}]}'

FACTS = Facts(
    sign=sign,
    target="+16505551234",
    message_id="wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI3N0EyQUJDMjFEQzZCQUMzODMA",
    answers=answers,
    check=check,
    throttles=(
        Throttle(400, error(131056, "pair rate limit hit"), seconds=6),
        Throttle(400, error(80007, "Rate limit issues"), {"X-Business-Use-Case-Usage": USAGE}, seconds=120),
        Throttle(400, error(130429, "Rate limit hit"), seconds=5),
    ),
)

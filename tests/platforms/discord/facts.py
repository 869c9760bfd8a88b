"""What tests know of Discord: its answers, its documented errors, and its published description."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from msgcore.platforms.base import Account
from servers.facts import Facts, Throttle
from servers.http_sink import Request
from servers.multipart import read_form
from specs.discord import check_request

CHANNEL, MESSAGE, DIRECT, PERSON = "290926798626357999", "306588351130107906", "319674150115610528", "53908099506183680"
KEY = Ed25519PrivateKey.from_private_bytes(b"discord".ljust(32, b"."))
"""Whose public half is the example of the declaration."""


def arguments(request: Request) -> tuple[Any, Mapping[str, bytes]]:
    """The JSON of a request, and its files."""
    assert request.headers["Authorization"].startswith("Bot ")
    assert request.headers["User-Agent"].startswith("DiscordBot (https://")  # reference#user-agent
    kind = request.headers.get("Content-Type", "")
    if kind.startswith("multipart/form-data"):
        fields, files = read_form(request)
        return msgspec.json.decode(fields["payload_json"]), files
    return (msgspec.json.decode(request.body) if request.body else None), {}


def answers(request: Request) -> tuple[int, Any]:
    """A message, or the channel that was opened (resources/user#create-dm)."""
    if request.path == "/users/@me/channels":
        return 200, {"id": DIRECT, "type": 1, "recipients": [{"id": PERSON, "username": "test"}]}
    if request.path == "/applications/@me":
        return 200, {"id": CHANNEL, "name": "App", "bot_public": True, **msgspec.json.decode(request.body)}
    if request.method == "POST" and request.path.endswith("/messages"):
        return 200, {"id": MESSAGE, "channel_id": request.path.split("/")[-2], "content": ""}
    return 200, {}


def check(request: Request) -> str:
    """By the description of the API."""
    return check_request(request.method, unquote(request.path), *arguments(request))


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As interactions/overview#setting-up-an-endpoint has it."""
    assert account.credentials["publicKey"] == KEY.public_key().public_bytes_raw().hex()
    at = str(int(time.time()))
    return {"X-Signature-Timestamp": at, "X-Signature-Ed25519": KEY.sign(at.encode() + body).hex()}


def _limited(wait: float, scope: str) -> Throttle:
    """topics/rate-limits#exceeding-a-rate-limit."""
    body = {"message": "You are being rate limited.", "retry_after": wait, "global": scope == "global"}
    return Throttle(429, body, {"Retry-After": str(int(wait) + 1), "X-RateLimit-Scope": scope}, seconds=wait)


FACTS = Facts(
    target=CHANNEL,
    target_type="channel",
    message_id=f"{CHANNEL}:{MESSAGE}",
    thread_id=MESSAGE,  # a thread has the id of the message that it began with
    answers=answers,
    check=check,
    sign=sign,
    throttles=(
        _limited(64.57, "user"),
        _limited(1336.57, "shared"),
        _limited(64.57, "global"),
        Throttle(429, {}, {"Retry-After": "120"}, seconds=120),  # of Cloudflare, before Discord's own server
    ),
)

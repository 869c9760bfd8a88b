"""What tests know of LINE: its answers, its documented errors, and its published description."""

from __future__ import annotations

from typing import Any

import msgspec

from msgcore.platforms.base import Account
from msgcore.platforms.line.inbound import sign as signature
from servers.facts import Facts, Throttle
from servers.http_sink import Request
from specs import line

PERSON, GROUP = "U4af4980629a1d6b6a3e5b8d1c2f3a4b5", "Ca56f94637cc4347f90a25382909b24b9"
SENT = "461230966842064897"


def answers(request: Request) -> tuple[int, Any]:
    """As at each endpoint of the reference."""
    if request.path == "/v2/bot/message/push":
        count = len(msgspec.json.decode(request.body)["messages"])
        return 200, {
            "sentMessages": [{"id": str(int(SENT) + each), "quoteToken": "IStG5h1Tz7b"} for each in range(count)]
        }
    if request.path == "/v2/bot/chat/loading/start":
        return 202, {}
    if request.method == "GET" and request.path.endswith("/endpoint"):
        return 200, {"endpoint": "https://example.com/test", "active": True}
    if request.path.endswith("/transcoding"):
        return 200, {"status": "succeeded"}
    return 200, {}


def check(request: Request) -> str:
    """By LINE's description."""
    return line.check(request.method, request.path, request.headers, request.body)


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As LINE does."""
    return {"X-Line-Signature": signature(account.credentials["channelSecret"], body)}


FACTS = Facts(
    sign=sign,
    target=PERSON,
    message_id="444573844083572737",
    answers=answers,
    check=check,
    throttles=(
        Throttle(429, {"message": "The API rate limit has been exceeded. Try again later."}, seconds=5),
        Throttle(429, {"message": "You have reached your monthly limit."}, seconds=3600),
    ),
)

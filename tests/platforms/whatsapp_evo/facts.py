"""What tests know of the Evolution API: its answers, its errors, and its published description."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from msgcore.platforms.base import Account
from msgcore.platforms.whatsapp_evo.inbound import webhook_secret
from servers.facts import Facts, Throttle
from servers.http_sink import Request
from specs.whatsapp import check_evolution

_PATH = re.compile(r"/((?:message|chat|webhook)/\w+)/msgcore")


DELETE = "chat/deleteMessageForEveryone"


def answers(request: Request) -> tuple[int, Any]:
    """A message, as sending answers it."""
    del request
    key = {"remoteJid": "553198296801@s.whatsapp.net", "fromMe": True, "id": "BAE594145F4C59B4"}
    return 201, {"key": key, "messageTimestamp": "1717689097", "status": "PENDING"}


def check(request: Request) -> str:
    """By the description of the Evolution API."""
    match = _PATH.fullmatch(request.path)
    assert match is not None, request.path
    assert request.method == ("DELETE" if match[1] == DELETE else "POST")
    assert request.headers["apikey"]
    check_evolution(match[1], msgspec.json.decode(request.body))
    return match[1]


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As the server does once `webhook/set` gave it the header."""
    del body
    return {"X-MsgCore-Webhook-Secret": webhook_secret(account)}


def credentials(url: str) -> dict[str, Any]:
    """The address of the server."""
    return {"evolutionApiUrl": url}


FACTS = Facts(
    sign=sign,
    target="553198296801",
    message_id="553198296801@s.whatsapp.net:3EB03E3CA617ADA52AEA79",
    answers=answers,
    check=check,
    credentials=credentials,
    throttles=(
        Throttle(
            400,
            {"status": 400, "error": "Bad Request", "response": {"message": ["Error: rate-overlimit"]}},
            seconds=5,
        ),
    ),
)

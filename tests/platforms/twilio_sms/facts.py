"""What tests know of Twilio's messages: answers, signatures, and the published OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

from msgcore.platforms.base import Account
from msgcore.platforms.twilio_sms.inbound import sign as signature
from servers.facts import Facts, Throttle
from servers.http_sink import Request
from specs.forms import check_form, fields_of, load

SPEC = load("twilio-messages.json")
_PATH = re.compile(re.escape(SPEC["path"]).replace(re.escape("{AccountSid}"), "(?P<account>[^/]+)"))
SID = "SM0123456789abcdef0123456789abcdef"
TOO_MANY = {
    "code": 20429,
    "message": "Too Many Requests",
    "more_info": "https://www.twilio.com/docs/errors/20429",
    "status": 429,
}


def answers(request: Request) -> tuple[int, Any]:
    """A message that was created, or that there is none yet."""
    if request.method == "GET":
        return 200, {"messages": []}
    form = dict(fields_of(request))
    return 201, {"sid": SID, "status": "queued", "to": form["To"], "body": form.get("Body", ""), "error_code": None}


def check(request: Request) -> str:
    """By the description of "Create a Message"."""
    match = _PATH.fullmatch(request.path)
    assert match is not None, request.path
    assert re.fullmatch(SPEC["account"]["pattern"], match["account"])
    assert request.headers["Authorization"].startswith("Basic ")
    form = check_form(fields_of(request), SPEC["create"], components=SPEC["components"])
    assert "Body" in form or "MediaUrl" in form
    assert len(form.get("Body", "")) <= 1600
    return "CreateMessage"


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As Twilio does."""
    fields = fields_of(Request("POST", "", {"Content-Type": "application/x-www-form-urlencoded"}, body))
    return {"X-Twilio-Signature": signature(account.credentials["authToken"], account.webhook_url, fields)}


FACTS = Facts(
    target="+15558675310",
    answers=answers,
    check=check,
    sign=sign,
    throttles=(
        Throttle(429, TOO_MANY, seconds=5),
        Throttle(429, TOO_MANY, {"Retry-After": "3"}, seconds=3),
    ),
)

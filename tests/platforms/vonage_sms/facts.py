"""What tests know of Vonage's SMS API: answers, and the published OpenAPI document."""

from __future__ import annotations

from typing import Any

from msgcore.outbound.sms import Encoding, size_of
from servers.facts import Facts, Throttle
from servers.http_sink import Request
from specs.forms import check_form, fields_of, load

SPEC = load("vonage-sms.json")


def answers(request: Request) -> tuple[int, Any]:
    """A message of as many parts as it has segments, as in https://developer.vonage.com/en/api/sms."""
    form = dict(fields_of(request))
    part = {"to": form["to"], "status": "0", "remaining-balance": "3.14159265", "network": "12345"}
    part |= {"client-ref": form["client-ref"]} if "client-ref" in form else {}
    parts = [{**part, "message-id": f"0A000000{number:08X}"} for number in range(size_of(form["text"]).segments)]
    return 200, {"message-count": str(len(parts)), "messages": parts}


def check(request: Request) -> str:
    """By the description of "Send an SMS"."""
    assert request.path == SPEC["path"].format(format="json")
    form = check_form(fields_of(request), SPEC["NewMessage"])
    assert form.get("type", "text") == ("unicode" if size_of(form["text"]).encoding is Encoding.UCS_2 else "text")
    assert len(form.get("client-ref", "")) <= 40
    return "send-an-sms"


def _said(text: str) -> dict[str, Any]:
    return {"message-count": "1", "messages": [{"status": "1", "error-text": text}]}


FACTS = Facts(
    target="+447700900000",
    answers=answers,
    check=check,
    throttles=(
        Throttle(200, _said("Throttled"), seconds=5),
        Throttle(200, _said("Throughput Rate Exceeded - please wait [ 1500 ] and retry"), seconds=1.5),
    ),
)

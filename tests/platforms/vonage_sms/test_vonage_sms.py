"""What only Vonage has: its signatures, and messages that it takes, and reports, in parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from aiohttp import web

from msgcore.core.errors import TemporaryError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account
from msgcore.platforms.receiving import InboundRequest, SignatureError
from msgcore.platforms.vonage_sms import VonageSmsAdapter
from msgcore.platforms.vonage_sms.inbound import METHODS, sign
from platforms.vonage_sms.facts import answers, check
from servers.deliveries import make_account, make_content, make_delivery
from servers.http_sink import HttpSink
from specs.forms import fields_of

CREDENTIALS = {"apiKey": "abcd1234", "apiSecret": "abcdef0123456789", "from": "+447700900001"}
SIGNING = {"signatureSecret": "my_secret_key_for_testing", "signatureMethod": "sha256"}
WEBHOOK = "https://msg.example.com/api/v1/webhooks/vonage-sms/0190a000-0000-4000-8000-000000000001"
RECIPIENT = "+447700900000"

# https://github.com/Vonage/vonage-node-sdk, packages/sms/__tests__/__dataSets__/signature.ts
FIELDS = {
    "message-timestamp": "2013-11-21 15:27:30",
    "messageId": "020000001B0FE827",
    "msisdn": "14843472194",
    "text": "Test again",
    "timestamp": "1385047698",
    "to": "13239877404",
    "type": "text",
}
SIGNATURES = {
    "md5hash": "d2e7b1dc968737c5998ad624e02f90b7",
    "md5": "DDEBD46008C2D4E93CCE578A332A52D5",
    "sha1": "27D0D05C2876C7CB1720DBCDBA4D492E1E55C09A",
    "sha256": "DDB8397C2B90AAC7F3882D306475C9A5058C92322EEF43C92B298B6E0FC0D330",
    "sha512": "E0D3C650F8C9D1A5C174D10DDDBFB003E561F59B265616208B0487C5D819481C"
    "D3C311D59CF6165ECD1139622D5BA3A256C0D763AC4A9AD9144B5A426B94FE82",
}
SIGNED_AT = datetime.fromtimestamp(int(FIELDS["timestamp"]), UTC)


@pytest.fixture
def adapter(services: AdapterServices, sink: HttpSink) -> VonageSmsAdapter:
    services.base_urls["vonage-sms"] = sink.url
    return VonageSmsAdapter(services)


def account(**more: Any) -> Account:
    return make_account("vonage-sms", CREDENTIALS | SIGNING | more, webhook_url=WEBHOOK)


def requests(fields: dict[str, Any], at: datetime = SIGNED_AT) -> list[InboundRequest]:
    """A request in each form that it may come in."""
    form = urlencode(fields)
    return [
        InboundRequest("GET", {}, form, b"", at),
        InboundRequest("POST", {}, "", form.encode(), at),
        InboundRequest("POST", {}, "", msgspec.json.encode(fields), at),
    ]


def refuses(request: InboundRequest, mine: Account | None = None) -> None:
    with pytest.raises(SignatureError):
        VonageSmsAdapter.inbound.verify(mine or account(), request)


@pytest.mark.parametrize("method", METHODS)
def test_signatures_are_those_of_vonages_libraries(method: str) -> None:
    mine = account(signatureMethod=method)
    for request in requests(FIELDS | {"sig": SIGNATURES[method]}):
        VonageSmsAdapter.inbound.verify(mine, request)
    for wrong in ({"text": "Test Again"}, {"more": "x"}, {"sig": ""}, {"sig": "\xe4"}):
        for request in requests(FIELDS | {"sig": SIGNATURES[method]} | wrong):
            refuses(request, mine)


def test_signatures_are_refused_when_they_are_old_or_cannot_be_checked() -> None:
    signed = FIELDS | {"sig": SIGNATURES["sha256"]}
    repeated, old = (requests(signed, SIGNED_AT + timedelta(hours=hours))[0] for hours in (24, 26))
    VonageSmsAdapter.inbound.verify(account(), repeated)
    refuses(old)
    refuses(repeated, make_account("vonage-sms", CREDENTIALS))
    for stamp in ({}, {"timestamp": "-1"}, {"timestamp": "soon"}, {"timestamp": "9" * 40}):
        fields = {name: text for name, text in FIELDS.items() if name != "timestamp"} | stamp
        refuses(requests(fields | {"sig": sign(SIGNING["signatureSecret"], "sha256", fields)})[0])
    refuses(InboundRequest("POST", {}, "", b"\xff", SIGNED_AT))


def test_names_of_fields_are_what_they_were_when_they_were_signed() -> None:
    signature = SIGNATURES["sha256"]
    merged = {name: text for name, text in FIELDS.items() if name not in ("timestamp", "text")}
    merged |= {"text=Test again&timestamp": FIELDS["timestamp"], "sig": signature}
    for request in requests(merged):
        refuses(request)
    form, text = urlencode(FIELDS | {"sig": signature}), msgspec.json.encode(FIELDS | {"sig": signature})
    refuses(InboundRequest("POST", {}, "", f"text=other&{form}".encode(), SIGNED_AT))
    refuses(InboundRequest("GET", {}, f"text=other&{form}", b"", SIGNED_AT))
    refuses(InboundRequest("POST", {}, "", b'{"text":"other",' + text[1:], SIGNED_AT))


def test_signs_of_forms_within_values_are_signed_as_underscores() -> None:
    assert sign("s", "sha1", {"text": "a&b=c"}) == sign("s", "sha1", {"text": "a_b_c"})


# --- what is sent


def _answer(sink: HttpSink) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        status, body = answers(sink.requests[-1])
        return web.json_response(body, status=status)

    sink.answer = answer


SENT: list[tuple[str, dict[str, Any], dict[str, str | None]]] = [
    ("GSM's alphabet", {"text": "Grüße {1} €"}, {"type": None, "client-ref": None}),
    ("Unicode", {"text": "Привет"}, {"type": "unicode", "text": "Привет", "client-ref": None}),
    ("files are links", {"text": "see", "attachments": [{"url": "https://x.example/a.png"}]}, {"text": "see\n\nhttps://x.example/a.png"}),
    ("options", {"text": "x", "platformOptions": {"vonage-sms": {"messageClass": 0, "entityId": "1101", "contentId": "1107"}}},
     {"message-class": "0", "entity-id": "1101", "content-id": "1107"}),
]  # fmt: skip


@pytest.mark.parametrize("case", SENT, ids=lambda case: case[0])
async def test_what_is_sent(case: Any, adapter: VonageSmsAdapter, sink: HttpSink) -> None:
    _, content, expected = case
    _answer(sink)
    receipt = await adapter.send(account(), make_delivery(RECIPIENT, make_content(**content)))
    assert receipt.provider_message_id == "0A00000000000000"
    assert check(sink.requests[0]) == "send-an-sms"
    form = dict(fields_of(sink.requests[0]))
    assert {name: form.get(name) for name in expected} == expected
    assert (form["from"], form["to"], form["callback"]) == ("447700900001", "447700900000", WEBHOOK)


@pytest.mark.parametrize(("seconds", "ttl"), [(5, range(20_000, 20_001)), (600, range(590_000, 600_001))])
async def test_a_message_that_expires_is_not_tried_longer(
    seconds: int, ttl: range, adapter: VonageSmsAdapter, sink: HttpSink
) -> None:
    _answer(sink)
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    await adapter.send(account(), make_delivery(RECIPIENT, make_content(text="Hi"), options={"expiresAt": expires}))
    assert check(sink.requests[0])
    assert int(dict(fields_of(sink.requests[0]))["ttl"]) in ttl


async def test_receipts_of_all_parts_are_those_of_the_message(adapter: VonageSmsAdapter, sink: HttpSink) -> None:
    _answer(sink)
    receipt = await adapter.send(account(), make_delivery(RECIPIENT, make_content(text="long " * 60)))
    reference = dict(fields_of(sink.requests[0]))["client-ref"]
    assert receipt.provider_message_id == reference
    parts = answers(sink.requests[0])[1]["messages"]
    assert len({part["message-id"] for part in parts}) == 2
    known = {"msisdn": RECIPIENT[1:], "status": "delivered", "err-code": "0", "client-ref": reference}
    bodies = [msgspec.json.encode(known | {"messageId": part["message-id"]}) for part in parts]
    read = [
        VonageSmsAdapter.inbound.read(account(), InboundRequest("POST", {}, "", body, SIGNED_AT)) for body in bodies
    ]
    contents = [msgspec.to_builtins(envelope.content) for [envelope] in read]
    assert contents == [{"kind": "receipt", "messageId": reference, "status": "delivered"}] * 2
    assert len({envelope.event_id for [envelope] in read}) == 2


async def test_a_message_of_which_a_part_was_taken_may_have_arrived(adapter: VonageSmsAdapter, sink: HttpSink) -> None:
    # https://github.com/Vonage/vonage-python-sdk, sms/tests/data/send_sms_partial_error.json
    parts = [{"to": "1", "message-id": "3295d748", "status": "0"}, {"status": "1", "error-text": "Throttled"}]
    sink.answers(200, body=msgspec.json.encode({"message-count": "2", "messages": parts}))
    with pytest.raises(TemporaryError, match="1 of 2 parts were taken; Throttled") as raised:
        await adapter.send(account(), make_delivery(RECIPIENT, make_content(text="Hi")))
    assert raised.value.reached == "maybe"

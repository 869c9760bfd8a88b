"""What only Twilio has: its signatures, MMS, reports and their address, and looking for a message that it may have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from msgcore.core.content import SendOptions, Target
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account
from msgcore.platforms.receiving import InboundRequest, SignatureError
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.twilio_sms import TwilioSmsAdapter
from platforms.twilio_sms.facts import SID, answers, check
from servers.deliveries import make_account, make_content, make_delivery
from servers.http_sink import HttpSink
from specs.forms import fields_of

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
SERVICE = "MG0123456789abcdef0123456789abcdef"
CREDENTIALS = {"accountSid": ACCOUNT, "authToken": "12345", "from": "+15017122661"}
WEBHOOK = "https://msg.example.com/api/v1/webhooks/twilio-sms/0190a000-0000-4000-8000-000000000001"
RECIPIENT = "+15558675310"
NOW = datetime.now(UTC)


@pytest.fixture
def adapter(services: AdapterServices, sink: HttpSink) -> TwilioSmsAdapter:
    services.base_urls["twilio-sms"] = sink.url
    return TwilioSmsAdapter(services)


def account(**more: Any) -> Account:
    return make_account("twilio-sms", CREDENTIALS | more, webhook_url=WEBHOOK)


# --- signatures


# https://github.com/twilio/twilio-python, tests/unit/test_request_validator.py
URL = "https://mycompany.com/myapp.php"
QUERY = "foo=1&bar=2"
FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
JSON = b'{"property": "value", "boolean": true}'
HASH = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
SIGNED: list[tuple[str, str, bytes, str, str]] = [
    ("a form", URL, urlencode(FORM).encode(), QUERY, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    ("signed without a port", URL.replace(".com", ".com:1234"), urlencode(FORM).encode(), QUERY, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    ("signed with port 443", URL, urlencode(FORM).encode(), QUERY, "kvajT1Ptam85bY51eRf/AJRuM3w="),
    ("signed with port 80", URL.replace("https", "http"), urlencode(FORM).encode(), QUERY, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
    ("fields that are there twice", URL, b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234", QUERY, "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
    ("JSON", URL, JSON, f"{QUERY}&bodySHA256={HASH}", "a9nBmqA0ju/hNViExpshrM61xv4="),
]  # fmt: skip


def request(body: bytes, query: str, signature: str) -> InboundRequest:
    return InboundRequest("POST", {"x-twilio-signature": signature}, query, body, NOW)


@pytest.mark.parametrize("case", SIGNED, ids=lambda case: case[0])
def test_signatures_are_those_of_twilios_libraries(case: tuple[str, str, bytes, str, str]) -> None:
    _, url, body, query, signature = case
    inbound, mine = TwilioSmsAdapter.inbound, make_account("twilio-sms", CREDENTIALS, webhook_url=url)
    inbound.verify(mine, request(body, query, signature))
    for changed in (request(body + b"&x=1", query, signature), request(body, f"{query}&x=1", signature)):
        with pytest.raises(SignatureError):
            inbound.verify(mine, changed)
    elsewhere = make_account("twilio-sms", CREDENTIALS, webhook_url=url.replace("mycompany", "another"))
    with pytest.raises(SignatureError):
        inbound.verify(elsewhere, request(body, query, signature))


def test_the_hash_of_a_body_is_checked() -> None:
    assert sha256(JSON).hexdigest() == HASH
    body = JSON.replace(b"true", b"fals")
    with pytest.raises(SignatureError, match="bodySHA256"):
        TwilioSmsAdapter.inbound.verify(
            make_account("twilio-sms", CREDENTIALS, webhook_url=URL),
            request(body, f"{QUERY}&bodySHA256={HASH}", "a9nBmqA0ju/hNViExpshrM61xv4="),
        )


def test_it_is_answered_in_twiml() -> None:
    answer = TwilioSmsAdapter.inbound.reply(request(b"", "", ""))
    assert (answer.status, answer.content_type) == (200, "text/xml")
    assert answer.body.endswith(b"<Response/>")


# --- what is sent


def picture(number: int, **more: Any) -> dict[str, Any]:
    return {"url": f"https://x.example/{number}.png", "mimeType": "image/png", **more}


TEXTS: list[tuple[str, dict[str, Any], list[tuple[str | None, int]]]] = [
    ("a text beside a file", {"text": "see", "attachments": [picture(1)]}, [("see", 1)]),
    ("ten files, and more", {"attachments": [picture(n) for n in range(12)]}, [(None, 10), (None, 2)]),
    (
        "captions",
        {"text": "two", "attachments": [picture(1), picture(2, caption="b"), picture(3)]},
        [("two", 0), (None, 1), ("b", 2)],
    ),
    ("a long text and a file", {"text": "word " * 400, "attachments": [picture(1)]}, [("word", 0), ("word", 0), (None, 1)]),
]  # fmt: skip


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case[0])
async def test_files_go_by_their_address(case: Any, adapter: TwilioSmsAdapter, sink: HttpSink) -> None:
    _, content, expected = case
    _answer(sink)
    delivery = make_delivery(RECIPIENT, make_content(**content))
    for number in range(len(expected)):
        await adapter.send(account(), msgspec.structs.replace(delivery, part_ids=("-",) * number))
    sent = [fields_of(each) for each in sink.requests]
    bodies = [dict(fields).get("Body") for fields in sent]
    assert [(body and body.split()[0], sum(name == "MediaUrl" for name, _ in fields)) for body, fields in zip(bodies, sent, strict=True)] == expected  # fmt: skip
    assert {check(each) for each in sink.requests} == {"CreateMessage"}


def test_a_file_without_an_address_is_refused() -> None:
    content = make_content(text="x", attachments=[{"data": "QUJD", "filename": "a.txt"}])
    [error] = PlatformRegistry().check_content("twilio-sms", content)
    assert error.pointer == "/content/attachments/0/data"


def _answer(sink: HttpSink) -> None:
    async def answer(_: Any) -> Any:
        from aiohttp import web  # noqa: PLC0415

        status, body = answers(sink.requests[-1])
        return web.json_response(body, status=status)

    sink.answer = answer


OPTIONS = {"smartEncoded": True, "sendAsMms": False, "shortenUrls": True, "validityPeriod": 600}
SENDERS: list[tuple[dict[str, Any], dict[str, str | None]]] = [
    ({}, {"From": "+15017122661", "MessagingServiceSid": None}),
    ({"from": None, "messagingServiceSid": SERVICE}, {"From": None, "MessagingServiceSid": SERVICE}),
    ({"messagingServiceSid": SERVICE}, {"From": "+15017122661", "MessagingServiceSid": SERVICE}),
]


@pytest.mark.parametrize(("given", "expected"), SENDERS)
async def test_senders_options_and_the_address_for_reports(
    given: dict[str, Any], expected: dict[str, str | None], adapter: TwilioSmsAdapter, sink: HttpSink
) -> None:
    _answer(sink)
    content = make_content(text="Hi", platformOptions={"twilio-sms": OPTIONS})
    assert not PlatformRegistry().check_content("twilio-sms", content)
    receipt = await adapter.send(account(**given), make_delivery(RECIPIENT, content))
    assert receipt.provider_message_id == SID
    assert check(sink.requests[0]) == "CreateMessage"
    form = dict(fields_of(sink.requests[0]))
    assert {name: form.get(name) for name in expected} == expected
    assert (form["SmartEncoded"], form["SendAsMms"], form["ValidityPeriod"]) == ("true", "false", "600")
    assert form["StatusCallback"] == WEBHOOK


@pytest.mark.parametrize("host", ["localhost:7890", "127.0.0.1", "10.0.0.1:80", "msgcore", "msgcore.internal", "[::1]"])
async def test_an_address_that_twilio_cannot_reach_is_not_given(
    host: str, adapter: TwilioSmsAdapter, sink: HttpSink
) -> None:
    _answer(sink)
    local = make_account("twilio-sms", CREDENTIALS, webhook_url=f"http://{host}/api/v1/webhooks/twilio-sms/x")
    await adapter.send(local, make_delivery(RECIPIENT, make_content(text="Hi")))
    assert "StatusCallback" not in dict(fields_of(sink.requests[0]))


@pytest.mark.parametrize(("seconds", "period"), [(120, range(100, 121)), (-5, range(1, 2)), (90_000, None)])
async def test_a_message_that_expires_does_not_wait_longer_at_twilio(
    seconds: int, period: range | None, adapter: TwilioSmsAdapter, sink: HttpSink
) -> None:
    _answer(sink)
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    await adapter.send(account(), make_delivery(RECIPIENT, make_content(text="Hi"), options={"expiresAt": expires}))
    given = dict(fields_of(sink.requests[0])).get("ValidityPeriod")
    assert given is None if period is None else int(str(given)) in period


def test_the_targets_and_senders_that_there_are() -> None:
    registry = PlatformRegistry()
    for number, good in [("+15558675310", True), ("15558675310", False), ("+0155", False), ("bob", False), ("+1555x", False)]:  # fmt: skip
        target = msgspec.convert({"platformId": "p", "type": "user", "id": number}, Target)
        assert (registry.check_target("twilio-sms", target) == []) is good, number
    for sender in ("+15017122661", "12345", "My Shop", "Shop-24"):
        assert registry.check_credentials("twilio-sms", CREDENTIALS | {"from": sender}) == [], sender
    for sender in ("Much too long", "Café", "+", "1 2 3"):
        assert registry.check_credentials("twilio-sms", CREDENTIALS | {"from": sender}), sender
    [error] = registry.check_credentials("twilio-sms", {"accountSid": ACCOUNT, "authToken": "x"})
    assert error.pointer == "/credentials/from"
    assert "messagingServiceSid" in error.message


# --- a message that Twilio may have


def listed(days_ago: int = 0, **changes: Any) -> dict[str, Any]:
    """A message as Twilio lists it."""
    at = format_datetime(datetime.now(UTC) - timedelta(days=days_ago))
    return {"sid": SID, "body": "Hello", "direction": "outbound-api", "date_created": at} | changes


WORDS = "word " * 400
"""In two parts."""
# what it is, what Twilio has, the parts that are known, and which of those it has is the next one
LISTS: list[tuple[str, list[dict[str, Any]], tuple[str, ...], str | None]] = [
    ("it is there", [{"sid": "SM1", "body": "another"}, {}], (), SID),
    ("nothing was sent", [], (), None),
    ("an answer of theirs", [{"direction": "inbound"}], (), None),
    ("the same text, yesterday", [{"days_ago": 1}], (), None),
    ("the part before", [{"sid": "SM-part"}], ("SM-part",), None),
    ("of another shape", [{"direction": None}, {"date_created": "soon"}, {"date_created": 7}, {"body": {}}], (), None),
    ("of another shape, and it is there", [{"sid": None, "body": 1}, {}], (), SID),
]


@pytest.mark.parametrize("case", LISTS, ids=lambda case: case[0])
async def test_a_message_that_may_have_been_sent_is_looked_for(
    case: Any, adapter: TwilioSmsAdapter, sink: HttpSink
) -> None:
    _, messages, parts, found = case
    content = make_content(text="Hello" if not parts else WORDS)
    texts = [call.body["Body"] for call in adapter.render(content, SendOptions()).calls]
    known = [listed(**{"body": texts[0], **each}) for each in messages]
    sink.answers(200, body=msgspec.json.encode({"messages": known}))
    delivery = msgspec.structs.replace(make_delivery(RECIPIENT, content), part_ids=parts)
    receipt = await adapter.find_sent(account(), delivery)
    assert (receipt and receipt.provider_message_id) == found
    if parts:  # and the part that is next, which is the last one
        sink.answers(200, body=msgspec.json.encode({"messages": [*known, listed(body=texts[1])]}))
        receipt = await adapter.find_sent(account(), delivery)
        assert receipt is not None
        assert (receipt.provider_message_id, receipt.more) == (SID, False)
    assert sink.requests[0].path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json?To=%2B15558675310&PageSize=50"


def test_the_token_goes_to_twilio_only(adapter: TwilioSmsAdapter, sink: HttpSink) -> None:
    assert "Authorization" in adapter.media_headers(account(), f"{sink.url}/2010-04-01/Accounts/x/Media/y")
    for url in ("https://x.example/", sink.url.replace("http", "https"), f"{sink.url}.x.example/", "cat.jpg"):
        assert adapter.media_headers(account(), url) == {}

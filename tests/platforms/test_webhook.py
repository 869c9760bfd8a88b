"""The custom platform against a real HTTP server: the exact request, its answer, the outcome."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from msgcore.core.actions import Action, Delete, Edit, MarkRead, React, Type, Unreact
from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import SentReceipt
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.webhook import WebhookAdapter
from servers.deliveries import PLATFORM_ID, make_account, make_action, make_content, make_delivery
from servers.http_sink import HttpSink
from servers.patience import PATIENCE

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def adapter(services: AdapterServices) -> WebhookAdapter:
    return WebhookAdapter(services)


async def send(adapter: WebhookAdapter, url: str, **content: Any) -> SentReceipt:
    account = make_account("webhook", {"url": url, "secret": SECRET})
    return await adapter.send(account, make_delivery("bob", make_content(**({"text": "Hello"} | content))))


async def test_the_exact_request(adapter: WebhookAdapter, sink: HttpSink) -> None:
    account = make_account("webhook", {"url": f"{sink.url}/hook?x=1", "secret": SECRET})
    content = make_content(subject="Hi", text="Grüße", platformOptions={"webhook": {"any": ["thing"]}})
    elsewhere = {"targets": [{"platformId": PLATFORM_ID, "type": "user", "id": "nobody else's business"}]}
    options = {"replyTo": "17", "fallback": elsewhere}
    delivery = make_delivery("bob", content, target_type="channel", options=options)
    receipt = await adapter.send(account, delivery)
    [request] = sink.requests
    assert (request.method, request.path) == ("POST", "/hook?x=1")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("MsgCore/")
    assert request.headers["webhook-id"] == delivery.id
    document = Webhook(SECRET).verify(request.body, request.headers)
    assert document == {
        "id": delivery.id,
        "messageId": delivery.message_id,
        "projectId": "demo",
        "platformId": PLATFORM_ID,
        "timestamp": delivery.created_at.isoformat().replace("+00:00", "Z"),
        "target": {"type": "channel", "id": "bob"},
        "content": {"subject": "Hi", "text": "Grüße", "platformOptions": {"webhook": {"any": ["thing"]}}},
        "options": {"replyTo": "17"},
    }
    assert receipt == SentReceipt(delivery.id)


REACTION = {"kind": "reaction", "messageId": "m1", "emoji": "\U0001f44d"}
ACTIONS: list[tuple[Action, dict[str, Any]]] = [
    (React(message_id="m1", emoji="\U0001f44d"), REACTION),
    (Unreact(message_id="m1", emoji="\U0001f44d"), REACTION | {"removed": True}),
    (
        Edit(message_id="m1", content=make_content(text="new", attachments=[{"url": "https://x.example/a"}])),
        {"kind": "edit", "id": "m1", "content": {"text": "new", "attachments": [{"url": "https://x.example/a"}]}},
    ),
    (Delete(message_id="m1"), {"kind": "delete", "id": "m1"}),
    (Type(message_id="m1"), {"kind": "typing"}),
    (MarkRead(message_id="m1"), {"kind": "receipt", "messageId": "m1", "status": "read"}),
]


@pytest.mark.parametrize(("action", "content"), ACTIONS)
async def test_an_action_is_posted_as_this_platform_tells_of_it(
    adapter: WebhookAdapter, sink: HttpSink, action: Action, content: dict[str, Any]
) -> None:
    outgoing = make_action("room", action)
    account = make_account("webhook", {"url": sink.url, "secret": SECRET})
    assert await adapter.act(account, outgoing) == SentReceipt()
    [request] = sink.requests
    assert request.headers["webhook-id"] == outgoing.id
    document = Webhook(SECRET).verify(request.body, request.headers)
    assert document["content"] == content
    assert (document["target"], document["messageId"]) == ({"type": "user", "id": "room"}, outgoing.message_id)


async def test_a_redelivery_is_the_same_document_with_the_same_id(adapter: WebhookAdapter, sink: HttpSink) -> None:
    account = make_account("webhook", {"url": sink.url, "secret": SECRET})
    delivery = make_delivery("bob", make_content(text="Hello"))
    for _ in range(2):
        await adapter.send(account, delivery)
    first, second = sink.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert len(sink.connections) == 1


async def test_five_megabytes_arrive_signed(adapter: WebhookAdapter, sink: HttpSink) -> None:
    data = "QUJD" * 1_750_000
    await send(adapter, sink.url, attachments=[{"data": data, "filename": "a.bin"}])
    [request] = sink.requests
    document = Webhook(SECRET).verify(request.body, request.headers)
    assert document["content"]["attachments"][0]["data"] == data


def in_two_minutes() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)


@dataclass
class Answers:
    label: str
    status: int
    error: type[DeliveryError] | None = None
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    provider_id: str | None = None
    waits: tuple[float, float] | None = None


ANSWERS = [
    Answers("200", 200),
    Answers("201 with an id", 201, body=b'{"id":"m-1"}', provider_id="m-1"),
    Answers("202 with a numeric id", 202, body=b'{"messageId":42,"more":[1]}', provider_id="42"),
    Answers("200 with an id that is none", 200, body=b'{"id":{"a":1}}'),
    Answers("200 with a list", 200, body=b"[1,2]"),
    Answers("200 with broken JSON", 200, body=b'{"id":'),
    Answers("200 with more than is read", 200, body=b"{" + b" " * 100_000 + b"}"),
    Answers("200 with an id that is not UTF-8", 200, body=b'{"id":"\xff"}'),
    Answers("200 nested too deeply", 200, body=b'{"id":' + b"[" * 60_000),
    Answers("200 with a number too long for Python", 200, body=b'{"id":' + b"9" * 50_000 + b"}"),
    Answers("200 that is not what its encoding says", 200, headers={"Content-Encoding": "gzip"}, body=b'{"id":"m-1"}'),
    Answers("204", 204),
    Answers("301", 301, PermanentError, "receiver_redirects", {"Location": "http://127.0.0.1/"}),
    Answers("307", 307, PermanentError, "receiver_redirects", {"Location": "/elsewhere"}),
    Answers("400", 400, PermanentError, "receiver_refused"),
    Answers("401", 401, AuthenticationError, "signature_refused"),
    Answers("403", 403, PermanentError, "receiver_refused"),
    Answers("404", 404, PermanentError, "receiver_refused"),
    Answers("408", 408, TemporaryError, "receiver_failed"),
    Answers("410", 410, PermanentError, "receiver_refused"),
    Answers("413", 413, PermanentError, "receiver_refused"),
    Answers("425", 425, TemporaryError, "receiver_failed"),
    Answers("429 without Retry-After", 429, ThrottledError, "throttled", waits=(5, 5)),
    Answers("429 for 7 s", 429, ThrottledError, "throttled", {"Retry-After": "7"}, waits=(7, 7)),
    Answers("429 until a date", 429, ThrottledError, "throttled", {"Retry-After": "date"}, waits=(100, 121)),
    Answers("429 until a date gone by", 429, ThrottledError, "throttled", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, waits=(0, 0)),
    Answers("429 with nonsense", 429, ThrottledError, "throttled", {"Retry-After": "soon"}, waits=(5, 5)),
    Answers("500", 500, TemporaryError, "receiver_failed", body=b"Traceback"),
    Answers("500 with Retry-After", 500, TemporaryError, "receiver_failed", {"Retry-After": "7"}),
    Answers("502", 502, TemporaryError, "receiver_failed"),
    Answers("503", 503, TemporaryError, "receiver_failed"),
    Answers("503 for 3 s", 503, ThrottledError, "throttled", {"Retry-After": "3"}, waits=(3, 3)),
    Answers("599", 599, TemporaryError, "receiver_failed"),
]  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case.label)
async def test_what_an_answer_means(case: Answers, adapter: WebhookAdapter, sink: HttpSink) -> None:
    headers = {name: in_two_minutes() if value == "date" else value for name, value in case.headers.items()}
    sink.answers(case.status, body=case.body, headers=headers)
    account = make_account("webhook", {"url": sink.url, "secret": SECRET})
    delivery = make_delivery("bob", make_content(text="Hello"))
    if case.error is None:
        receipt = await adapter.send(account, delivery)
        assert receipt.provider_message_id == (case.provider_id or delivery.id)
        return
    with pytest.raises(DeliveryError) as raised:
        await adapter.send(account, delivery)
    assert type(raised.value) is case.error
    reached = "maybe" if case.status >= 500 and case.error is TemporaryError else "no"
    assert (raised.value.code, raised.value.reached) == (case.code, reached)
    assert str(case.status) in raised.value.message
    assert SECRET not in raised.value.message
    assert len(sink.requests) == 1, "redirects are not followed"
    if case.waits is not None:
        assert isinstance(raised.value, ThrottledError)
        assert case.waits[0] <= raised.value.retry_after <= case.waits[1]
        assert raised.value.scope is Scope.ACCOUNT


async def test_a_connection_closed_after_the_request_may_have_reached(adapter: WebhookAdapter, sink: HttpSink) -> None:
    sink.hangs_up()
    with pytest.raises(TemporaryError) as raised:
        await send(adapter, sink.url)
    assert (raised.value.code, raised.value.reached) == ("connection_lost", "maybe")


async def test_silence_may_have_reached(
    adapter: WebhookAdapter, sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.never_answers()
    monkeypatch.setattr("msgcore.outbound.aiohttp_transport.BY_DEFAULT", aiohttp.ClientTimeout(total=0.05))
    with pytest.raises(TemporaryError) as raised:
        await send(adapter, sink.url)
    assert (raised.value.code, raised.value.reached) == ("timeout", "maybe")


async def test_an_answer_that_breaks_off_is_still_a_yes(adapter: WebhookAdapter, sink: HttpSink) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"id":')
        assert request.transport is not None
        request.transport.close()
        return response

    sink.answer = break_off
    assert (await send(adapter, sink.url)).provider_message_id is not None


async def never_ends(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"id":')
    await asyncio.Event().wait()
    return response


async def test_an_answer_that_never_ends_is_still_a_yes(
    adapter: WebhookAdapter, sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msgcore.outbound.aiohttp_transport.BODY_SECONDS", 0.05)
    sink.answer = never_ends
    delivery = make_delivery("bob", make_content(text="Hello"))
    async with asyncio.timeout(PATIENCE):
        receipt = await adapter.send(make_account("webhook", {"url": sink.url, "secret": SECRET}), delivery)
    assert receipt == SentReceipt(delivery.id)


async def test_nobody_there_is_temporary(adapter: WebhookAdapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TemporaryError) as raised:
        await send(adapter, f"http://127.0.0.1:{port}/")
    assert (raised.value.code, raised.value.reached) == ("connection_failed", "no")


async def test_an_unknown_name_is_temporary(adapter: WebhookAdapter) -> None:
    with pytest.raises(TemporaryError) as raised:
        await send(adapter, "http://no-such-host.invalid/")
    assert (raised.value.code, raised.value.reached) == ("connection_failed", "no")
    assert "no-such-host.invalid" in raised.value.message


async def test_a_changed_account_is_read_anew(adapter: WebhookAdapter, sink: HttpSink) -> None:
    delivery = make_delivery("bob", make_content(text="Hello"))
    for version, path in (("1", "/a"), ("1", "/ignored"), ("2", "/b")):
        account = make_account("webhook", {"url": sink.url + path, "secret": SECRET}, version=version)
        await adapter.send(account, delivery)
    await adapter.forget(PLATFORM_ID)
    await adapter.send(make_account("webhook", {"url": f"{sink.url}/c", "secret": SECRET}, version="2"), delivery)
    assert [request.path for request in sink.requests] == ["/a", "/a", "/b", "/c"]


async def test_many_at_once(adapter: WebhookAdapter, sink: HttpSink) -> None:
    receipts = await asyncio.gather(*(send(adapter, sink.url) for _ in range(300)))
    assert len({receipt.provider_message_id for receipt in receipts}) == 300
    assert len(sink.requests) == 300


GOOD = {"url": "https://example.com/hook", "secret": SECRET}
CREDENTIALS = [
    ("good", GOOD, []),
    ("unpadded secret", GOOD | {"secret": "whsec_" + "QUFB" * 10 + "QQ"}, []),
    ("no url", {"secret": SECRET}, ["/credentials/url"]),
    ("no secret", {"url": GOOD["url"]}, ["/credentials/secret"]),
    ("ftp", GOOD | {"url": "ftp://example.com/"}, ["/credentials/url"]),
    ("no host", GOOD | {"url": "https:///x"}, ["/credentials/url"]),
    ("with a password", GOOD | {"url": "https://u:p@example.com/"}, ["/credentials/url"]),
    ("port of SMTP", GOOD | {"url": "http://example.com:25/"}, ["/credentials/url"]),
    ("CRLF", GOOD | {"url": "https://example.com/\r\nX: y"}, ["/credentials/url"]),
    ("secret without prefix", GOOD | {"secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, ["/credentials/secret"]),
    ("short secret", GOOD | {"secret": "whsec_QUJD"}, ["/credentials/secret"]),
    ("secret not base64", GOOD | {"secret": "whsec_" + "ü" * 40}, ["/credentials/secret"]),
]


@pytest.mark.parametrize(
    ("given", "pointers"), [case[1:] for case in CREDENTIALS], ids=[case[0] for case in CREDENTIALS]
)
def test_credentials(given: dict[str, Any], pointers: list[str]) -> None:
    errors = PlatformRegistry().check_credentials("webhook", given)
    assert [error.pointer for error in errors] == pointers
    assert not [error for error in errors if given.get("secret", "-") in error.message]


def test_bad_attachments_are_refused_at_once() -> None:
    content = make_content(attachments=[{"filename": "a"}])
    assert [error.pointer for error in PlatformRegistry().check_content("webhook", content)] == [
        "/content/attachments/0"
    ]

"""The Cloud API beyond what holds for every platform: kinds of messages, templates, files, and its handshake."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import MarkRead, Type
from msgcore.core.content import SendOptions
from msgcore.core.envelope import File
from msgcore.core.errors import PermanentError, TemporaryError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account, OutgoingDelivery, SentReceipt
from msgcore.platforms.receiving import InboundAnswer, InboundRequest, SignatureError
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.whatsapp_cloud import DECLARATION, WhatsAppCloudAdapter
from msgcore.platforms.whatsapp_cloud.errors import describe
from msgcore.platforms.whatsapp_cloud.render import reaction
from platforms.whatsapp_cloud.facts import answers, check
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.http_sink import HttpSink

PNG = {"data": "iVBORw0KGgo=", "filename": "a.png", "mimeType": "image/png"}
WEBP = {"data": "UklGRg==", "mimeType": "image/webp", "caption": "wave"}
OGG = {"url": "https://x.example/a/voice.ogg", "caption": "listen"}
PDF = {"url": "https://x.example/a%20b.pdf?x=1", "caption": "read"}
THREE = [{"text": f"B{number}", "value": f"v{number}"} for number in range(3)]
WAMID = "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI0RTJEOTc2ODVERUY5RDlGNkYA"
TEMPLATE: dict[str, Any] = {
    "name": "order_shipped",
    "language": "en_US",
    "components": [
        {"type": "body", "parameters": [{"type": "text", "text": "42"}]},
        {
            "type": "button",
            "sub_type": "quick_reply",
            "index": "0",
            "parameters": [{"type": "payload", "payload": "x"}],
        },
    ],
}


@pytest.fixture
def adapter(services: AdapterServices, sink: HttpSink) -> WhatsAppCloudAdapter:
    services.base_urls["whatsapp-cloud"] = sink.url

    async def answer(_: web.Request) -> web.StreamResponse:
        status, body = answers(sink.requests[-1])
        return web.json_response(body, status=status)

    sink.answer = answer
    return WhatsAppCloudAdapter(services)


def account(**changed: Any) -> Account:
    example = {field.name: field.example for field in DECLARATION.credentials}
    return make_account("whatsapp-cloud", example | changed)


async def send(adapter: WhatsAppCloudAdapter, delivery: OutgoingDelivery) -> list[SentReceipt]:
    receipts = [await adapter.send(account(), delivery)]
    while receipts[-1].more:
        done = tuple(receipt.provider_message_id or "" for receipt in receipts)
        receipts.append(await adapter.send(account(), msgspec.structs.replace(delivery, part_ids=done)))
    return receipts


def parts(sink: HttpSink) -> list[Any]:
    """The part of each message that its kind names."""
    bodies = [msgspec.json.decode(each.body) for each in sink.requests if each.path.endswith("/messages")]
    return [body[body["type"]] if "type" in body else body for body in bodies]


SHOWN: list[tuple[dict[str, Any], list[str], list[Any]]] = [
    ({"text": "hi"}, ["text"], [{"body": "hi"}]),
    (
        {"text": "pick", "buttons": THREE},
        ["interactive"],
        [
            {
                "type": "button",
                "body": {"text": "pick"},
                "action": {
                    "buttons": [{"type": "reply", "reply": {"id": f"v{n}", "title": f"B{n}"}} for n in range(3)]
                },
            }
        ],
    ),
    (
        {
            "text": "pick",
            "buttons": [*THREE, {"text": "Last"}],
            "platformOptions": {"whatsapp-cloud": {"listButton": "Choose", "footer": "Thanks"}},
        },
        ["interactive"],
        [
            {
                "type": "list",
                "body": {"text": "pick"},
                "action": {
                    "button": "Choose",
                    "sections": [
                        {
                            "rows": [
                                *({"id": f"v{n}", "title": f"B{n}"} for n in range(3)),
                                {"id": "Last", "title": "Last"},
                            ]
                        }
                    ],
                },
                "footer": {"text": "Thanks"},
            }
        ],
    ),
    (
        {"text": "see", "buttons": [{"text": "Open", "url": "https://x.example/"}]},
        ["interactive"],
        [
            {
                "type": "cta_url",
                "body": {"text": "see"},
                "action": {
                    "name": "cta_url",
                    "parameters": {"display_text": "Open", "url": "https://x.example/"},
                },
            }
        ],
    ),
    ({"attachments": [PNG], "text": "cap"}, ["media", "image"], [{"caption": "cap", "id": "4490709327384033"}]),
    ({"attachments": [WEBP]}, ["text", "media", "sticker"], [{"body": "wave"}, {"id": "4490709327384033"}]),
    ({"attachments": [OGG]}, ["text", "audio"], [{"body": "listen"}, {"link": OGG["url"]}]),
    ({"attachments": [PDF]}, ["document"], [{"link": PDF["url"], "filename": "a b.pdf", "caption": "read"}]),
    ({"attachments": [{"url": "https://x.example/v.mp4"}]}, ["video"], [{"link": "https://x.example/v.mp4"}]),
    ({"attachments": [{"url": "https://x.example/"}]}, ["document"], [{"link": "https://x.example/"}]),
    (
        {"contact": {"name": "Ann", "phone": "+491", "email": "a@x.example", "organization": "X"}},
        ["contacts"],
        [
            [
                {
                    "name": {"formatted_name": "Ann", "first_name": "Ann"},
                    "phones": [{"phone": "+491"}],
                    "emails": [{"email": "a@x.example"}],
                    "org": {"company": "X"},
                }
            ]
        ],
    ),
    (
        {"location": {"latitude": 1e-5, "longitude": -122.5, "name": "N"}},
        ["location"],
        [{"latitude": "0.0000100", "longitude": "-122.5000000", "name": "N"}],
    ),
]


@pytest.mark.parametrize(("content", "kinds", "expected"), SHOWN, ids=lambda value: None)
async def test_each_kind_of_message(
    adapter: WhatsAppCloudAdapter, sink: HttpSink, content: dict[str, Any], kinds: list[str], expected: list[Any]
) -> None:
    await send(adapter, make_delivery("+16505551234", make_content(**content)))
    assert [check(request) for request in sink.requests] == kinds
    assert parts(sink) == expected


async def test_a_template_goes_alone_whatever_else_there_is(adapter: WhatsAppCloudAdapter, sink: HttpSink) -> None:
    content = make_content(
        text="x" * 100_000, platformOptions={"whatsapp-cloud": {"template": TEMPLATE, "callbackData": "order 42"}}
    )
    assert PlatformRegistry().check_content("whatsapp-cloud", content) == []
    [receipt] = await send(adapter, make_delivery("16505551234", content))
    assert receipt.provider_message_id is not None
    assert [check(request) for request in sink.requests] == ["template"]
    body = msgspec.json.decode(sink.requests[0].body)
    assert body["biz_opaque_callback_data"] == "order 42"
    assert body["template"] == {
        "name": "order_shipped",
        "language": {"policy": "deterministic", "code": "en_US"},
        "components": TEMPLATE["components"],
    }


async def test_an_answer_names_its_message_and_may_mark_it_read(adapter: WhatsAppCloudAdapter, sink: HttpSink) -> None:
    content = make_content(text="w " * 4000, platformOptions={"whatsapp-cloud": {"markRead": True}})
    delivery = make_delivery("16505551234", content, options={"replyTo": WAMID})
    receipts = await send(adapter, delivery)
    assert [receipt.more for receipt in receipts] == [True, False]
    assert [check(request) for request in sink.requests] == ["read", "text", "text"]
    bodies = [msgspec.json.decode(request.body) for request in sink.requests]
    assert bodies[0] == {"messaging_product": "whatsapp", "status": "read", "message_id": WAMID}
    assert [body.get("context") for body in bodies[1:]] == [{"message_id": WAMID}, None]


async def test_reactions_and_groups(adapter: WhatsAppCloudAdapter, sink: HttpSink) -> None:
    target = make_delivery("Y2FwaV9ncm91cDox", make_content(text="x"), target_type="group").target
    for emoji in ("\N{THUMBS UP SIGN}", ""):
        await adapter.post(account(), target, reaction(WAMID, emoji))
    assert [check(request) for request in sink.requests] == ["reaction", "reaction"]
    assert parts(sink) == [{"message_id": WAMID, "emoji": emoji} for emoji in ("\N{THUMBS UP SIGN}", "")]
    assert msgspec.json.decode(sink.requests[0].body)["recipient_type"] == "group"


async def test_typing_is_shown_below_a_message_that_was_received(adapter: WhatsAppCloudAdapter, sink: HttpSink) -> None:
    [error] = adapter.check_action(Type())
    assert error.pointer == "/target"
    with pytest.raises(PermanentError):
        await adapter.act(account(), make_action("16505551234", Type()))
    assert adapter.check_action(Type(message_id=WAMID)) == []
    await adapter.act(account(), make_action("16505551234", Type(message_id=WAMID)))
    await adapter.act(account(), make_action("16505551234", MarkRead(message_id=WAMID)))
    assert [check(request) for request in sink.requests] == ["read", "read"]
    bodies = [msgspec.json.decode(request.body) for request in sink.requests]
    assert [body.get("typing_indicator") for body in bodies] == [{"type": "text"}, None]
    assert {body["message_id"] for body in bodies} == {WAMID}


async def test_files_of_messages_are_found_by_their_id(adapter: WhatsAppCloudAdapter, sink: HttpSink) -> None:
    sink.answers(200, body=b'{"url":"https://lookaside.example/x","id":"1"}')
    found = await adapter.locate_file(account(), File(id="100/../2"))
    assert found.url == "https://lookaside.example/x"
    assert found.headers == {"Authorization": f"Bearer {account().credentials['accessToken']}"}
    assert sink.requests[0].path == "/100%2F..%2F2"
    sink.answers(200, body=b"{}")
    with pytest.raises(PermanentError, match="no address"):
        await adapter.locate_file(account(), File(id="1"))


async def test_an_upload_without_an_id_is_tried_again(adapter: WhatsAppCloudAdapter, sink: HttpSink) -> None:
    sink.answers(200, body=b"{}")
    with pytest.raises(TemporaryError) as raised:
        await send(adapter, make_delivery("16505551234", make_content(attachments=[PNG])))
    assert raised.value.reached == "no"


TARGETS = [
    ("user", "+4915112345678", True),
    ("chat", "4915112345678", True),
    ("user", "Ann", False),
    ("user", "49151 12345678", False),
    ("group", "Y2FwaV9ncm91cDoxODA1NTU1MDE3MjoxMjAzNjMyMjI3NzE5NjMwNjcZD", True),
    ("group", "a b", False),
]


@pytest.mark.parametrize(("kind", "id_", "good"), TARGETS)
def test_targets(kind: str, id_: str, good: bool) -> None:
    target = make_delivery(id_, make_content(text="x"), target_type=kind).target
    assert [error.pointer for error in WhatsAppCloudAdapter.check_target(target)] == ([] if good else ["/target/id"])


def test_only_messages_of_whatsapp_can_be_answered() -> None:
    content = make_content(text="x")
    assert WhatsAppCloudAdapter.check_content(content, SendOptions(reply_to=WAMID)) == []
    [error] = WhatsAppCloudAdapter.check_content(content, SendOptions(reply_to="17"))
    assert error.pointer == "/options/replyTo"


def test_errors_of_webhooks_are_told_as_those_of_answers() -> None:
    known = describe({"code": 131026, "title": "Message undeliverable"})
    assert known.startswith("WhatsApp cannot deliver to this number")
    assert known.endswith("(WhatsApp: Message undeliverable, 131026)")
    assert describe({"code": 999, "title": "New", "error_data": {"details": "more"}}) == "New: more (999)"


def asked(query: dict[str, str], method: str = "GET") -> InboundRequest:
    return InboundRequest(method, {}, urlencode(query), b"", datetime.now(UTC))


QUESTION = {"hub.mode": "subscribe", "hub.verify_token": "verify-0123456789", "hub.challenge": "1158201444"}


def test_the_challenge_is_given_back_to_who_knows_the_word() -> None:
    inbound = WhatsAppCloudAdapter.inbound
    inbound.verify(account(), asked(QUESTION))
    assert inbound.handshake(account(), asked(QUESTION)) == InboundAnswer(b"1158201444", "text/plain")
    for wrong in (QUESTION | {"hub.verify_token": "x"}, {}):
        with pytest.raises(SignatureError):
            inbound.verify(account(), asked(wrong))


@pytest.mark.parametrize(("method", "name"), [("GET", "verifyToken"), ("POST", "appSecret")])
def test_without_secrets_nothing_is_taken(method: str, name: str) -> None:
    with pytest.raises(SignatureError, match=name):
        WhatsAppCloudAdapter.inbound.verify(account(**{name: ""}), asked(QUESTION | {"hub.verify_token": ""}, method))

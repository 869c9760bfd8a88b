"""The Evolution API beyond what holds for every platform: calls, the webhook's registration, and the QR code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import Delete, Edit, MarkRead, Type
from msgcore.core.envelope import Receipt
from msgcore.core.errors import AuthenticationError, DeliveryError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account, QrCode, SentReceipt
from msgcore.platforms.receiving import InboundRequest
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.whatsapp_evo import WhatsAppEvoAdapter
from msgcore.platforms.whatsapp_evo.inbound import WhatsAppEvoInbound, sent_id, webhook_secret
from msgcore.platforms.whatsapp_evo.render import reaction
from platforms.whatsapp_evo.facts import answers, check
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.http_sink import HttpSink

NUMBER = "4915112345678"
PICTURE = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def adapter(services: AdapterServices, sink: HttpSink) -> WhatsAppEvoAdapter:
    async def answer(_: web.Request) -> web.StreamResponse:
        status, body = answers(sink.requests[-1])
        return web.json_response(body, status=status)

    sink.answer = answer
    return WhatsAppEvoAdapter(services)


def account(sink: HttpSink) -> Account:
    return make_account("whatsapp-evo", {"evolutionApiUrl": f"{sink.url}/", "evolutionApiKey": "k" * 32})


SHOWN: list[tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]] = [
    (
        {"text": "pick", "buttons": [{"text": "Yes"}, {"text": "No"}]},
        [("sendText", {"text": "pick\n\n1. Yes\n2. No"})],
    ),
    (
        {"text": "cap", "attachments": [{"data": "iVBORw0KGgo=", "mimeType": "image/png"}]},
        [
            (
                "sendMedia",
                {
                    "mediatype": "image",
                    "caption": "cap",
                    "media": "iVBORw0KGgo=",
                    "mimetype": "image/png",
                    "fileName": "file.png",
                },
            )
        ],
    ),
    (
        {"attachments": [{"url": "https://x.example/get?id=1", "mimeType": "application/pdf"}]},
        [
            (
                "sendMedia",
                {
                    "mediatype": "document",
                    "media": "https://x.example/get?id=1",
                    "mimetype": "application/pdf",
                    "fileName": "get.pdf",
                },
            )
        ],
    ),
    (
        {"attachments": [{"data": "T2dn", "mimeType": "audio/ogg", "caption": "listen"}]},
        [("sendText", {"text": "listen"}), ("sendWhatsAppAudio", {"audio": "T2dn"})],
    ),
    (
        {"location": {"latitude": 52.5, "longitude": 13.4}},
        [("sendLocation", {"latitude": 52.5, "longitude": 13.4, "name": "", "address": ""})],
    ),
    (
        {"contact": {"name": "Ann", "phone": "+49 151 12345678", "email": "a@x.example"}},
        [
            (
                "sendContact",
                {
                    "contact": [
                        {
                            "fullName": "Ann",
                            "phoneNumber": "+49 151 12345678",
                            "wuid": NUMBER,
                            "email": "a@x.example",
                        }
                    ]
                },
            )
        ],
    ),
    (
        {"poll": {"question": "Tea?", "options": ["yes", "no"]}},
        [("sendPoll", {"name": "Tea?", "values": ["yes", "no"], "selectableCount": 1})],
    ),
    (
        {
            "text": "all",
            "platformOptions": {"whatsapp-evo": {"delay": 100, "linkPreview": False, "mentionsEveryOne": True}},
        },
        [("sendText", {"text": "all", "delay": 100, "linkPreview": False, "mentionsEveryOne": True})],
    ),
]


@pytest.mark.parametrize(("content", "expected"), SHOWN, ids=lambda value: None)
async def test_each_kind_of_message(
    adapter: WhatsAppEvoAdapter, sink: HttpSink, content: dict[str, Any], expected: list[tuple[str, dict[str, Any]]]
) -> None:
    delivery = make_delivery(NUMBER, make_content(**content))
    receipt, done = await adapter.send(account(sink), delivery), 1
    while receipt.more:
        receipt = await adapter.send(account(sink), msgspec.structs.replace(delivery, part_ids=("x",) * done))
        done += 1
    assert [check(request) for request in sink.requests] == [f"message/{method}" for method, _ in expected]
    bodies = [msgspec.json.decode(request.body) for request in sink.requests]
    assert bodies == [{"number": NUMBER, **body} for _, body in expected]


GROUP, PERSON = "120363041967849074@g.us", f"{NUMBER}@s.whatsapp.net"
IDS: list[tuple[str, dict[str, str]]] = [
    (f"{GROUP}:3EB0", {"remoteJid": GROUP, "id": "3EB0"}),
    (f"{GROUP}:{PERSON}:3EB0", {"remoteJid": GROUP, "id": f"{PERSON}:3EB0"}),
    ("3EB0", {"id": "3EB0"}),
]


@pytest.mark.parametrize(("id_", "key"), IDS)
async def test_the_first_call_quotes_what_is_answered(
    adapter: WhatsAppEvoAdapter, sink: HttpSink, id_: str, key: dict[str, str]
) -> None:
    delivery = make_delivery(GROUP, make_content(text="yes"), options={"replyTo": id_})
    receipt = await adapter.send(account(sink), delivery)
    assert receipt.provider_message_id == "553198296801@s.whatsapp.net:BAE594145F4C59B4"
    check(sink.requests[0])
    assert msgspec.json.decode(sink.requests[0].body)["quoted"] == {"key": key}


@pytest.mark.parametrize(("id_", "key"), IDS)
async def test_reactions(adapter: WhatsAppEvoAdapter, sink: HttpSink, id_: str, key: dict[str, str]) -> None:
    for emoji in ("\N{THUMBS UP SIGN}", ""):
        await adapter.post(account(sink), NUMBER, reaction(PERSON, id_, emoji, from_me=False))
    assert [check(request) for request in sink.requests] == ["message/sendReaction"] * 2
    put = msgspec.json.decode(sink.requests[0].body)
    assert put["key"] == {"remoteJid": PERSON, "fromMe": False} | key


async def test_what_is_done_to_messages_names_them_by_their_keys(adapter: WhatsAppEvoAdapter, sink: HttpSink) -> None:
    id_ = f"{PERSON}:3EB0"
    key = {"remoteJid": PERSON, "id": "3EB0"}
    written = make_content(text="new", platformOptions={"whatsapp-evo": {"linkPreview": False}})
    for action in (
        Edit(message_id=id_, content=written),
        Delete(message_id=id_),
        MarkRead(message_id=id_),
        Type(message_id=id_),
    ):
        assert adapter.check_action(action) == []
        assert await adapter.act(account(sink), make_action(PERSON, action)) == SentReceipt()
    calls = [(check(request), msgspec.json.decode(request.body)) for request in sink.requests]
    assert calls == [
        ("chat/updateMessage", {"number": PERSON, "key": {**key, "fromMe": True}, "text": "new"}),
        ("chat/deleteMessageForEveryone", {**key, "fromMe": True}),
        ("chat/markMessageAsRead", {"readMessages": [{**key, "fromMe": False}]}),
        ("chat/sendPresence", {"number": PERSON, "presence": "composing", "delay": 5000}),
    ]


def test_a_receipt_has_the_id_that_sending_answered(sink: HttpSink) -> None:
    mine = account(sink)
    for told in (PERSON, NUMBER):
        data = {"keyId": "3EB0", "remoteJid": told, "fromMe": True, "status": "READ"}
        body = msgspec.json.encode({"event": "messages.update", "data": data})
        [envelope] = WhatsAppEvoInbound().read(mine, InboundRequest("POST", {}, "", body, datetime.now(UTC)))
        assert isinstance(envelope.content, Receipt)
        assert envelope.content.message_id == sent_id({"remoteJid": PERSON, "id": "3EB0"})


async def test_the_webhook_is_registered_with_its_secret(adapter: WhatsAppEvoAdapter, sink: HttpSink) -> None:
    sink.answers(
        201, body=b'{"id":"c","url":"https://m.example/w","enabled":true,"events":["MESSAGES_UPSERT"],"headers":{}}'
    )
    told = await adapter.register_webhook(account(sink), "https://m.example/w")
    assert told == {"enabled": True, "url": "https://m.example/w", "events": ["MESSAGES_UPSERT"]}
    assert check(sink.requests[0]) == "webhook/set"
    webhook = msgspec.json.decode(sink.requests[0].body)["webhook"]
    assert webhook["headers"] == {"X-MsgCore-Webhook-Secret": webhook_secret(account(sink))}
    assert "QRCODE_UPDATED" not in webhook["events"]


CODES: list[tuple[dict[str, Any], QrCode]] = [
    ({"pairingCode": None, "code": "2@y8e", "base64": PICTURE, "count": 1}, QrCode(PICTURE)),
    ({"count": 0}, QrCode()),
    ({"instance": {"instanceName": "msgcore", "state": "open"}}, QrCode(linked=True)),
    ({"instance": {"instanceName": "msgcore", "status": "refused"}, "qrcode": {}}, QrCode()),
]


@pytest.mark.parametrize(("answer", "expected"), CODES)
async def test_qr_codes(adapter: WhatsAppEvoAdapter, sink: HttpSink, answer: dict[str, Any], expected: QrCode) -> None:
    sink.answers(200, body=msgspec.json.encode(answer))
    assert await adapter.qr_code(account(sink)) == expected
    assert (sink.requests[0].method, sink.requests[0].path) == ("GET", "/instance/connect/msgcore")


async def test_what_is_wrong_with_the_instance_is_told(adapter: WhatsAppEvoAdapter, sink: HttpSink) -> None:
    missing = {"status": 404, "error": "Not Found", "response": {"message": ['The "x" instance does not exist']}}
    sink.answers(404, body=msgspec.json.encode(missing))
    with pytest.raises(AuthenticationError) as raised:
        await adapter.qr_code(account(sink))
    assert raised.value.code == "instance_unknown"
    sink.answers(200, body=b'{"error":true,"message":"Error: Connection Closed"}')
    with pytest.raises(DeliveryError) as failed:
        await adapter.qr_code(account(sink))
    assert failed.value.code == "device_not_connected"


TARGETS = {
    NUMBER: True,
    f"+{NUMBER}": True,
    f"{NUMBER}@s.whatsapp.net": True,
    "200000000000001@lid": True,
    "120363041967849074@g.us": True,
    "4915112345678-1600000000@g.us": True,
    "status@broadcast": False,
    f"{NUMBER}@example.com": False,
    "Ann": False,
}


@pytest.mark.parametrize(("id_", "good"), TARGETS.items())
def test_targets(id_: str, good: bool) -> None:
    target = make_delivery(id_, make_content(text="x")).target
    assert [error.pointer for error in WhatsAppEvoAdapter.check_target(target)] == ([] if good else ["/target/id"])


@pytest.mark.parametrize("url", ["evolution.example.com", "ftp://x.example", "https://", "https://u:p@x.example"])
def test_the_server_has_a_url(url: str) -> None:
    credentials = {"evolutionApiUrl": url, "evolutionApiKey": "k"}
    [error] = PlatformRegistry().check_credentials("whatsapp-evo", credentials)
    assert error.pointer == "/credentials/evolutionApiUrl"


@pytest.mark.parametrize("id_", ["4915112345678", "+4915112345678", "4915112345678@s.whatsapp.net"])
def test_a_person_is_one_chat_however_the_number_is_written(id_: str) -> None:
    assert WhatsAppEvoAdapter.address(id_) == "4915112345678@s.whatsapp.net"

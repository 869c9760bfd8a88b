"""LINE beyond what holds for every platform: signatures, pushes of several messages, retry keys, tokens, files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import Type
from msgcore.core.content import SendOptions, Target
from msgcore.core.envelope import File
from msgcore.core.errors import DeliveryError, PermanentError, TemporaryError, ThrottledError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.line import LineAdapter
from msgcore.platforms.line.inbound import LineInbound
from msgcore.platforms.receiving import InboundRequest, SignatureError, UnreadableError
from msgcore.platforms.registry import PlatformRegistry
from platforms.line.facts import GROUP, PERSON, SENT, answers, check
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.facts import samples_of
from servers.http_sink import HttpSink

TOKEN = "bNl4YEFPI/hjFWhTqexp4MuEw5YPs7qhr6dJDXKwNPuLka=="
ACCOUNT = make_account("line", {"channelAccessToken": TOKEN, "channelSecret": "channel_secret"})
PICTURE = {"url": "https://x.example/a.jpg"}
VIDEO = {"url": "https://x.example/a.mp4"}
SOUND = {"url": "https://x.example/a.mp3"}
PREVIEW = "https://x.example/p.jpg"
BUTTONS = [{"text": "Yes", "value": "y"}, {"text": "Open", "url": "https://x.example/ü"}]


@pytest.fixture
def adapter(services: AdapterServices, sink: HttpSink) -> LineAdapter:
    """An adapter whose LINE is `sink`, which answers as documented."""
    services.base_urls["line"] = sink.url

    async def answer(_: web.Request) -> web.StreamResponse:
        status, body = answers(sink.requests[-1])
        return web.json_response(body, status=status)

    sink.answer = answer
    return LineAdapter(services)


def own(**options: Any) -> dict[str, Any]:
    return {"platformOptions": {"line": options}}


def kinds(content: dict[str, Any]) -> list[list[str]]:
    """The types of the messages of each push."""
    rendering = LineAdapter.render(make_content(**content), SendOptions())
    assert not rendering.errors
    return [[message["type"] for message in call.body["messages"]] for call in rendering.calls]


# --- what comes in


def test_the_signature_is_that_of_lines_library() -> None:
    # https://github.com/line/line-bot-sdk-python, tests/v3/test_webhook.py
    signed = {"x-line-signature": "/gg9a+LvFevTH1sd7XCQycD7tsWclCsInj7MhBHxN7k="}
    request = InboundRequest("POST", signed, "", b"bodybodybodybody", datetime.now(UTC))
    LineInbound().verify(ACCOUNT, request)
    for account in (make_account("line", {}), make_account("line", {"channelSecret": "another"})):
        with pytest.raises(SignatureError):
            LineInbound().verify(account, request)


def read(*events: Any) -> list[Any]:
    body = msgspec.json.encode({"destination": PERSON, "events": events})
    return list(LineInbound().read(ACCOUNT, InboundRequest("POST", {}, "", body, datetime.now(UTC))))


def test_an_answer_names_its_message_and_keeps_the_tokens_for_who_answers_it() -> None:
    [sample] = [each for each in samples_of("line") if each.name == "text"]
    event = sample.body["events"][0]
    event["message"]["quotedMessageId"] = "468789577898262530"
    [envelope] = read(event)
    assert envelope.content.reply_to == "468789577898262530"
    assert envelope.raw["message"]["quoteToken"] == "q3Plxr4AgKd..."
    assert envelope.raw["message"]["markAsReadToken"] == "30yhdy232..."


def test_what_cannot_be_read_does_not_hold_back_what_came_with_it() -> None:
    [sample] = [each for each in samples_of("line") if each.name == "text"]
    good = sample.body["events"][0]
    for bad in ({**good, "timestamp": "soon"}, {**good, "source": {"type": "planet"}}, {}, None):
        assert len(read(bad, good)) == 1
        with pytest.raises(UnreadableError):
            read(bad)
    nameless = {"type": "memberJoined", "joined": {"members": [{"type": "user"}]}}
    assert read({**good, **nameless}) == []


# --- what is sent

SHOWN: list[tuple[dict[str, Any], list[list[str]]]] = [
    ({"text": "a" * 10_500}, [["text"], ["text"], ["text"]]),
    ({"text": "see", "attachments": [PICTURE] * 6}, [["text", "image", "image", "image", "image"], ["image", "image"]]),
    ({"text": "here", "location": {"latitude": 1.5, "longitude": 2.5}}, [["text", "location"]]),
    ({"text": "pick", "attachments": [PICTURE], "buttons": BUTTONS}, [["image", "template"]]),
    ({"text": "b" * 200, "buttons": BUTTONS}, [["text", "template"]]),
    ({"attachments": [VIDEO, SOUND], **own(previewImageUrl=PREVIEW, duration=60_000)}, [["video", "audio"]]),
]


@pytest.mark.parametrize(("content", "expected"), SHOWN)
async def test_what_goes_together(
    content: dict[str, Any], expected: list[list[str]], adapter: LineAdapter, sink: HttpSink
) -> None:
    assert kinds(content) == expected
    delivery = make_delivery(PERSON, make_content(**content), options={"silent": True})
    for number in range(len(expected)):
        receipt = await adapter.send(ACCOUNT, msgspec.structs.replace(delivery, part_ids=(SENT,) * number))
        assert (receipt.provider_message_id, receipt.more) == (SENT, number + 1 < len(expected))
    assert [check(request) for request in sink.requests] == ["pushMessage"] * len(expected)
    assert all(msgspec.json.decode(request.body)["notificationDisabled"] for request in sink.requests)


@pytest.mark.parametrize(
    "files",
    [
        [VIDEO],
        [SOUND],
        [PICTURE, {"url": "https://x.example/a.pdf"}],
        [{"url": "http://x.example/a.jpg"}],
        [{"url": "https://x.example/a.gif"}],
        [{"url": f"https://x.example/{'a' * 2000}.jpg"}],
        [{"url": f"https://x.example/{'ü' * 400}.jpg"}],
    ],
    ids=str,
)
def test_files_that_line_cannot_show_are_links(files: list[dict[str, Any]]) -> None:
    rendering = LineAdapter.render(make_content(attachments=files), SendOptions())
    assert [(each.field, each.rule) for each in rendering.degradations] == [("content.attachments", "link")]
    [call] = rendering.calls
    assert [message["type"] for message in call.body["messages"]] == ["text"]


def test_buttons_with_an_address_that_is_too_long_are_links() -> None:
    long = {"text": "Open", "url": f"https://x.example/{'a' * 1000}"}
    rendering = LineAdapter.render(make_content(text="x", buttons=[long]), SendOptions())
    assert [each.rule for each in rendering.degradations] == ["link"]


async def test_places_have_names_of_a_hundred_units(adapter: LineAdapter, sink: HttpSink) -> None:
    place = {"latitude": 52.52, "longitude": 13.405, "name": "\U0001f34e" * 99, "address": "M" * 999}
    await adapter.send(ACCOUNT, make_delivery(PERSON, make_content(location=place)))
    assert check(sink.requests[0]) == "pushMessage"
    [message] = msgspec.json.decode(sink.requests[0].body)["messages"]
    assert (message["title"], message["address"]) == ("\U0001f34e" * 50, "M" * 100)


async def test_tokens_quote_and_mark_as_read(adapter: LineAdapter, sink: HttpSink) -> None:
    options = own(quoteToken="yHAz4Ua2wx7", markAsReadToken="30yhdy232")
    content = make_content(text="c" * 6000, **options)
    delivery = make_delivery(PERSON, content)
    assert (await adapter.send(ACCOUNT, delivery)).more
    await adapter.send(ACCOUNT, msgspec.structs.replace(delivery, part_ids=(SENT,)))
    assert [check(request) for request in sink.requests] == ["markMessagesAsReadByToken", "pushMessage", "pushMessage"]
    quoted = [b"yHAz4Ua2wx7" in request.body for request in sink.requests]
    assert quoted == [False, True, False]
    refused = PlatformRegistry().check_content("line", make_content(text="pick", buttons=BUTTONS, **options))
    assert [error.pointer for error in refused] == ["/content/platformOptions/line/quoteToken"]


async def test_a_repeated_push_has_the_same_retry_key_and_is_taken_once(adapter: LineAdapter, sink: HttpSink) -> None:
    # https://developers.line.biz/en/docs/messaging-api/retrying-api-request/
    accepted = {"message": "The retry key is already accepted", "sentMessages": [{"id": SENT, "quoteToken": "IStG5h"}]}
    delivery = make_delivery(PERSON, make_content(text="Hi"))
    await adapter.send(ACCOUNT, delivery)
    sink.answers(409, body=msgspec.json.encode(accepted), headers={"x-line-accepted-request-id": "123e4567"})
    assert (await adapter.send(ACCOUNT, delivery)).provider_message_id == SENT
    await adapter.send(ACCOUNT, msgspec.structs.replace(delivery, id="0190a000-0000-7000-8000-00000000000b"))
    first, again, other = (request.headers["X-Line-Retry-Key"] for request in sink.requests)
    assert first == again != other


async def test_errors_say_what_is_wrong_with_which_part(adapter: LineAdapter, sink: HttpSink) -> None:
    details = [{"message": "May not be empty", "property": "messages[0].text"}, "odd", {"message": "No"}]
    sink.answers(400, body=msgspec.json.encode({"message": "The request body has 2 error(s)", "details": details}))
    with pytest.raises(PermanentError, match=r"2 error\(s\): messages\[0\].text May not be empty; No"):
        await adapter.send(ACCOUNT, make_delivery(PERSON, make_content(text="Hi")))


async def test_a_used_up_quota_waits(adapter: LineAdapter, sink: HttpSink) -> None:
    sink.answers(429, body=b'{"message":"You have reached your monthly limit."}')
    with pytest.raises(ThrottledError) as raised:
        await adapter.send(ACCOUNT, make_delivery(PERSON, make_content(text="Hi")))
    assert (raised.value.code, raised.value.retry_after) == ("quota_exhausted", 3600)


@pytest.mark.parametrize(("id_", "good"), [(PERSON, True), (GROUP, True), ("U123", False), ("@line", False)])
def test_recipients_are_ids_of_webhooks(id_: str, *, good: bool) -> None:
    target = msgspec.convert({"platformId": "p", "type": "user", "id": id_}, Target)
    assert [error.pointer for error in LineAdapter.check_target(target)] == ([] if good else ["/target/id"])


async def test_typing_is_shown_to_people_only(adapter: LineAdapter, sink: HttpSink) -> None:
    await adapter.act(ACCOUNT, make_action(PERSON, Type()))
    assert [check(request) for request in sink.requests] == ["showLoadingAnimation"]
    with pytest.raises(PermanentError, match="not in groups"):
        await adapter.act(ACCOUNT, make_action(GROUP, Type(), target_type="group"))


# --- the webhook's address, and files


async def test_the_webhook_is_set_and_looked_at(adapter: LineAdapter, sink: HttpSink) -> None:
    told = await adapter.register_webhook(ACCOUNT, "https://msg.example.com/api/v1/webhooks/line/x")
    assert told == {"endpoint": "https://example.com/test", "active": True}
    assert [check(request) for request in sink.requests] == ["setWebhookEndpoint", "getWebhookEndpoint"]


async def test_files_are_at_line_or_where_an_app_has_them(adapter: LineAdapter, sink: HttpSink) -> None:
    source = await adapter.locate_file(ACCOUNT, File(type="image", id="325708"))
    assert (source.url, source.headers) == (
        f"{sink.url}/v2/bot/message/325708/content",
        {"Authorization": f"Bearer {TOKEN}"},
    )
    assert (await adapter.locate_file(ACCOUNT, File(type="video", id="325708"))).url == source.url
    assert [check(request) for request in sink.requests] == ["getMessageContentTranscodingByMessageId"]
    elsewhere = await adapter.locate_file(ACCOUNT, File(type="video", url="https://example.com/original.mp4"))
    assert (elsewhere.url, elsewhere.headers) == ("https://example.com/original.mp4", {})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"status": "processing"}, TemporaryError),
        (200, {"status": "failed"}, PermanentError),
        (404, {"message": "not found"}, PermanentError),
        (410, {"message": "The content is gone"}, PermanentError),
    ],
)
async def test_files_that_are_not_there_yet_or_no_more(
    status: int, body: dict[str, Any], kind: type[DeliveryError], adapter: LineAdapter, sink: HttpSink
) -> None:
    sink.answers(status, body=msgspec.json.encode(body))
    with pytest.raises(kind):
        await adapter.locate_file(ACCOUNT, File(type="audio", id="325708"))

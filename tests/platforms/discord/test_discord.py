"""Discord beyond what holds for every platform: its markdown, mentions, embeds, channels, actions, limits and errors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import Action, Delete, Edit, MarkRead, React, Type, Unreact
from msgcore.core.content import SendOptions
from msgcore.core.errors import InvalidInputError, PermanentError, Scope, TemporaryError, ThrottledError
from msgcore.core.limits import Pace
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.reading import read_markdown
from msgcore.outbound.rich.tree import plain
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import OutgoingDelivery
from msgcore.platforms.discord import DECLARATION, DiscordAdapter
from msgcore.platforms.discord.markdown import DIALECT
from msgcore.platforms.error_table import UNKNOWN_WAIT
from platforms.discord.facts import CHANNEL, DIRECT, MESSAGE, PERSON, answers, arguments, check
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.http_sink import HttpSink

ACCOUNT = make_account("discord", {field.name: field.example for field in DECLARATION.credentials})
PLAIN = SendOptions()
FILE = {"data": "QUJD", "filename": "a.txt", "mimeType": "text/plain"}
THREAD = "772908445358620702"
Z = "\u200b"


@pytest.fixture
def adapter(services: AdapterServices, sink: HttpSink) -> DiscordAdapter:
    """An adapter whose Discord is `sink`, which answers as documented."""
    services.base_urls["discord"] = sink.url
    answer_with(sink)
    return DiscordAdapter(services)


def answer_with(sink: HttpSink, status: int = 200, body: Any = None, **headers: str) -> None:
    """Answer as documented, or with this; names of headers have `_` for `-`."""

    async def answer(_: web.Request) -> web.StreamResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        known = answers(sink.requests[-1]) if body is None else (status, body)
        return web.json_response(known[1], status=known[0], headers=given)

    sink.answer = answer


def rendered(content: dict[str, Any], **options: Any) -> list[Call]:
    rendering = DiscordAdapter.render(make_content(**content), msgspec.convert(options, SendOptions))
    assert not rendering.errors
    return list(rendering.calls)


def to_channel(content: dict[str, Any], **options: Any) -> OutgoingDelivery:
    return make_delivery(CHANNEL, make_content(**content), target_type="channel", options=options)


# --- markdown and mentions


MARKDOWN: list[tuple[str, str]] = [
    ("a **b** *c* ~~d~~ `e`", "a **b** *c* ~~d~~ ``e``"),
    ("a**b**c", f"a{Z}**b**{Z}c"),
    ("***both*** **bold *it***", "***both*** **bold *it***"),
    ("`` a`b ``` c ``", f"``a`b `{Z}`{Z}` c``"),
    ("`` `a` ``", f"``{Z}`a`{Z}``"),
    ("# Title\n\n#### Deep", "# Title\n\n### Deep"),
    ("[words](https://x.example/a_(b))", "[words](https://x.example/a_%28b%29)"),
    ("[https://x.example/a_b](https://x.example/a_b)", "https://x.example/a_b"),
    ("[https://good.example](https://bad.example)", "https://good.example (https://bad.example)"),
    ("[me](mailto:a_b@x.example)", "me (a\\_b@x.example)"),
    ("[all](@everyone)", "all (@everyone)"),
    ("> one\n>\n> two", "> one\n> \n> two"),
    ("```py\na < b ``` c\n```", f"```py\na < b `{Z}`{Z}` c\n```"),
    ("- one\n- two\n\n1. three", "- one\n- two\n\n1. three"),
]


@pytest.mark.parametrize(("markdown", "expected"), MARKDOWN, ids=[markdown for markdown, _ in MARKDOWN])
def test_markdown_becomes_discords(markdown: str, expected: str) -> None:
    assert DIALECT.write(read_markdown(markdown)) == expected


LITERAL: list[tuple[str, str]] = [
    ("*a* __b__ ~~c~~ `d` ||e|| f\\g", "\\*a\\* \\_\\_b\\_\\_ \\~\\~c\\~\\~ \\`d\\` \\|\\|e\\|\\| f\\\\g"),
    ("<@1> <@&2> <#3> <:x:4> <t:5> </a:6>", "\\<@1> \\<@&2> \\<#3> \\<:x:4> \\<t:5> \\</a:6>"),
    ("[a](https://x.example)", "\\[a\\](https://x.example)"),
    ("# a\n-# b\n> c\n>>> d\n- e\n12. f\n  * g", "\\# a\n\\-# b\n\\> c\n\\>>> d\n\\- e\n12\\. f\n  \\* g"),
    ("#tag -1 1.5 a # b > c", "#tag -1 1.5 a # b > c"),
    ("see https://x.example/a_b?c=*d*|e.", "see https://x.example/a_b?c=%2Ad%2A%7Ce."),
]


@pytest.mark.parametrize(("text", "expected"), LITERAL, ids=[text for text, _ in LITERAL])
def test_plain_text_is_never_markdown_nor_a_mention(text: str, expected: str) -> None:
    assert DIALECT.write(plain(text)) == expected


MENTIONS: list[tuple[list[str], str]] = [
    ([], "\\<@1> \\<@&2> @everyone"),
    (["everyone"], "\\<@1> \\<@&2> @everyone"),
    (["users"], "<@1> \\<@&2> @everyone"),
    (["users", "roles"], "<@1> <@&2> @everyone"),
]


@pytest.mark.parametrize(("allowed", "written"), MENTIONS)
def test_only_mentions_that_are_allowed_are_some(allowed: list[str], written: str) -> None:
    options: dict[str, Any] = {"discord": {"allowedMentions": allowed}} if allowed else {}
    [call] = rendered({"text": "<@1> <@&2> @everyone", "platformOptions": options})
    assert call.body == {"content": written, "allowed_mentions": {"parse": sorted(allowed)}}


# --- messages


async def test_text_files_embeds_and_buttons_are_one_message(adapter: DiscordAdapter, sink: HttpSink) -> None:
    embed = {
        "title": "*T*",
        "url": "https://x.example/",
        "description": "**D** <@1>",
        "color": "#36a64f",
        "author": {"name": "A_b_", "url": "https://x.example/a"},
        "footer": {"text": "F", "iconUrl": "https://x.example/f.png"},
        "timestamp": "2026-01-01T00:00:00Z",
        "imageUrl": "https://x.example/i.png",
        "thumbnailUrl": "https://x.example/t.png",
        "fields": [{"name": "n_", "value": "v", "inline": True}],
    }
    buttons = [{"text": f"B{number}", "style": "danger"} for number in range(6)]
    buttons.append({"text": "Open", "url": "https://x.example/"})
    content = {"text": "look", "attachments": [FILE, FILE], "embeds": [embed, {"color": "1"}], "buttons": buttons}
    own = {"suppressEmbeds": True, "tts": True, "mentionRepliedUser": False}
    delivery = to_channel(
        {**content, "platformOptions": {"discord": own}}, silent=True, replyTo=f"{CHANNEL}:{MESSAGE}", threadId=THREAD
    )
    receipt = await adapter.send(ACCOUNT, delivery)
    [request] = sink.requests
    assert check(request) == "create_message"
    assert request.path == f"/channels/{THREAD}/messages"
    assert (receipt.provider_message_id, receipt.more) == (f"{THREAD}:{MESSAGE}", False)
    body, files = arguments(request)
    assert files == {"files[0]": b"ABC", "files[1]": b"ABC"}
    assert (body["content"], body["flags"], body["tts"]) == ("look", 1 << 12 | 1 << 2, True)
    assert body["message_reference"] == {"message_id": MESSAGE, "fail_if_not_exists": False}
    assert body["allowed_mentions"] == {"parse": [], "replied_user": False}
    assert [len(row["components"]) for row in body["components"]] == [5, 2]
    assert body["components"][0]["components"][0] == {"type": 2, "label": "B0", "style": 4, "custom_id": "B0"}
    link = {"type": 2, "label": "Open", "style": 5, "url": "https://x.example/"}
    assert body["components"][1]["components"][1] == link
    assert body["embeds"] == [
        {
            "title": "\\*T\\*",
            "url": "https://x.example/",
            "description": "**D** \\<@1>",
            "color": 0x36A64F,
            "author": {"name": "A_b_", "url": "https://x.example/a"},
            "footer": {"text": "F", "icon_url": "https://x.example/f.png"},
            "timestamp": "2026-01-01T00:00:00+00:00",
            "image": {"url": "https://x.example/i.png"},
            "thumbnail": {"url": "https://x.example/t.png"},
            "fields": [{"name": "n\\_", "value": "v", "inline": True}],
        }
    ]


def test_what_is_more_than_one_message_keeps_its_order() -> None:
    poll = {"question": "Tea?", "options": ["yes", "no"]}
    captioned = {**FILE, "caption": "*c*"}
    content = {"text": "word " * 500, "attachments": [FILE, captioned], "embeds": [{"title": "T"}], "poll": poll}
    first, second, third, fourth = rendered({**content, "platformOptions": {"discord": {"pollHours": 2}}})
    assert (len(first.files), len(second.files), len(third.files)) == (0, 1, 1)
    assert (third.body["content"], third.body["embeds"]) == ("\\*c\\*", [{"title": "T"}])
    assert fourth.body["poll"] == {
        "question": {"text": "Tea?"},
        "answers": [{"poll_media": {"text": "yes"}}, {"poll_media": {"text": "no"}}],
        "allow_multiselect": False,
        "duration": 2,
    }
    [card] = rendered({"embeds": [{"url": "https://x.example/a_b"}], "buttons": [{"text": "B"}]})
    assert card.body["embeds"] == [{"title": "https://x.example/a_b", "url": "https://x.example/a_b"}]
    assert "components" in card.body


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"embeds": [{"title": "t" * 257}]}, ["/content/embeds/0/title"]),
    ({"embeds": [{"title": "t"}, {"description": "word " * 900}]}, ["/content/embeds/1/description"]),
    ({"embeds": [{"author": {"name": "a" * 257}}]}, ["/content/embeds/0/author/name"]),
    ({"embeds": [{"footer": {"text": "f" * 2049}}]}, ["/content/embeds/0/footer/text"]),
    ({"embeds": [{"fields": [{"name": "n", "value": "v" * 1025}]}]}, ["/content/embeds/0/fields/0/value"]),
    ({"embeds": [{"fields": [{"name": "*" * 129, "value": "v"}]}]}, ["/content/embeds/0/fields/0/name"]),
    ({"embeds": [{"fields": [{"name": "n", "value": "v"}] * 26}]}, ["/content/embeds/0/fields"]),
    ({"embeds": [{"title": "t", "timestamp": "soon"}]}, ["/content/embeds/0/timestamp"]),
    ({"embeds": [{"imageUrl": "https://x.example/" + "a" * 2040}]}, ["/content/embeds/0/imageUrl"]),
    ({"embeds": [{"description": "word " * 700}] * 2}, ["/content/embeds"]),
    (
        {"text": "x", "buttons": [{"text": "A", "value": "v"}, {"text": "B"}, {"text": "C", "value": "v"}]},
        ["/content/buttons/0/value", "/content/buttons/2/value"],
    ),
    ({"text": "x", "buttons": [{"text": "B", "url": "https://x.example/" + "a" * 512}]}, ["/content/buttons/0/url"]),
]


@pytest.mark.parametrize(("content", "pointers"), REFUSED, ids=[pointers[0] for _, pointers in REFUSED])
def test_what_discord_would_refuse_is_refused_before(content: dict[str, Any], pointers: list[str]) -> None:
    errors = DiscordAdapter.check_content(make_content(**content), PLAIN)
    assert [error.pointer for error in errors] == pointers


@pytest.mark.parametrize("color", ["36a64f", "3581519", "#36A64F"])
def test_colours_are_numbers(color: str) -> None:
    [call] = rendered({"embeds": [{"title": "t", "color": color}]})
    assert call.body["embeds"][0]["color"] == 0x36A64F
    [call] = rendered({"embeds": [{"title": "t", "color": "mauve"}]})
    assert "color" not in call.body["embeds"][0]


IDS: list[tuple[str, dict[str, Any], str | None]] = [
    (CHANNEL, {"replyTo": f"{CHANNEL}:{MESSAGE}", "threadId": THREAD}, None),
    (CHANNEL, {"replyTo": MESSAGE}, None),
    ("#general", {}, "/target/id"),
    (CHANNEL, {"replyTo": "a:b"}, "/options/replyTo"),
    (CHANNEL, {"threadId": f"{CHANNEL}:{MESSAGE}"}, "/options/threadId"),
]


@pytest.mark.parametrize(("target", "options", "pointer"), IDS)
def test_ids_are_numbers(target: str, options: dict[str, Any], pointer: str | None) -> None:
    delivery = make_delivery(target, make_content(text="x"), options=options)
    errors = DiscordAdapter.check_target(delivery.target)
    errors += DiscordAdapter.check_content(delivery.content, delivery.options)
    assert [error.pointer for error in errors] == ([] if pointer is None else [pointer])


async def test_a_channel_with_a_person_is_opened_once(adapter: DiscordAdapter, sink: HttpSink) -> None:
    for _ in range(2):
        receipt = await adapter.send(ACCOUNT, make_delivery(PERSON, make_content(text="x")))
        assert receipt.provider_message_id == f"{DIRECT}:{MESSAGE}"
    await adapter.forget(ACCOUNT.id)
    await adapter.act(ACCOUNT, make_action(PERSON, Type()))
    opened, written = "create_dm", "create_message"
    assert [check(each) for each in sink.requests] == [opened, written, written, opened, "trigger_typing_indicator"]
    assert arguments(sink.requests[0])[0] == {"recipient_id": PERSON}
    answer_with(sink, 500, {})
    await adapter.forget(ACCOUNT.id)
    with pytest.raises(TemporaryError) as raised:
        await adapter.send(ACCOUNT, make_delivery(PERSON, make_content(text="x")))
    assert raised.value.reached == "no"


async def test_a_chat_with_a_person_is_a_target_as_it_was_told(adapter: DiscordAdapter, sink: HttpSink) -> None:
    """What somebody writes to the bot is told with the channel as its chat, of the type `user`."""
    told = (400, {"message": "Invalid Recipient(s)", "code": 50033})

    async def answer(_: web.Request) -> web.StreamResponse:
        request = sink.requests[-1]
        status, body = told if request.path == "/users/@me/channels" else answers(request)
        return web.json_response(body, status=status)

    sink.answer = answer
    receipt = await adapter.send(ACCOUNT, make_delivery(DIRECT, make_content(text="x")))
    assert receipt.provider_message_id == f"{DIRECT}:{MESSAGE}"
    await adapter.act(ACCOUNT, make_action(DIRECT, Type()))
    opened = "create_dm"
    assert [check(each) for each in sink.requests] == [opened, "create_message", opened, "trigger_typing_indicator"]


async def test_who_opens_channels_too_fast_opens_none_for_others_either(
    adapter: DiscordAdapter, sink: HttpSink
) -> None:
    fast = {"message": "You are opening direct messages too fast.", "code": 40003}
    slower = {"message": "slower", "retry_after": 30.0, "global": False}
    for status, body, wait in ((403, fast, UNKNOWN_WAIT), (429, slower, 30.0)):
        answer_with(sink, status, body)
        with pytest.raises(ThrottledError) as raised:
            await adapter.send(ACCOUNT, make_delivery(PERSON, make_content(text="x")))
        assert (raised.value.scope, raised.value.retry_after, raised.value.reached) == (Scope.ACCOUNT, wait, "no")


async def test_each_part_has_a_nonce_that_stays(adapter: DiscordAdapter, sink: HttpSink) -> None:
    delivery = to_channel({"text": "word " * 500})
    for done in (0, 0, 1):
        await adapter.send(ACCOUNT, msgspec.structs.replace(delivery, part_ids=("x",) * done))
    await adapter.send(ACCOUNT, to_channel({"text": "word"}))
    bodies = [arguments(request)[0] for request in sink.requests]
    nonces = [body["nonce"] for body in bodies]
    assert nonces[0] == nonces[1]
    assert len(set(nonces)) == 3
    assert all(body["enforce_nonce"] and len(body["nonce"]) == 25 for body in bodies)


# --- what is done to messages


ACTIONS: list[tuple[Action, str, str]] = [
    (React(message_id=MESSAGE, emoji="👍🏽"), "PUT", "/reactions/%F0%9F%91%8D%F0%9F%8F%BD/@me"),
    (React(message_id=f"{CHANNEL}:{MESSAGE}", emoji="<a:apple:42>"), "PUT", "/reactions/apple:42/@me"),
    (Unreact(message_id=MESSAGE, emoji="apple:42"), "DELETE", "/reactions/apple:42/@me"),
    (Edit(message_id=MESSAGE, content=make_content(markdown="**new**")), "PATCH", ""),
    (Delete(message_id=MESSAGE), "DELETE", ""),
]


@pytest.mark.parametrize(("action", "method", "path"), ACTIONS, ids=[f"{each[1]}{each[2]}" for each in ACTIONS])
async def test_actions_name_their_message(
    adapter: DiscordAdapter, sink: HttpSink, action: Action, method: str, path: str
) -> None:
    assert DiscordAdapter.check_action(action) == []
    await adapter.act(ACCOUNT, make_action(CHANNEL, action, target_type="channel"))
    [request] = sink.requests
    assert check(request)
    where = f"/channels/{CHANNEL}/messages/{MESSAGE}{path}"
    assert (request.method, request.path.replace("%3A", ":")) == (method, where)


async def test_an_edit_leaves_nothing_of_what_was_there(adapter: DiscordAdapter, sink: HttpSink) -> None:
    content = make_content(embeds=[{"title": "T"}], platformOptions={"discord": {"tts": True}})
    await adapter.act(ACCOUNT, make_action(CHANNEL, Edit(message_id=MESSAGE, content=content), target_type="channel"))
    assert arguments(sink.requests[-1])[0] == {
        "content": "",
        "embeds": [{"title": "T"}],
        "components": [],
        "attachments": [],
        "allowed_mentions": {"parse": []},
    }
    for wrong in (React(message_id="m", emoji="👍"), Edit(message_id="1:2:3", content=content)):
        assert [error.pointer for error in DiscordAdapter.check_action(wrong)] == ["/messageId"]


GONE: list[tuple[Action, int, bool]] = [
    (Delete(message_id=MESSAGE), 10008, True),
    (Unreact(message_id=MESSAGE, emoji="👍"), 10014, True),
    (React(message_id=MESSAGE, emoji="👍"), 10014, False),
    (Delete(message_id=MESSAGE), 50013, False),
    (MarkRead(message_id=MESSAGE), 0, False),
]


@pytest.mark.parametrize(("action", "code", "done"), GONE)
async def test_what_is_gone_is_as_good_as_taken_away(
    adapter: DiscordAdapter, sink: HttpSink, action: Action, code: int, done: bool
) -> None:
    answer_with(sink, 404, {"message": "Unknown", "code": code})
    outgoing = make_action(CHANNEL, action, target_type="channel")
    if done:
        await adapter.act(ACCOUNT, outgoing)
        return
    with pytest.raises(PermanentError):
        await adapter.act(ACCOUNT, outgoing)


# --- limits and errors


async def test_what_is_left_of_the_channels_bucket_is_passed_on(adapter: DiscordAdapter, sink: HttpSink) -> None:
    answer_with(sink, X_RateLimit_Remaining="0", X_RateLimit_Reset_After="4.25")
    receipt = await adapter.send(ACCOUNT, to_channel({"text": "x"}))
    assert receipt.pace == Pace(Scope.LANE, 0, 4.25)
    answer_with(sink, X_RateLimit_Remaining="none")
    assert (await adapter.send(ACCOUNT, to_channel({"text": "x"}))).pace is None
    answer_with(sink, X_RateLimit_Remaining="0", X_RateLimit_Reset_After="nan")
    assert (await adapter.send(ACCOUNT, to_channel({"text": "x"}))).pace is None
    answer_with(sink, X_RateLimit_Remaining="9" * 5000, X_RateLimit_Reset_After="inf")
    assert (await adapter.send(ACCOUNT, to_channel({"text": "x"}))).pace == Pace(Scope.LANE, 999_999_999, 3600.0)


LIMITED: list[tuple[dict[str, Any], dict[str, str], Scope, float]] = [
    ({"message": "slower", "retry_after": 0.3, "global": False}, {"X_RateLimit_Scope": "user"}, Scope.LANE, 0.3),
    ({"message": "slower", "retry_after": 9.5, "global": False}, {"X_RateLimit_Scope": "shared"}, Scope.LANE, 9.5),
    ({"message": "slower", "retry_after": 2.5, "global": True}, {}, Scope.ACCOUNT, 2.5),
    ({"message": "slowmode", "code": 20016, "retry_after": 7.0}, {}, Scope.LANE, 7.0),
    ({}, {"Retry_After": "1200"}, Scope.ACCOUNT, 1200.0),
]


@pytest.mark.parametrize(("body", "headers", "scope", "wait"), LIMITED)
async def test_a_limit_holds_up_what_it_is_of(
    adapter: DiscordAdapter, sink: HttpSink, body: Any, headers: dict[str, str], scope: Scope, wait: float
) -> None:
    answer_with(sink, 429, body, **headers)
    with pytest.raises(ThrottledError) as raised:
        await adapter.send(ACCOUNT, to_channel({"text": "x"}))
    assert (raised.value.scope, raised.value.retry_after) == (scope, wait)


async def test_an_error_names_the_field(adapter: DiscordAdapter, sink: HttpSink) -> None:
    # The shape is that of https://docs.discord.com/developers/reference#error-messages.
    wrong = {"_errors": [{"code": "BASE_TYPE_BAD_LENGTH", "message": "Must be 80 or fewer in length."}]}
    errors = {"components": {"0": {"components": {"1": {"label": wrong}}}}, "_errors": [{"message": "Too large"}]}
    answer_with(sink, 400, {"code": 50035, "message": "Invalid Form Body", "errors": errors})
    with pytest.raises(PermanentError) as raised:
        await adapter.send(ACCOUNT, to_channel({"text": "x"}))
    assert "components.0.components.1.label: Must be 80 or fewer in length." in raised.value.message
    assert "message: Too large" in raised.value.message


# --- receiving is set up


async def test_an_address_is_registered_for_who_can_verify(adapter: DiscordAdapter, sink: HttpSink) -> None:
    url = "https://m.example/api/v1/webhooks/discord/x"
    told = await adapter.register_webhook(ACCOUNT, url)
    assert check(sink.requests[-1]) == "update_my_application"
    assert told == {"id": CHANNEL, "name": "App", "interactions_endpoint_url": url}
    with pytest.raises(InvalidInputError) as raised:
        await adapter.register_webhook(make_account("discord", {"token": ACCOUNT.credentials["token"]}), url)
    assert [error.pointer for error in raised.value.errors] == ["/credentials/publicKey"]

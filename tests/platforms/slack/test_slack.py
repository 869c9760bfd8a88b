"""Slack beyond what holds for every platform: its markup, its files, people, actions, and its requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import Delete, Edit, React, Unreact
from msgcore.core.content import SendOptions
from msgcore.core.envelope import File
from msgcore.core.errors import PermanentError, Scope, TemporaryError, ThrottledError
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.reading import read_markdown
from msgcore.outbound.rich.tree import plain
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import OutgoingDelivery
from msgcore.platforms.receiving import InboundRequest, SignatureError
from msgcore.platforms.slack import SlackAdapter
from msgcore.platforms.slack.emoji import emoji_of, name_of
from msgcore.platforms.slack.inbound import SlackInbound, sign
from msgcore.platforms.slack.mrkdwn import DIALECT
from platforms.slack.facts import CHANNEL, FILE, TS, answers, arguments, check
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.http_sink import HttpSink
from specs.slack import ERRORS

PERSON, DIRECT = "U061F7AUR", "D069C7QFK"
MESSAGE = f"{CHANNEL}:{TS}"
# https://docs.slack.dev/authentication/verifying-requests-from-slack, the example of that page
SECRET, AT = "8f742231b10e8888abcd99yyyzzz85a5", "1531420618"
SIGNED = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
FILE_A = {"data": "QUJD", "filename": "a.txt", "mimeType": "text/plain"}
ACCOUNT = make_account("slack", {"botToken": "xoxb-example-example", "signingSecret": SECRET})
PLAIN = SendOptions()


@pytest.fixture
def adapter(services: AdapterServices, sink: HttpSink) -> SlackAdapter:
    """An adapter whose Slack is `sink`, which answers as documented, or as `wrong` says for a method."""
    services.base_urls["slack"] = sink.url
    answer_with(sink)
    return SlackAdapter(services)


def answer_with(sink: HttpSink, **wrong: Any) -> None:
    """Answer as documented, apart from methods (with `_` for `.`) that answer a status and a body."""

    async def answer(_: web.Request) -> web.StreamResponse:
        method, _given = arguments(sink.requests[-1])
        status, body = wrong.get(method.replace(".", "_"), answers(sink.requests[-1]))
        return web.json_response(body, status=status, headers={"Retry-After": "7"} if status == 429 else {})

    sink.answer = answer


def methods(sink: HttpSink) -> list[str]:
    """What was called, each as described."""
    return [check(request) for request in sink.requests]


def given(sink: HttpSink, method: str) -> dict[str, Any]:
    """The arguments of the last call of a method."""
    return [arguments(each)[1] for each in sink.requests if arguments(each)[0] == method][-1]


def rendered(content: dict[str, Any], **options: Any) -> list[Call]:
    rendering = SlackAdapter.render(make_content(**content), msgspec.convert(options, SendOptions))
    assert not rendering.errors
    return list(rendering.calls)


# --- markup


MARKUP: list[tuple[str, str]] = [
    ("a **b** c", "a *b* c"),
    ("a**b**c", "a\u200b*b*\u200bc"),
    ("*i* ~~s~~ `c`", "_i_ ~s~ `c`"),
    ("# Title", "*Title*"),
    ("[words](https://x.example/?a=1&b=2)", "<https://x.example/?a=1&amp;b=2|words>"),
    ("[**b**](https://x.example/)", "*<https://x.example/|b>*"),
    ("[a|b](https://x.example/a|b)", "<https://x.example/a%7Cb|a|b>"),
    ("[https://x.example](https://x.example)", "<https://x.example>"),
    ("[all](!channel) [you](@U1) [there](#C1)", "all (!channel) you (@U1) there (#C1)"),
    ("\\<!channel> \\<@U1|x>", "&lt;!channel&gt; &lt;@U1|x&gt;"),
    ("see https://x.example/a_b?c=1&d=2.", "see <https://x.example/a_b?c=1&amp;d=2>."),
    ("> said\n> so", "> said\n> so"),
    ("```py\na < b ``` c\n```", "```\na &lt; b `\u200b`\u200b` c\n```"),
    ("- one\n- two", "• one\n• two"),
]


@pytest.mark.parametrize(("markdown", "expected"), MARKUP, ids=[markdown for markdown, _ in MARKUP])
def test_markdown_becomes_markup_without_mentions(markdown: str, expected: str) -> None:
    assert DIALECT.write(read_markdown(markdown)) == expected


def test_plain_text_is_never_markup() -> None:
    text = "*a* <!here> & https://x.example/?a=1&b=2 _b_"
    [call] = rendered({"text": text, "buttons": [{"text": "B", "value": "v"}]})
    assert call.body["mrkdwn"] is False
    assert call.body["text"] == "*a* &lt;!here&gt; &amp; <https://x.example/?a=1&amp;b=2> _b_"
    assert call.body["text"] == DIALECT.write(plain(text))
    [shown] = call.body["blocks"][0]["elements"]
    assert shown["elements"] == [
        {"type": "text", "text": "*a* <!here> & "},
        {"type": "link", "url": "https://x.example/?a=1&b=2"},
        {"type": "text", "text": " _b_"},
    ]
    [formatted] = rendered({"markdown": text, "buttons": [{"text": "B", "value": "v"}]})
    assert formatted.body["blocks"][0]["text"]["verbatim"] is True
    assert "mrkdwn" not in formatted.body


def test_embeds_are_cards() -> None:
    fields = [{"name": f"n{number}", "value": "v", "inline": number != 3} for number in range(14)]
    embed = {
        "title": "T",
        "url": "https://x.example/",
        "description": "**D** <!here>",
        "color": "#36a64f",
        "author": {"name": "A"},
        "footer": {"text": "F"},
        "timestamp": "2026-01-01T00:00:00Z",
        "imageUrl": "https://x.example/i.png",
        "thumbnailUrl": "https://x.example/t.png",
        "fields": fields,
    }
    [call] = rendered({"text": "see", "embeds": [embed]})
    [card] = call.body["attachments"]
    assert (card["color"], card["fallback"]) == ("#36a64f", "T")
    shown = [block.get("text", {}).get("text") or len(block.get("fields", ())) for block in card["blocks"]]
    assert shown == [0, "*<https://x.example/|T>*\n\n*D* &lt;!here&gt;", 3, "*n3*\nv", 10, 0, 0]


def test_an_embed_that_shows_nothing_is_left_out() -> None:
    [call] = rendered({"text": "see", "embeds": [{"color": "#36a64f"}, {"title": "T"}]})
    assert [card["fallback"] for card in call.body["attachments"]] == ["T"]
    [error] = SlackAdapter.check_content(make_content(embeds=[{}]), PLAIN)
    assert error.message.startswith("content shows nothing")


TOO_MUCH: list[tuple[dict[str, Any], str]] = [
    ({"embeds": [{"description": "word " * 2000}] * 2}, "/content/embeds"),
    ({"embeds": [{"title": "t", "fields": [{"name": "n", "value": "v"}] * 60}]}, "/content/embeds"),
    ({"text": "x", "buttons": [{"text": "B", "url": "https://x.example/" + "a" * 3000}]}, "/content"),
]


@pytest.mark.parametrize(("content", "pointer"), TOO_MUCH)
def test_what_slack_would_refuse_is_refused_before(content: dict[str, Any], pointer: str) -> None:
    [error] = SlackAdapter.check_content(make_content(**content), PLAIN)
    assert error.pointer == pointer


def test_all_of_an_answer_goes_to_its_thread() -> None:
    content = {"text": "word " * 1000, "attachments": [FILE_A]}
    calls = rendered(content, replyTo=MESSAGE)
    assert len(calls) == 3
    assert {call.body["thread_ts"] for call in calls} == {TS}
    [call] = rendered({"text": "x"}, replyTo=f"{CHANNEL}:1.2", threadId=TS)
    assert call.body["thread_ts"] == TS


@pytest.mark.parametrize("options", [{"replyTo": "17"}, {"threadId": "#general"}])
def test_answers_need_an_id(options: dict[str, Any]) -> None:
    [error] = SlackAdapter.check_content(make_content(text="x"), msgspec.convert(options, SendOptions))
    assert error.pointer.startswith("/options/")


TARGETS = {
    ("user", PERSON): True,
    ("user", DIRECT): True,
    ("user", CHANNEL): False,
    ("channel", CHANNEL): True,
    ("channel", "#general"): False,
    ("group", PERSON): False,
    ("chat", PERSON): True,
    ("chat", "c1"): False,
}


@pytest.mark.parametrize(("kind", "id_"), TARGETS)
def test_targets_are_ids(kind: str, id_: str) -> None:
    target = make_delivery(id_, make_content(text="x"), target_type=kind).target
    assert (not SlackAdapter.check_target(target)) == TARGETS[kind, id_]


# --- files and people


async def test_files_are_uploaded_and_then_shared(adapter: SlackAdapter, sink: HttpSink) -> None:
    content = make_content(text="look", attachments=[FILE_A, FILE_A, {**FILE_A, "caption": "c"}])
    delivery = make_delivery(CHANNEL, content, target_type="channel")
    receipts = [await adapter.send(ACCOUNT, parts_of(delivery, done)) for done in range(3)]
    each = ["files.getUploadURLExternal", "upload"]
    share = "files.completeUploadExternal"
    assert methods(sink) == ["chat.postMessage", *each, *each, share, *each, share]
    assert given(sink, "upload") == {"bytes": b"ABC"}
    assert given(sink, share) == {
        "channel_id": CHANNEL,
        "initial_comment": "c",
        "files": [{"id": FILE, "title": "a.txt"}],
    }
    assert [receipt.more for receipt in receipts] == [True, True, False]
    assert receipts[-1].provider_message_id == FILE


def parts_of(delivery: OutgoingDelivery, done: int) -> OutgoingDelivery:
    return msgspec.structs.replace(delivery, part_ids=("x",) * done)


def test_a_text_beside_a_file_is_its_comment_unless_there_are_buttons() -> None:
    [call] = rendered({"text": "look", "attachments": [FILE_A]})
    assert call.body == {"initial_comment": "look"}
    first, second = rendered({"text": "look", "attachments": [FILE_A], "buttons": [{"text": "B"}]})
    assert (first.body["text"], second.body) == ("look", {})


async def test_the_message_of_a_file_is_told_where_slack_knows_it(adapter: SlackAdapter, sink: HttpSink) -> None:
    # The shape of `shares` is that of https://docs.slack.dev/reference/objects/file-object.
    files = [{"id": FILE, "shares": {"public": {CHANNEL: [{"ts": TS}]}}}]
    answer_with(sink, files_completeUploadExternal=(200, {"ok": True, "files": files}))
    receipt = await adapter.send(ACCOUNT, make_delivery(CHANNEL, make_content(attachments=[FILE_A])))
    assert receipt.provider_message_id == MESSAGE


async def test_a_conversation_with_a_person_is_opened_once(adapter: SlackAdapter, sink: HttpSink) -> None:
    for _ in range(2):
        await adapter.send(ACCOUNT, make_delivery(PERSON, make_content(text="x")))
    assert methods(sink) == ["conversations.open", "chat.postMessage", "chat.postMessage"]
    assert given(sink, "conversations.open") == {"users": PERSON}
    assert given(sink, "chat.postMessage")["channel"] == DIRECT
    await adapter.forget(ACCOUNT.id)
    await adapter.send(ACCOUNT, make_delivery(PERSON, make_content(text="x")))
    assert methods(sink)[-2:] == ["conversations.open", "chat.postMessage"]


BEFORE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (PERSON, {"text": "x"}, {"conversations_open": (500, {})}),
    (PERSON, {"text": "x"}, {"conversations_open": (200, {"ok": False, "error": "internal_error"})}),
    (PERSON, {"text": "x"}, {"conversations_open": (200, {"ok": True})}),
    (CHANNEL, {"attachments": [FILE_A]}, {"files_getUploadURLExternal": (200, {"ok": True})}),
    (CHANNEL, {"attachments": [FILE_A]}, {"upload": (503, {})}),
]


@pytest.mark.parametrize(("target", "content", "wrong"), BEFORE)
async def test_what_fails_before_a_message_is_there_reached_nobody(
    adapter: SlackAdapter, sink: HttpSink, target: str, content: dict[str, Any], wrong: dict[str, Any]
) -> None:
    answer_with(sink, **wrong)
    with pytest.raises(TemporaryError) as raised:
        await adapter.send(ACCOUNT, make_delivery(target, make_content(**content)))
    assert raised.value.reached == "no"


async def test_what_may_have_succeeded_halfway_is_uncertain(adapter: SlackAdapter, sink: HttpSink) -> None:
    answer_with(sink, chat_postMessage=(200, {"ok": False, "error": "fatal_error"}))
    with pytest.raises(TemporaryError) as raised:
        await adapter.send(ACCOUNT, make_delivery(CHANNEL, make_content(text="x")))
    assert raised.value.reached == "maybe"


async def test_a_throttled_method_holds_up_only_who_needs_it(adapter: SlackAdapter, sink: HttpSink) -> None:
    slower = (429, {"ok": False, "error": "ratelimited"})
    answer_with(sink, conversations_open=slower, chat_postMessage=slower)
    for target, scope in ((PERSON, Scope.LANE), (CHANNEL, Scope.ACCOUNT)):
        with pytest.raises(ThrottledError) as raised:
            await adapter.send(ACCOUNT, make_delivery(target, make_content(text="x")))
        assert (raised.value.scope, raised.value.retry_after) == (scope, 7)


# --- messages that are there


async def test_actions_are_calls_as_described(adapter: SlackAdapter, sink: HttpSink) -> None:
    new = make_content(markdown="**new**", buttons=[{"text": "B"}])
    for action in (
        React(message_id=MESSAGE, emoji="👍"),
        Unreact(message_id=MESSAGE, emoji="👍🏽"),
        Edit(message_id=MESSAGE, content=new),
        Delete(message_id=MESSAGE),
    ):
        await adapter.act(ACCOUNT, make_action(CHANNEL, action))
    assert methods(sink) == ["reactions.add", "reactions.remove", "chat.update", "chat.delete"]
    assert given(sink, "reactions.add") == {"channel": CHANNEL, "timestamp": TS, "name": "+1"}
    assert given(sink, "reactions.remove")["name"] == "+1::skin-tone-4"
    changed = given(sink, "chat.update")
    assert (changed["ts"], changed["text"], changed["parse"], changed["attachments"]) == (TS, "*new*", "none", [])
    assert [block["type"] for block in changed["blocks"]] == ["section", "actions"]


async def test_what_is_done_already_is_done(adapter: SlackAdapter, sink: HttpSink) -> None:
    answer_with(
        sink,
        reactions_add=(200, {"ok": False, "error": "already_reacted"}),
        reactions_remove=(200, {"ok": False, "error": "no_reaction"}),
        chat_delete=(200, {"ok": False, "error": "message_not_found"}),
        chat_update=(200, {"ok": False, "error": "message_not_found"}),
    )
    for action in (
        React(message_id=MESSAGE, emoji="eyes"),
        Unreact(message_id=MESSAGE, emoji=":eyes:"),
        Delete(message_id=MESSAGE),
    ):
        await adapter.act(ACCOUNT, make_action(CHANNEL, action))
    with pytest.raises(PermanentError, match="no such message"):
        await adapter.act(ACCOUNT, make_action(CHANNEL, Edit(message_id=MESSAGE, content=make_content(text="x"))))


async def test_plain_text_stays_plain_when_it_is_edited(adapter: SlackAdapter, sink: HttpSink) -> None:
    await adapter.act(ACCOUNT, make_action(CHANNEL, Edit(message_id=MESSAGE, content=make_content(text="*a* & b"))))
    [block] = given(sink, "chat.update")["blocks"]
    assert block["elements"][0]["elements"] == [{"type": "text", "text": "*a* & b"}]


def test_what_became_of_a_file_cannot_be_changed(adapter: SlackAdapter) -> None:
    [error] = adapter.check_action(Delete(message_id="F024BERPE"))
    assert error.pointer == "/messageId"


EMOJIS = [("👍", "+1"), ("❤️", "heart"), ("👋🏿", "wave::skin-tone-6"), ("party_parrot", "party_parrot")]


@pytest.mark.parametrize(("emoji", "name"), EMOJIS)
def test_emojis_have_names(emoji: str, name: str) -> None:
    assert name_of(emoji) == name
    assert emoji_of(name) == emoji.replace("\ufe0f", "")


@pytest.mark.parametrize("options", [{}, {"replyTo": MESSAGE}])
async def test_what_was_sent_is_found_by_its_metadata(
    adapter: SlackAdapter, sink: HttpSink, options: dict[str, Any]
) -> None:
    delivery = make_delivery(CHANNEL, make_content(text="word " * 1000), options=options)
    await adapter.send(ACCOUNT, parts_of(delivery, 1))
    sent = given(sink, "chat.postMessage")
    history = {"ok": True, "messages": [{"ts": "1.0", "text": "other"}, {"ts": TS, "metadata": sent["metadata"]}]}
    answer_with(sink, conversations_history=(200, history), conversations_replies=(200, history))
    found = await adapter.find_sent(ACCOUNT, parts_of(delivery, 1))
    assert found is not None
    assert (found.provider_message_id, found.more) == (MESSAGE, False)
    assert await adapter.find_sent(ACCOUNT, delivery) is None
    assert methods(sink)[-1] == ("conversations.replies" if options else "conversations.history")
    refused = (200, {"ok": False, "error": "missing_scope", "needed": "channels:history"})
    answer_with(sink, conversations_history=refused, conversations_replies=refused)
    with pytest.raises(PermanentError, match="needs channels:history"):
        await adapter.find_sent(ACCOUNT, parts_of(delivery, 1))


async def test_shared_files_cannot_be_looked_for(adapter: SlackAdapter, sink: HttpSink) -> None:
    assert await adapter.find_sent(ACCOUNT, make_delivery(CHANNEL, make_content(attachments=[FILE_A]))) is None
    assert sink.requests == []


async def test_errors_say_what_is_missing(adapter: SlackAdapter, sink: HttpSink) -> None:
    wrong = {"ok": False, "error": "missing_scope", "needed": "chat:write", "provided": "im:write"}
    answer_with(sink, chat_postMessage=(200, wrong))
    with pytest.raises(PermanentError, match="needs chat:write"):
        await adapter.send(ACCOUNT, make_delivery(CHANNEL, make_content(text="x")))


def test_each_error_is_documented() -> None:
    assert {rule.platform_code for rule in SlackAdapter.errors.rules} <= ERRORS


FILE_URLS = {
    "https://files.slack.com/files-pri/T1-F1/a.png": True,
    "https://team.slack.com/files/a.png": True,
    "http://files.slack.com/files-pri/T1-F1/a.png": False,
    "https://files.slack.com.example.com/a.png": False,
    "https://notslack.com/a.png": False,
}


@pytest.mark.parametrize(("url", "with_token"), FILE_URLS.items())
async def test_only_slack_gets_the_token_and_encrypted(adapter: SlackAdapter, url: str, with_token: bool) -> None:
    source = await adapter.locate_file(ACCOUNT, File(url=url))
    assert source.url == url
    assert ("Authorization" in source.headers) == with_token


# --- requests of Slack


def request_of(body: bytes, *, at: str = AT, signature: str | None = None, now: float = float(AT)) -> InboundRequest:
    headers = {"x-slack-request-timestamp": at, "x-slack-signature": signature or sign(SECRET, at, body)}
    return InboundRequest("POST", headers, "", body, datetime.fromtimestamp(now, UTC))


def test_the_documented_signature_is_taken() -> None:
    SlackInbound().verify(ACCOUNT, request_of(SIGNED, signature=SIGNATURE))
    [envelope] = SlackInbound().read(ACCOUNT, request_of(SIGNED))
    assert envelope.chat.name == "foobar"
    assert "response_url" not in envelope.raw


REFUSED = [
    request_of(SIGNED, now=float(AT) + 301),
    request_of(SIGNED, now=float(AT) - 301),
    request_of(SIGNED + b"x", signature=SIGNATURE),
    request_of(SIGNED, at="1531420619", signature=SIGNATURE),
    request_of(SIGNED, at="٣"),
]


@pytest.mark.parametrize("request_", REFUSED)
def test_old_and_changed_requests_are_refused(request_: InboundRequest) -> None:
    with pytest.raises(SignatureError):
        SlackInbound().verify(ACCOUNT, request_)


def test_without_a_signing_secret_nothing_is_taken() -> None:
    account = make_account("slack", {"botToken": "xoxb-example-example"})
    body = b"{}"
    with pytest.raises(SignatureError, match="signingSecret"):
        SlackInbound().verify(account, request_of(body, signature=sign("", AT, body)))


HANDSHAKES: list[tuple[bytes, bytes | None]] = [
    (b'{"token":"x","challenge":"3eZb","type":"url_verification"}', b'{"challenge":"3eZb"}'),
    (b"ssl_check=1&token=x", b""),
    (b'{"type":"event_callback","event":{"type":"message","text":"url_verification ssl_check=1"}}', None),
    (b'{"type":"event_callback","event":{"type":"message","text":"a&ssl_check=1&b"}}', None),
    (b"command=%2Furl_verification&text=url_verification&channel_id=C1", None),
    (b"command=%2Fsay&text=x&ssl_check=10", None),
    (SIGNED, None),
]


@pytest.mark.parametrize(("body", "expected"), HANDSHAKES)
def test_handshakes_are_answered(body: bytes, expected: bytes | None) -> None:
    answer = SlackInbound().handshake(ACCOUNT, request_of(body))
    assert (None if answer is None else answer.body) == expected


def test_a_command_is_answered_with_nothing() -> None:
    assert SlackInbound().reply(request_of(SIGNED)).body == b""

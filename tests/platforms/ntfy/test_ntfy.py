"""ntfy: a real server, to which messages go out and from which they come."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import Delete, Edit, MarkRead, React
from msgcore.core.envelope import Click, Deletion, Message, Receipt
from msgcore.core.envelope import Edit as Edited
from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError, ThrottledError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account, OutgoingDelivery, SentReceipt
from msgcore.platforms.live import Payload, State
from msgcore.platforms.ntfy import NtfyAdapter
from msgcore.platforms.ntfy.inbound import NtfyInbound
from msgcore.platforms.ntfy.live import OVERLAP, NtfyLive
from msgcore.platforms.receiving import InboundRequest
from msgcore.platforms.registry import PlatformRegistry
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.http_sink import HttpSink
from servers.ntfy import PASSWORD, TOKEN, USER, NtfyServer
from servers.patience import PATIENCE

QUOTED = '"\n' * 1500
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
WRONG = "tk_wrongwrongwrongwrongwrongwro"


@pytest.fixture
def adapter(services: AdapterServices) -> NtfyAdapter:
    return NtfyAdapter(services)


def account_of(url: str, **more: Any) -> Account:
    credentials = {"serverUrl": f"{url}/", **more}
    assert PlatformRegistry().check_credentials("ntfy", credentials) == []
    return make_account("ntfy", credentials)


async def send_all(adapter: NtfyAdapter, account: Account, delivery: OutgoingDelivery) -> list[SentReceipt]:
    """As the dispatch core does it."""
    assert adapter.check_target(delivery.target) == []
    assert adapter.check_content(delivery.content, delivery.options) == []
    receipts: list[SentReceipt] = []
    while not receipts or receipts[-1].more:
        done = tuple(receipt.provider_message_id or "" for receipt in receipts)
        receipts.append(await adapter.send(account, msgspec.structs.replace(delivery, part_ids=done)))
    return receipts


def about(message: dict[str, Any]) -> dict[str, Any]:
    """What of a message does not change from run to run."""
    changing = ("id", "sequence_id", "time", "expires", "event", "topic")
    return {name: value for name, value in message.items() if name not in changing}


# --- what goes out

FILE = {"data": b64encode(PNG).decode(), "filename": "gr\u00fc\u00df =?utf-8?q?x?=.png", "mimeType": "image/png"}
LINK = {"url": "https://files.example/a.pdf", "caption": "the plan"}
GOES_OUT: list[tuple[str, dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = [
    ("plain", {"text": "1 * 2 * 3 <b> _x_\n# no title"}, {}, [{"message": "1 * 2 * 3 <b> _x_\n# no title"}]),
    (
        "formatted",
        {"markdown": "# T\n\n**b** *i* `c` 1\\*2 [l](https://x.example/?a=1)\n\n- one\n- two\n\n> q"},
        {},
        [
            {
                "message": "# T\n\n**b** *i* ``c`` 1\\*2 [l](<https://x.example/?a=1>)\n\n- one\n- two\n\n> q",
                "content_type": "text/markdown",
            }
        ],
    ),
    (
        "title and options",
        {
            "subject": "Gr\u00fc\u00dfe =?utf-8?q?=0AX?=",
            "text": "t",
            "platformOptions": {"ntfy": {"tags": ["warning", "gr\u00fcn"], "click": "https://x.example/a=?b"}},
        },
        {"silent": True},
        [
            {
                "title": "Gr\u00fc\u00dfe =\u2060?utf-8?q?=0AX?=",
                "message": "t",
                "priority": 2,
                "tags": ["warning", "gr\u00fcn"],
                "click": "https://x.example/a=%3Fb",
            }
        ],
    ),
    ("only a title", {"subject": "Done"}, {}, [{"message": "Done"}]),
    ("the longest", {"text": "\u00fc" * 2047 + "x"}, {}, [{"message": "\u00fc" * 2047 + "x"}]),
    (
        "signs that JSON writes with two",
        {"text": QUOTED},
        {},
        [{"message": ('"\n' * 1500).strip()}],
    ),
    (
        "a link to a file",
        {"attachments": [LINK]},
        {},
        [{"message": "the plan", "attachment": {"name": "a.pdf", "url": "https://files.example/a.pdf"}}],
    ),
]


@pytest.mark.parametrize(("content", "options", "kept"), [case[1:] for case in GOES_OUT], ids=[c[0] for c in GOES_OUT])
async def test_the_server_keeps_what_was_meant(
    adapter: NtfyAdapter,
    ntfy: NtfyServer,
    content: dict[str, Any],
    options: dict[str, Any],
    kept: list[dict[str, Any]],
) -> None:
    delivery = make_delivery(f"out{id(content)}", make_content(**content), options=options)
    receipts = await send_all(adapter, account_of(ntfy.url), delivery)
    messages = await asyncio.to_thread(ntfy.messages, delivery.target.id)
    assert [about(message) for message in messages] == kept
    assert [r.provider_message_id for r in receipts] == [f"{m['topic']}:{m['sequence_id']}" for m in messages]


async def test_files_and_long_texts_become_messages_of_their_own(adapter: NtfyAdapter, ntfy: NtfyServer) -> None:
    caption = 'C:\\new "=?utf-8?q?=0A?="\n\u65e5\u672c'
    buttons = [{"text": "\u00d6ffnen", "url": "https://x.example/?a=?b"}]
    content = make_content(
        subject="T\u00fcr", text="x" * 5000, attachments=[FILE | {"caption": caption}], buttons=buttons
    )
    delivery = make_delivery("files", content)
    assert len(await send_all(adapter, account_of(ntfy.url, username=USER, password=PASSWORD), delivery)) == 3
    first, second, last = await asyncio.to_thread(ntfy.messages, "files")
    assert (first["title"], first["message"] + second["message"], "title" in second) == ("T\u00fcr", "x" * 5000, False)
    assert last["message"] == caption.replace("\\n", "\\\u2060n")
    assert last["attachment"]["name"] == FILE["filename"]
    assert (last["attachment"]["type"], last["attachment"]["size"]) == ("image/png", len(PNG))
    assert await asyncio.to_thread(ntfy.fetch, last["attachment"]["url"]) == PNG
    [action] = last["actions"]
    assert (action["label"], action["url"]) == ("\u00d6ffnen", "https://x.example/?a=%3Fb")
    assert "actions" not in first


TOO_MUCH: list[tuple[str, dict[str, Any], str]] = [
    (
        "four buttons",
        {
            "buttons": [{"text": "a", "url": "https://x.example"}],
            "platformOptions": {"ntfy": {"actions": [{"action": "copy", "label": "c", "value": "v"}] * 3}},
        },
        "/content/platformOptions/ntfy/actions",
    ),
    (
        "nothing to be requested",
        {"platformOptions": {"ntfy": {"actions": [{"action": "http", "label": "a", "body": "b"}]}}},
        "/content/platformOptions/ntfy/actions/0",
    ),
    ("long addresses", {"buttons": [{"text": str(n), "url": f"https://x.example/{'a' * 4000}"} for n in "ab"]}, "/content"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "pointer"), [case[1:] for case in TOO_MUCH], ids=[case[0] for case in TOO_MUCH])
def test_what_the_server_would_not_take_is_refused(content: dict[str, Any], pointer: str) -> None:
    errors = PlatformRegistry().check_content("ntfy", make_content(text="x", **content))
    assert [error.pointer for error in errors] == [pointer]


async def test_a_message_that_is_sent_again_is_the_same_one_and_can_be_found(
    adapter: NtfyAdapter, ntfy: NtfyServer
) -> None:
    account, delivery = account_of(ntfy.url), make_delivery("again", make_content(text="x" * 5000))
    assert await adapter.find_sent(account, delivery) is None
    first = await adapter.send(account, delivery)
    assert first.more
    assert await adapter.find_sent(account, delivery) == first == await adapter.send(account, delivery)
    rest = msgspec.structs.replace(delivery, part_ids=(first.provider_message_id or "",))
    assert await adapter.find_sent(account, rest) is None
    assert await adapter.find_sent(account, make_delivery("out-only", make_content(text="x"))) is None, "may not read"


async def test_messages_are_changed_deleted_and_cleared(adapter: NtfyAdapter, ntfy: NtfyServer) -> None:
    account = account_of(ntfy.url, token=TOKEN)
    sent = await adapter.send(account, make_delivery("private-a", make_content(text="50 %")))
    id_ = sent.provider_message_id or ""
    for action in (
        Edit(message_id=id_, content=make_content(text="100 %")),
        MarkRead(message_id=id_),
        Delete(message_id=id_),
    ):
        assert adapter.check_action(action) == []
        await adapter.act(account, make_action("private-a", action))
    messages = await asyncio.to_thread(ntfy.messages, "private-a")
    assert [(each["event"], each.get("message")) for each in messages] == [
        ("message", "50 %"),
        ("message", "100 %"),
        ("message_clear", None),
        ("message_delete", None),
    ]  # fmt: skip
    assert {f"private-a:{each['sequence_id']}" for each in messages} == {id_}
    with pytest.raises(PermanentError):
        await adapter.act(account, make_action("private-a", React(message_id=id_, emoji="\U0001f44d")))


async def test_the_servers_own_refusals_are_told_apart(adapter: NtfyAdapter, ntfy: NtfyServer) -> None:
    async def failure(url: str, topic: str, content: dict[str, Any], **login: Any) -> DeliveryError:
        with pytest.raises(DeliveryError) as caught:
            await adapter.send(account_of(url, **login), make_delivery(topic, make_content(**content)))
        return caught.value

    text: dict[str, Any] = {"text": "x"}
    wrong = await failure(ntfy.url, "a", text, token=WRONG)
    assert (type(wrong), wrong.code) == (AuthenticationError, "credentials_refused")
    forbidden = await failure(ntfy.url, "private-b", text)
    assert (type(forbidden), forbidden.code) == (PermanentError, "topic_forbidden")
    assert (await failure(ntfy.url, "docs", text)).code == "topic_invalid"
    delayed = text | {"platformOptions": {"ntfy": {"delay": "1s"}}}
    assert (await failure(ntfy.url, "a", delayed)).code == "delay_refused"
    strict = {"visitor_request_limit_exempt_hosts": "", "visitor_request_limit_burst": 2}
    with NtfyServer(**strict, attachment_cache_dir="") as other:
        assert (await failure(other.url, "a", {"attachments": [FILE]})).code == "attachment_refused"
        await adapter.send(account_of(other.url), make_delivery("a", make_content(**text)))
        slower = await failure(other.url, "a", text)
        assert isinstance(slower, ThrottledError)
        assert (slower.code, slower.retry_after) == ("rate_limited", 5)


# --- what comes in


@dataclass
class Kept:
    """A sink in memory."""

    largest: int = 100_000
    payloads: list[bytes] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    up: asyncio.Event = field(default_factory=asyncio.Event)

    async def store(self, payloads: Sequence[Payload], state: State, notes: Sequence[str] = ()) -> None:
        self.payloads += [payload.body for payload in payloads]
        self.notes += notes
        self.states.append(state)

    def connected(self) -> None:
        self.up.set()

    async def wait_for(self, *parts: bytes) -> None:
        """Each in a payload of its own, in any order."""
        async with asyncio.timeout(PATIENCE):
            while not all(any(part in payload for payload in self.payloads) for part in parts):
                await asyncio.sleep(0.01)

    def told(self, account: Account) -> list[Any]:
        """The chats and contents of what came, once for each event."""
        found = {
            envelope.event_id: (envelope.chat.id, envelope.content)
            for body in self.payloads
            for envelope in NtfyInbound().read(account, InboundRequest("POST", {}, "", body, datetime.now(UTC)))
        }
        return list(found.values())


@asynccontextmanager
async def listening(
    adapter: NtfyAdapter, account: Account, sink: Kept, state: State | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """A connection that is up, and hung up in the end."""
    assert NtfyLive.wanted(account)
    running = asyncio.create_task(NtfyLive(adapter.services).run(account, sink, state))
    up = asyncio.create_task(sink.up.wait())
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([running, up], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield running
    finally:
        up.cancel()
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.usefixtures("ntfy")  # which skips where none can be had
async def test_topics_are_listened_to_over_breaks_and_restarts(adapter: NtfyAdapter) -> None:
    with NtfyServer() as server:
        account = account_of(server.url, topics="news , private-c", token=TOKEN)
        server.publish("news", "before")
        first = Kept()
        async with listening(adapter, account, first) as running:
            assert first.states, "from now on nothing is missed"
            one = server.publish("news", "one", title="No")
            await first.wait_for(b"one")
            server.publish("news", "two", sequence_id=one["id"])
            await first.wait_for(b"two")
            server.call("DELETE", f"/news/{one['id']}")
            await first.wait_for(b"message_delete")
            server.stop()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([running])
        server.start()
        server.call("POST", "/private-c", b"meanwhile", {"Authorization": f"Bearer {TOKEN}"})
        again = Kept()
        async with listening(adapter, account, again, first.states[-1]):
            server.publish("news", "now")
            await again.wait_for(b"meanwhile", b"now")
        elsewhere = Kept()
        other = account_of(server.url.replace("127.0.0.1", "localhost"), topics="news")
        async with listening(adapter, other, elsewhere, again.states[-1]):
            assert elsewhere.payloads == [], "another server's times mean nothing"
    id_ = f"news:{one['id']}"
    told = first.told(account)
    assert told == [
        ("news", Message(id=id_, text="No\none")),
        ("news", Message(id=id_, text="two")),
        ("news", Edited(id=id_, text="two")),
        ("news", Deletion(id=id_)),
    ]
    later = again.told(account)
    assert [each for each in later if each in told] == told, "the last minutes come twice, and are known by their ids"
    assert {content.text for _, content in later if (_, content) not in told} - {"before"} == {"meanwhile", "now"}


async def test_buttons_answer_and_our_own_messages_do_not_come_back(adapter: NtfyAdapter, ntfy: NtfyServer) -> None:
    account = account_of(ntfy.url, topics="shop", answerTopic="answers")
    value, label = 'ja "=?utf-8?q?=0A?=" \u65e5', "=?utf-8?q?=0A?= \u65e5"
    content = make_content(text="Ship it?", buttons=[{"text": "No", "value": "n"}, {"text": label, "value": value}])
    sink = Kept()
    async with listening(adapter, account, sink):
        sent = await adapter.send(account, make_delivery("shop", content))
        id_ = sent.provider_message_id or ""
        await adapter.act(account, make_action("shop", Edit(message_id=id_, content=content)))
        message = (await asyncio.to_thread(ntfy.messages, "shop"))[-1]
        for action in message["actions"]:
            await asyncio.to_thread(press, action)
        await sink.wait_for(b'"n"', "\u65e5".encode())
        ntfy.call("PUT", f"/shop/{message['sequence_id']}/clear")
        ntfy.call("PUT", "/shop/another/clear")
        ntfy.call("DELETE", f"/shop/{message['sequence_id']}")
        await sink.wait_for(b"message_clear")
    expected = [
        ("shop", Click(value="n", message_id=id_, label="No")),
        ("shop", Click(value=value, message_id=id_, label=label.replace("=?", "=\u2060?"))),
        ("shop", Receipt(message_id=id_, status="read")),
    ]
    assert sorted(sink.told(account), key=str) == sorted(expected, key=str)


def press(action: dict[str, Any]) -> None:
    """As an app does it."""
    with urlopen(Request(action["url"], action["body"].encode(), method=action["method"]), timeout=PATIENCE) as answer:
        assert answer.status == 200


async def test_a_connection_that_is_refused_says_why(adapter: NtfyAdapter, ntfy: NtfyServer, sink: HttpSink) -> None:
    sink.answers(200, body=b"<html>\n</html>\n")
    cases: list[tuple[Account, type[DeliveryError], str]] = [
        (account_of(ntfy.url, topics="x", token=WRONG), AuthenticationError, "credentials_refused"),
        (account_of(ntfy.url, topics="private-d"), PermanentError, "topic_forbidden"),
        (account_of(sink.url, topics="x"), TemporaryError, "answer_unreadable"),
        (account_of("http://127.0.0.1:2", topics="x"), TemporaryError, "connection_failed"),
    ]
    for account, kind, code in cases:
        with pytest.raises(kind) as caught:
            await NtfyLive(adapter.services).run(account, Kept(), None)
        assert caught.value.code == code
        assert WRONG not in str(caught.value)


def line(event: str, at: int, text: str = "") -> bytes:
    return msgspec.json.encode({"id": f"m{at}", "time": at, "event": event, "topic": "t", "message": text}) + b"\n"


async def test_what_overtakes_older_messages_does_not_hide_them(adapter: NtfyAdapter, sink: HttpSink) -> None:
    wanted = asyncio.Queue[bytes]()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while part := await wanted.get():
            await answer.write(part)
        return answer

    sink.answer = stream
    kept, account = Kept(largest=500), account_of(sink.url, topics="t")
    steps: list[tuple[bytes, int]] = [
        (line("open", 5000) + line("message", 5001)[:20], 0),
        (line("message", 5001)[20:], 1000),  # it came meanwhile
        (line("message", 2000) + line("message", 2000, "x" * 600), 2000),
        (line("message", 5002), 2000),
        (line("message", 3000) + line("keepalive", 5045), 5045),
        (line("message", 5050, "x" * 600), 5045),
        (line("message", 5051), 5051),
    ]
    wanted.put_nowait(steps[0][0])
    state = {"server": sink.url, "since": 900, "newest": 1000}
    async with listening(adapter, account, kept, state) as running:
        for part, newest in steps[1:]:
            before = len(kept.states)
            wanted.put_nowait(part)
            async with asyncio.timeout(PATIENCE):
                while len(kept.states) == before:
                    await asyncio.sleep(0.01)
            assert kept.states[-1] == {"server": sink.url, "since": 900, "newest": newest}
        wanted.put_nowait(b"")
        async with asyncio.timeout(PATIENCE):
            await running  # it ends without an error, and is taken up again by whoever holds it
    assert sink.requests[0].path == f"/t/json?since={max(900, 1000 - OVERLAP)}"
    assert len(kept.payloads) == 5
    assert len(kept.notes) == 2

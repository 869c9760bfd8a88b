"""ntfy: messages go out to a real server."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from msgcore.core.actions import Delete, Edit, MarkRead, React
from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, ThrottledError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account, OutgoingDelivery, SentReceipt
from msgcore.platforms.ntfy import NtfyAdapter
from msgcore.platforms.registry import PlatformRegistry
from servers.deliveries import make_action, make_content, make_delivery
from servers.ntfy import PASSWORD, TOKEN, USER, WRONG, NtfyServer, ntfy_account

QUOTED = '"\n' * 1500
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20


@pytest.fixture
def adapter(services: AdapterServices) -> NtfyAdapter:
    return NtfyAdapter(services)


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
    receipts = await send_all(adapter, ntfy_account(ntfy.url), delivery)
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
    assert len(await send_all(adapter, ntfy_account(ntfy.url, username=USER, password=PASSWORD), delivery)) == 3
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
    account, delivery = ntfy_account(ntfy.url), make_delivery("again", make_content(text="x" * 5000))
    assert await adapter.find_sent(account, delivery) is None
    first = await adapter.send(account, delivery)
    assert first.more
    assert await adapter.find_sent(account, delivery) == first == await adapter.send(account, delivery)
    rest = msgspec.structs.replace(delivery, part_ids=(first.provider_message_id or "",))
    assert await adapter.find_sent(account, rest) is None
    assert await adapter.find_sent(account, make_delivery("out-only", make_content(text="x"))) is None, "may not read"


async def test_messages_are_changed_deleted_and_cleared(adapter: NtfyAdapter, ntfy: NtfyServer) -> None:
    account = ntfy_account(ntfy.url, token=TOKEN)
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
            await adapter.send(ntfy_account(url, **login), make_delivery(topic, make_content(**content)))
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
        await adapter.send(ntfy_account(other.url), make_delivery("a", make_content(**text)))
        slower = await failure(other.url, "a", text)
        assert isinstance(slower, ThrottledError)
        assert (slower.code, slower.retry_after) == ("rate_limited", 5)

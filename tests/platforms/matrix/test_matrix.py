"""Sending by a real Synapse, as another user of it sees it."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from msgcore.core.actions import Action, Delete, Edit, MarkRead, React, Type, Unreact
from msgcore.core.content import Content
from msgcore.core.envelope import Envelope, File
from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError, ThrottledError
from msgcore.outbound.following import open_file
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account, OutgoingDelivery
from msgcore.platforms.matrix import MatrixAdapter
from msgcore.platforms.matrix.html import LONGEST
from msgcore.platforms.matrix.inbound import MatrixInbound
from msgcore.platforms.receiving import InboundRequest, UnreadableError
from msgcore.platforms.registry import PlatformRegistry
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.synapse import SynapseServer, User

THUMB = "\U0001f44d"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


@dataclass(frozen=True)
class Stage:
    """A homeserver with two people in a room, and an account of ours in it."""

    server: SynapseServer
    ann: User
    bot: User
    room: str

    @property
    def account(self) -> Account:
        return account_of(self.server, self.bot)

    def last(self) -> dict[str, Any]:
        """The newest event of the room, as Ann sees it."""
        return self.ann.events(self.room)[-1]


def account_of(server: SynapseServer, user: User, **more: Any) -> Account:
    return make_account("matrix", {"homeserverUrl": server.url, "accessToken": user.token, **more})


@pytest.fixture(scope="module")
def stage(synapse_server: SynapseServer) -> Stage:
    ann, bot = synapse_server.register("ann"), synapse_server.register("bot")
    room = ann.create(bot)
    bot.join(room)
    return Stage(synapse_server, ann, bot, room)


@pytest.fixture
def adapter(services: AdapterServices) -> MatrixAdapter:
    return MatrixAdapter(services)


def to(target: str, options: dict[str, Any] | None = None, **content: Any) -> OutgoingDelivery:
    return make_delivery(target, make_content(**content), options=options)


async def send(adapter: MatrixAdapter, account: Account, delivery: OutgoingDelivery) -> str:
    receipt = await adapter.send(account, delivery)
    assert receipt.provider_message_id
    assert not receipt.more
    return receipt.provider_message_id


async def fails(adapter: MatrixAdapter, account: Account, delivery: OutgoingDelivery) -> DeliveryError:
    with pytest.raises(DeliveryError) as raised:
        await adapter.send(account, delivery)
    return raised.value


HTML = "org.matrix.custom.html"
CONTENTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"text": "a  <b> & @room\n\nsecond"}, {"msgtype": "m.text", "body": "a  <b> & @room\n\nsecond"}),
    (
        {"markdown": '**b** <i> [l](https://x.example/?a=1&b="2")\n\n1. one\n2. two'},
        {
            "msgtype": "m.text",
            "body": 'b <i> l (https://x.example/?a=1&b="2")\n\n1. one\n2. two'.replace('"2"', "%222%22"),
            "format": HTML,
            "formatted_body": '<p><strong>b</strong> &lt;i&gt; <a href="https://x.example/?a=1&amp;b=%222%22">l</a></p>'
            "<ol><li>one</li><li>two</li></ol>",
        },
    ),
    (
        {"text": "here", "location": {"latitude": 52.52, "longitude": 13.405, "name": "Berlin"}},
        {"msgtype": "m.location", "body": "Berlin", "geo_uri": "geo:52.52,13.405"},
    ),
    (
        {"text": "to <you>", "attachments": [{"data": b64encode(PNG).decode(), "filename": "\u00fc.png"}]},
        {
            "msgtype": "m.image",
            "body": "to <you>",
            "filename": "\u00fc.png",
            "info": {"mimetype": "image/png", "size": len(PNG)},
        },
    ),
    (
        {"text": "ring", "platformOptions": {"matrix": {"notice": True, "mentions": ["@eve:example.org"]}}},
        {"msgtype": "m.notice", "body": "ring", "m.mentions": {"user_ids": ["@eve:example.org"]}},
    ),
]


@pytest.mark.parametrize(("given", "expected"), CONTENTS, ids=[expected["msgtype"] for _, expected in CONTENTS])
async def test_each_content_is_an_event_and_sent_once(
    adapter: MatrixAdapter, stage: Stage, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    delivery, before = to(stage.room, **given), len(stage.ann.events(stage.room))
    first = await adapter.send(stage.account, delivery)
    again = await adapter.send(stage.account, msgspec.structs.replace(delivery, attempt=2))
    assert (first, len(stage.ann.events(stage.room))) == (again, before + 1)
    if first.more:
        delivery = msgspec.structs.replace(delivery, part_ids=(str(first.provider_message_id),))
        await send(adapter, stage.account, delivery)
    content = stage.last()["content"]
    url = content.pop("url", None)
    assert content == {"m.mentions": {}} | expected
    if url is not None:
        source = await adapter.locate_file(stage.account, File(id=url))
        async with open_file(adapter.services.http, source.url, source.headers) as (answer, _):
            assert await answer.read(1000) == PNG


async def test_the_longest_formatted_text_and_its_edit_fit_into_an_event(adapter: MatrixAdapter, stage: Stage) -> None:
    text = '\u00e4"<' * (LONGEST // 8 - 30)
    content = make_content(markdown=f"**{text.replace('<', chr(92) + '<')}**")
    id_ = await send(adapter, stage.account, make_delivery(stage.room, content))
    assert len(stage.last()["content"]["formatted_body"].encode()) > LONGEST * 0.7
    await act(adapter, stage, Edit(message_id=id_, content=content))
    assert stage.last()["content"]["m.new_content"]["body"] == text


async def act(adapter: MatrixAdapter, stage: Stage, action: Action) -> None:
    outgoing = make_action(stage.room, action, target_type="group")
    for _ in range(2):  # as good as once
        await adapter.act(stage.account, outgoing)


async def test_answers_threads_and_what_is_done_to_a_message(adapter: MatrixAdapter, stage: Stage) -> None:
    ann, room = stage.ann, stage.room
    asked = ann.write(room, "Where is it?")
    id_ = await send(adapter, stage.account, to(room, {"replyTo": asked}, text="There."))
    assert stage.last()["content"]["m.relates_to"] == {"m.in_reply_to": {"event_id": asked}}
    await send(adapter, stage.account, to(room, {"threadId": asked, "silent": True}, text="Or there."))
    assert stage.last()["content"]["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": asked,
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": asked},
    }
    assert stage.last()["content"]["msgtype"] == "m.notice"
    await act(adapter, stage, Edit(message_id=id_, content=make_content(markdown="*Here.*")))
    [edited] = ann.event(room, id_)["unsigned"]["m.relations"].values()
    assert edited["content"]["m.new_content"] == {
        "msgtype": "m.text",
        "body": "Here.",
        "format": HTML,
        "formatted_body": "<em>Here.</em>",
        "m.mentions": {},
    }
    await act(adapter, stage, React(message_id=asked, emoji=THUMB))
    assert stage.last()["content"]["m.relates_to"]["key"] == THUMB
    # One that comes with the sign that asks for a picture is the same.
    reaction = stage.last()["event_id"]
    await adapter.act(stage.account, make_action(room, React(message_id=asked, emoji=THUMB)))
    assert [event["event_id"] for event in ann.events(room) if event["type"] == "m.reaction"] == [reaction]
    await act(adapter, stage, Unreact(message_id=asked, emoji=f"{THUMB}\ufe0f"))
    assert ann.event(room, reaction)["content"] == {}
    await act(adapter, stage, Delete(message_id=id_))
    assert ann.event(room, id_)["content"] == {}
    since = ann.ask("GET", "sync")["next_batch"]
    await act(adapter, stage, Type())
    await act(adapter, stage, MarkRead(message_id=asked))
    told = ann.ask("GET", f"sync?timeout=5000&since={since}")["rooms"]["join"][room]["ephemeral"]["events"]
    by_type = {event["type"]: event["content"] for event in told}
    assert by_type["m.typing"] == {"user_ids": [stage.bot.id]}
    assert stage.bot.id in by_type["m.receipt"][asked]["m.read"]


async def test_a_person_has_one_direct_chat_until_they_leave_it(adapter: MatrixAdapter, stage: Stage) -> None:
    bob = stage.server.register("bob")
    several = [to(bob.id, text=f"m{number}") for number in range(5)]
    await asyncio.gather(*(adapter.send(stage.account, delivery) for delivery in several))
    [(room, invited)] = bob.ask("GET", "sync")["rooms"]["invite"].items()
    [mine] = [event for event in invited["invite_state"]["events"] if event.get("state_key") == bob.id]
    assert mine["content"]["is_direct"] is True
    bob.join(room)
    assert {event["content"]["body"] for event in bob.events(room)[-6:-1]} == {f"m{number}" for number in range(5)}
    # Another process, and later this one, find it where all clients look.
    other = MatrixAdapter(adapter.services)
    await other.send(stage.account, to(bob.id, text="again"))
    assert bob.events(room)[-1]["content"]["body"] == "again"
    await other.act(stage.account, make_action(bob.id, Type()))
    bob.ask("POST", f"rooms/{quote(room)}/leave", {})
    await MatrixAdapter(adapter.services).send(stage.account, to(bob.id, text="please"))
    [second] = bob.ask("GET", "sync")["rooms"]["invite"]
    assert second != room
    # Where it was left by us, the room that is remembered is of no use any more.
    stage.bot.ask("POST", f"rooms/{quote(room)}/leave", {})
    other._rooms._found[stage.account.id, stage.account.version, bob.id] = room
    await other.send(stage.account, to(bob.id, text="please"))
    bob.join(second)
    assert [event["content"]["body"] for event in bob.events(second)[-3:-1]] == ["please", "please"]
    with pytest.raises(PermanentError, match="no direct chat"):
        await adapter.act(stage.account, make_action("@nobody:example.org", Type()))


async def test_a_room_is_found_by_its_alias(adapter: MatrixAdapter, stage: Stage) -> None:
    room = stage.ann.create(stage.bot, room_alias_name="news/\u00fc")
    stage.bot.join(room)
    await send(adapter, stage.account, to("#news/\u00fc:example.org", text="by its name"))
    assert stage.ann.events(room)[-1]["content"]["body"] == "by its name"
    error = await fails(adapter, stage.account, to("#olds:example.org", text="x"))
    assert (type(error), error.code, error.reached) == (PermanentError, "recipient_unknown", "no")


async def test_an_encrypted_room_gets_nothing_in_the_clear_unless_that_is_wanted(
    adapter: MatrixAdapter, stage: Stage
) -> None:
    state = [{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
    room = stage.ann.create(stage.bot, initial_state=state)
    stage.bot.join(room)
    error = await fails(adapter, stage.account, to(room, text="secret"))
    assert (type(error), error.code) == (PermanentError, "room_encrypted")
    await send(adapter, stage.account, to(room, text="open", platformOptions={"matrix": {"unencrypted": True}}))
    assert stage.ann.events(room)[-1]["content"]["body"] == "open"


async def test_what_the_homeserver_refuses(adapter: MatrixAdapter, stage: Stage) -> None:
    private = stage.ann.create()
    large = [{"data": b64encode(b"x" * 310 * 1024).decode(), "filename": "x.bin"}]
    wrong = make_account("matrix", {**stage.account.credentials, "accessToken": "syt_wrong"}, version="2")
    elsewhere = make_account("matrix", {**stage.account.credentials, "homeserverUrl": f"{stage.server.url}/x"})
    cases: list[tuple[Account, OutgoingDelivery, type[DeliveryError], str]] = [
        (stage.account, to(private, text="x"), PermanentError, "not_a_member"),
        (stage.account, to(stage.room, attachments=large), PermanentError, "message_too_large"),
        (wrong, to(stage.room, text="x"), AuthenticationError, "credentials_refused"),
        (elsewhere, to("!other:example.org", text="x"), TemporaryError, "answer_unreadable"),
    ]
    for account, delivery, kind, code in cases:
        error = await fails(adapter, account, delivery)
        assert (type(error), error.code, error.reached) == (kind, code, "no"), error.message


async def test_who_writes_too_fast_is_told_until_when_to_wait(adapter: MatrixAdapter, stage: Stage) -> None:
    admin, slow = stage.server.register("admin", admin=True), stage.server.register("slow")
    room = slow.create()
    path = f"/_synapse/admin/v1/users/{slow.id}/override_ratelimit"
    stage.server.ask("POST", path, {"messages_per_second": 1, "burst_count": 1}, token=admin.token)
    account = make_account("matrix", {"homeserverUrl": stage.server.url, "accessToken": slow.token}, version="slow")
    with pytest.raises(ThrottledError) as raised:
        for number in range(5):
            await adapter.send(account, to(room, text=f"m{number}"))
    assert 0 < raised.value.retry_after <= 1


STRANGE: list[dict[str, Any]] = [
    {"body": 7, "msgtype": "m.text"},
    {"body": "x"},
    {"body": "x", "msgtype": ["m.text"]},
    {"body": "x", "msgtype": "m.image", "url": {"a": 1}},
    {"body": "x", "msgtype": "m.text", "m.relates_to": {"rel_type": "m.replace", "event_id": 7}},
    {"body": "x", "msgtype": "m.text", "m.relates_to": {"rel_type": "m.replace"}, "m.new_content": "x"},
    {"body": "x", "msgtype": "m.text", "m.relates_to": "x"},
    {"body": "x", "msgtype": "m.text", "m.relates_to": {"rel_type": "m.thread", "event_id": {}, "m.in_reply_to": [1]}},
    {"body": "x", "msgtype": "m.file", "url": "mxc://a/b", "info": {"size": -1, "mimetype": 7}, "filename": 8},
]


@pytest.mark.parametrize("content", STRANGE, ids=str)
def test_what_people_put_into_events_is_read_or_set_aside(content: dict[str, Any]) -> None:
    event = {"event_id": "$a", "sender": "@ann:x", "type": "m.room.message", "content": content}
    body = msgspec.json.encode({"room": {"id": "!r"}, "event": event})
    request = InboundRequest("POST", {}, "", body, datetime.now(UTC))
    try:
        [envelope] = MatrixInbound().read(make_account("matrix", {}), request)
    except UnreadableError:
        return
    assert msgspec.json.decode(msgspec.json.encode(envelope), type=Envelope).content == envelope.content


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"homeserverUrl": "matrix.example.org"}, ["homeserverUrl"]),
        ({"homeserverUrl": "https://matrix.example.org/?a"}, ["homeserverUrl"]),
        ({"homeserverUrl": "https://example.org/base/"}, []),
        ({"userId": "bot"}, ["userId"]),
    ],
    ids=str,
)
def test_which_credentials_are_taken(given: dict[str, Any], wrong: list[str]) -> None:
    good = {"homeserverUrl": "https://matrix.example.org", "accessToken": "syt_x"}
    errors = PlatformRegistry().check_credentials("matrix", good | given)
    assert [error.pointer for error in errors] == [f"/credentials/{name}" for name in wrong]


@pytest.mark.parametrize(
    ("kind", "id_", "is_good"),
    [
        *(
            ("user", "@ann:example.org", True),
            ("user", "!room:example.org", True),
            ("user", "#news:example.org", False),
        ),
        *(("group", "#news:example.org", True), ("group", "!VJ-31-characters", True), ("group", "@ann:x", False)),
        *(("chat", "@ann:[::1]:8448", True), ("chat", "ann", False), ("user", f"@{'a' * 250}:x.org", False)),
    ],
)
def test_which_targets_are_taken(kind: str, id_: str, is_good: bool) -> None:
    target = make_delivery(id_, Content(), target_type=kind).target
    assert (MatrixAdapter.check_target(target) == []) is is_good

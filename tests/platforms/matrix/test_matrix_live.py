"""Receiving by `/sync` of a real Synapse: each kind of event, breaks, crashes and gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from msgcore.core.envelope import Envelope, Message
from msgcore.core.errors import AuthenticationError, PermanentError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.live import Payload, State
from msgcore.platforms.matrix import gaps, live, timeline
from msgcore.platforms.matrix.inbound import MatrixInbound
from msgcore.platforms.matrix.live import MatrixLive
from msgcore.platforms.receiving import InboundRequest
from servers.deliveries import make_account
from servers.live_sink import MemorySink, connected
from servers.patience import PATIENCE
from servers.synapse import SynapseServer, User

HEART = "\u2764\ufe0f"
READER = MatrixInbound()


@dataclass
class Kept(MemorySink):
    """A sink that reads what it gets, as the reader does: what came before is dropped by its id."""

    envelopes: dict[str, Envelope] = field(default_factory=dict)
    stores: int = 10**9

    async def store(self, payloads: Sequence[Payload], state: State, notes: Sequence[str] = ()) -> None:
        self.stores -= 1
        if self.stores < 0:
            raise ConnectionError
        for payload in payloads:
            request = InboundRequest("POST", dict(payload.headers), "", payload.body, datetime.now(UTC))
            for envelope in READER.read(make_account("matrix", {}), request):
                self.envelopes.setdefault(envelope.event_id, envelope)
        await super().store(payloads, msgspec.json.decode(msgspec.json.encode(state)), notes)

    @property
    def texts(self) -> list[str]:
        return [str(each.content.text) for each in self.envelopes.values() if isinstance(each.content, Message)]

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not is_so():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"it did not come: {list(map(shown, self.envelopes.values()))}, {self.notes}")

    async def wait_for(self, *texts: str) -> None:
        await self.wait_until(lambda: len(self.texts) >= len(texts))
        assert self.texts == list(texts)


@pytest.fixture
def server(synapse_server: SynapseServer) -> SynapseServer:
    return synapse_server


@pytest.fixture
def connection(services: AdapterServices) -> MatrixLive:
    return MatrixLive(services)


@pytest.fixture
def ann(server: SynapseServer) -> User:
    return server.register("ann")


@pytest.fixture
def bot(server: SynapseServer) -> User:
    return server.register("bot")


def room_of(ann: User, *others: User, **more: Any) -> str:
    room = ann.create(*others, **more)
    for user in others:
        user.join(room)
    return room


def listening(
    connection: MatrixLive, server: SynapseServer, bot: User, sink: Kept, state: State | None = None, **more: Any
) -> AbstractAsyncContextManager[asyncio.Task[None]]:
    """A connection that is up, and hung up in the end."""
    given = {"homeserverUrl": server.url, "accessToken": bot.token, **more}
    return connected(connection, make_account("matrix", given), sink, state)


def shown(envelope: Envelope) -> dict[str, Any]:
    """What an envelope tells, without what differs each time."""
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(envelope))
    content = decoded["content"]
    return {"author": decoded["author"]["id"], **{k: v for k, v in content.items() if k != "id" or v}}


def related(kind: str, event: str, **more: Any) -> dict[str, Any]:
    return {"m.relates_to": {"rel_type": kind, "event_id": event, **more}}


async def test_each_kind_of_event_is_told(connection: MatrixLive, server: SynapseServer, ann: User, bot: User) -> None:
    bob = server.register("bob")
    room = room_of(ann, bot, bob, name="Kitchen")
    ann.write(room, "before")
    sink = Kept()
    async with listening(connection, server, bot, sink):
        one = ann.write(room, "one")
        answer = {
            "msgtype": "m.text",
            "body": f"> <{ann.id}> one\n\ntwo",
            "m.relates_to": {"m.in_reply_to": {"event_id": one}},
        }
        two = bob.write(room, answer)
        in_thread = {"m.in_reply_to": {"event_id": two}, "is_falling_back": True}
        three = ann.write(room, {"msgtype": "m.emote", "body": "three"} | related("m.thread", one, **in_thread))
        file = {
            "msgtype": "m.image",
            "body": "look",
            "filename": "a.png",
            "url": "mxc://example.org/abc",
            "info": {"mimetype": "image/png", "size": 7},
        }
        four = ann.write(room, file)
        new = {"msgtype": "m.text", "body": "* x", "m.new_content": {"msgtype": "m.text", "body": "ONE"}}
        bob.write(room, new | related("m.replace", one))  # not his message
        ann.write(room, new | related("m.replace", one))
        liked = bob.write(room, related("m.annotation", three, key=HEART), "m.reaction")
        await sink.wait_until(lambda: len(sink.envelopes) == 6)
        for user, event in ((bob, liked), (ann, four)):
            user.ask("PUT", f"rooms/{quote(room)}/redact/{quote(event)}/a", {})
        mine = bot.write(room, "from us")
        ann.ask("POST", f"rooms/{quote(room)}/receipt/m.read/{quote(mine)}", {})
        ann.ask("PUT", f"rooms/{quote(room)}/typing/{ann.id}", {"typing": True, "timeout": 30_000})
        bob.ask("POST", f"rooms/{quote(room)}/leave", {})
        await sink.wait_until(lambda: len(sink.envelopes) >= 11)
    told = [shown(envelope) for envelope in sink.envelopes.values()]
    assert [each for each in told if each["kind"] not in ("receipt", "typing")] == [
        {"author": ann.id, "kind": "message", "id": one, "text": "one"},
        {"author": bob.id, "kind": "message", "id": two, "text": "two", "replyTo": one},
        {"author": ann.id, "kind": "message", "id": three, "text": "three", "threadId": one},
        {
            "author": ann.id,
            "kind": "message",
            "id": four,
            "text": "look",
            "attachments": [
                {
                    "type": "image",
                    "id": "mxc://example.org/abc",
                    "filename": "a.png",
                    "mimeType": "image/png",
                    "size": 7,
                }
            ],
        },
        {"author": ann.id, "kind": "edit", "id": one, "text": "ONE"},
        {"author": bob.id, "kind": "reaction", "messageId": three, "emoji": HEART},
        {"author": bob.id, "kind": "reaction", "messageId": three, "emoji": HEART, "removed": True},
        {"author": ann.id, "kind": "delete", "id": four},
        {"author": bob.id, "kind": "membership", "joined": False},
    ]
    passing = sorted((each for each in told if each["kind"] in ("receipt", "typing")), key=lambda each: each["kind"])
    assert passing == [
        {"author": ann.id, "kind": "receipt", "messageId": mine, "status": "read"},
        {"author": ann.id, "kind": "typing"},
    ]
    first = sink.envelopes[one]
    assert (first.chat.id, first.chat.type, first.chat.name) == (room, "group", "Kitchen")
    assert first.author is not None
    assert first.author.name == "Ann"
    assert sink.notes == []


async def test_a_break_loses_nothing_and_a_crash_in_a_gap_neither(
    connection: MatrixLive, server: SynapseServer, ann: User, bot: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in (
        (live, "EVENTS_AT_ONCE", 5),
        (timeline, "PAGE", 4),
        (gaps, "KEPT_PAGES", 2),
        (timeline, "TOGETHER", 2000),
    ):
        monkeypatch.setattr(module, name, value)
    room, other = room_of(ann, bot), room_of(ann, bot)
    sink = Kept()
    async with listening(connection, server, bot, sink):
        liked = ann.write(room, related("m.annotation", ann.write(room, "first"), key=HEART), "m.reaction")
        await sink.wait_until(lambda: len(sink.envelopes) == 2)
    texts = [f"m{number}" for number in range(24)]
    for text in texts:
        ann.write(room, text)
    for event in (liked, ann.write(room, "taken back before it was seen")):
        ann.ask("PUT", f"rooms/{quote(room)}/redact/{quote(event)}/{event[1:9]}", {})
    ann.write(other, "elsewhere")
    states = sink.states
    for stores in (0, 1, 3, 10**9):  # ends at once, in the middle of the gap, and not at all
        sink.stores = stores
        if stores < 10**9:
            with pytest.raises(ConnectionError):
                async with listening(connection, server, bot, sink, states[-1]):
                    await asyncio.sleep(PATIENCE)
    async with listening(connection, server, bot, sink, states[-1]):
        await sink.wait_until(lambda: "elsewhere" in sink.texts)
        ann.write(room, "last")
        await sink.wait_until(lambda: "last" in sink.texts)
    assert [text for text in sink.texts if text != "elsewhere"] == ["first", *texts, "last"]
    removed = [shown(each) for each in sink.envelopes.values() if shown(each).get("removed")]
    assert [each["emoji"] for each in removed] == [HEART]
    # Another user's position is none, nor one that the homeserver does not know.
    for state in (states[-1] | {"user": "@other:example.org"}, states[-1] | {"since": "nonsense"}):
        anew = Kept()
        async with listening(connection, server, bot, anew, state):
            assert anew.texts == []
        assert anew.states[-1]["user"] == bot.id
    assert "does not know where we were" in anew.notes[0]


async def test_an_invitation_is_followed_if_that_is_wanted(
    connection: MatrixLive, server: SynapseServer, ann: User, bot: User
) -> None:
    early = ann.create(bot)
    off = Kept()
    async with listening(connection, server, bot, off):
        assert f"{ann.id} invited the user to {early}: autoJoin is off" in off.notes[0]
    sink = Kept()
    async with listening(connection, server, bot, sink, autoJoin=True):
        assert bot.ask("GET", "joined_rooms")["joined_rooms"] == [early]
        ann.write(early, "zero")
        await sink.wait_for("zero")
        direct = ann.create(is_direct=True)
        ann.write(direct, "of old")
        ann.ask("POST", f"rooms/{quote(direct)}/invite", {"user_id": bot.id})
        ann.write(direct, "one")  # whether the bot is there already, or not yet
        await sink.wait_for("zero", "one")
        ann.write(direct, "two")
        await sink.wait_for("zero", "one", "two")
        assert [each.chat.type for each in sink.envelopes.values()] == ["group", "group", "group"]
        both = ann.create(bot, is_direct=True)
        ann.write(both, "three")
        await sink.wait_for("zero", "one", "two", "three")
        assert list(sink.envelopes.values())[-1].chat.type == "user"
        ann.ask("POST", f"rooms/{quote(both)}/kick", {"user_id": bot.id})
        await sink.wait_until(lambda: shown(list(sink.envelopes.values())[-1])["kind"] == "membership")
    left = shown(list(sink.envelopes.values())[-1])
    assert (left["author"], left["joined"], left["member"]["id"]) == (ann.id, False, bot.id)
    assert bot.ask("GET", f"user/{bot.id}/account_data/m.direct") == {ann.id: [both]}


async def test_what_is_encrypted_is_told_of_once(
    connection: MatrixLive, server: SynapseServer, ann: User, bot: User
) -> None:
    state = [{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
    room = room_of(ann, bot, initial_state=state)
    sink = Kept()
    sealed = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": "AwgA",
        "session_id": "X3lU",
        "device_id": "R",
        "sender_key": "I",
    }
    async with listening(connection, server, bot, sink):
        for _ in range(2):
            ann.write(room, sealed, "m.room.encrypted")
        ann.write(room, "in the clear")
        await sink.wait_for("in the clear")
    [note] = sink.notes
    assert note.startswith(f"{room} is encrypted")


async def test_an_answer_that_is_too_large_is_asked_for_in_pieces(
    connection: MatrixLive, server: SynapseServer, ann: User, bot: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = room_of(ann, bot)
    sink = Kept()
    async with listening(connection, server, bot, sink):
        pass
    texts = [f"m{number} {'x' * 20_000}" for number in range(8)]
    for text in texts:
        ann.write(room, text)
    for module, name, value in ((live, "LARGEST_SYNC", 60_000), (timeline, "PAGE", 1)):
        monkeypatch.setattr(module, name, value)
    small = Kept(largest=1000)
    async with listening(connection, server, bot, small, sink.states[-1]):
        assert small.texts == []
        assert "Events of more than 1000 bytes were left out" in small.notes
    again = Kept()
    async with listening(connection, server, bot, again, sink.states[0]):
        assert again.texts == texts


@pytest.mark.parametrize(
    ("given", "code"),
    [({"accessToken": "wrong"}, "credentials_refused"), ({"userId": "@ann:example.org"}, "user_mismatch")],
)
async def test_credentials_that_are_refused(
    connection: MatrixLive, server: SynapseServer, bot: User, given: Mapping[str, Any], code: str
) -> None:
    with pytest.raises((AuthenticationError, PermanentError)) as raised:
        async with listening(connection, server, bot, Kept(), **given):
            pass
    assert raised.value.code == code


def test_it_listens_unless_told_not_to() -> None:
    assert MatrixLive.wanted(make_account("matrix", {}))
    assert not MatrixLive.wanted(make_account("matrix", {"receive": False}))

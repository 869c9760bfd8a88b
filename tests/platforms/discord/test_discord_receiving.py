"""What Discord tells: requests and how they are answered, events, and what the bot did itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from msgcore.core.envelope import Message, Reaction
from msgcore.platforms.discord import DECLARATION
from msgcore.platforms.discord.events import read_event
from msgcore.platforms.discord.inbound import DiscordInbound
from msgcore.platforms.discord.interactions import answer_to
from msgcore.platforms.receiving import InboundRequest, SignatureError
from platforms.discord.facts import CHANNEL, KEY, MESSAGE, sign
from servers.deliveries import make_account
from servers.facts import samples_of
from specs.discord import check_body

ACCOUNT = make_account("discord", {field.name: field.example for field in DECLARATION.credentials})
BOT = "198622483471925248"
"""The id that the example token begins with."""


def posted(body: Any, *, late: float = 0.0) -> InboundRequest:
    """A request of Discord's, which is so many seconds on its way."""
    content = msgspec.json.encode(body)
    headers = {name.lower(): value for name, value in sign(ACCOUNT, content).items()}
    return InboundRequest("POST", headers, "", content, datetime.now(UTC) + timedelta(seconds=late))


ANSWERS: list[tuple[dict[str, Any], int]] = [
    ({"type": 1}, 1),
    ({"type": 2}, 4),
    ({"type": 3}, 6),
    ({"type": 4}, 8),
    ({"type": 5}, 4),
    ({"type": 99}, 4),
]


@pytest.mark.parametrize(("interaction", "kind"), ANSWERS)
def test_each_interaction_is_answered_at_once(interaction: dict[str, Any], kind: int) -> None:
    request, inbound = posted(interaction), DiscordInbound()
    inbound.verify(ACCOUNT, request)
    answer = inbound.handshake(ACCOUNT, request) or inbound.reply(request)
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert (inbound.handshake(ACCOUNT, request) is None) == (kind != 1)
    made = msgspec.json.decode(answer.body)
    assert made == answer_to(interaction)
    assert made["type"] == kind
    check_body("create_interaction_response", made)


def test_requests_are_of_now_and_by_the_accounts_key() -> None:
    inbound, request = DiscordInbound(), posted({"type": 1})
    for late in (400.0, -400.0):
        with pytest.raises(SignatureError, match="five minutes"):
            inbound.verify(ACCOUNT, posted({"type": 1}, late=late))
    keys: list[dict[str, Any]] = [
        {},
        {"publicKey": "0" * 64},
        {"publicKey": KEY.public_key().public_bytes_raw().hex()[::-1]},
    ]
    for credentials in keys:
        with pytest.raises(SignatureError):
            inbound.verify(make_account("discord", credentials), request)


def event(sample: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    """The name and the data of a sample, with other values in it."""
    [found] = [each for each in samples_of("discord") if each.name == sample]
    return found.body["t"], {**found.body["d"], **changes}


def test_what_the_bot_did_itself_is_not_received() -> None:
    author = {"id": BOT, "username": "bot", "bot": True}
    assert read_event(*event("message", author=author), ACCOUNT) == []
    assert read_event(*event("message", application_id=BOT), ACCOUNT) == []
    assert read_event(*event("edited", author=author), ACCOUNT) == []
    for sample in ("reaction", "reaction-removed", "typing"):
        assert read_event(*event(sample, user_id=BOT), ACCOUNT) == []
    for sample in ("joined", "left"):
        assert read_event(*event(sample, user=author), ACCOUNT) == []
    other = make_account("discord", {"token": "!.no-token-of-any-known-form"})
    assert len(read_event(*event("message", author=author), other)) == 1


def test_an_answer_names_what_it_answers_and_a_voice_message_is_one() -> None:
    about = {"channel_id": CHANNEL, "message_id": MESSAGE}
    [read] = read_event(*event("image", type=19, message_reference=about, flags=1 << 13), ACCOUNT)
    assert isinstance(read.content, Message)
    assert (read.content.reply_to, read.content.attachments[0].type) == (f"{CHANNEL}:{MESSAGE}", "voice")


def test_the_same_reaction_is_told_apart_by_its_place_in_the_session() -> None:
    ids = [read_event(*event("reaction"), ACCOUNT, dispatch)[0].event_id for dispatch in ("a:1", "a:2", "b:1", "a:1")]
    assert len(set(ids)) == 3
    name, longest = event("reaction", emoji={"id": "9" * 20, "name": "e" * 32, "animated": True})
    [read] = read_event(
        name, {**longest, "message_id": "9" * 20, "user_id": "9" * 20}, ACCOUNT, "f" * 32 + ":" + "9" * 9
    )
    assert len(read.event_id) <= 255
    assert isinstance(read.content, Reaction)


@pytest.mark.parametrize("sample", ["command", "click"])
def test_nobody_else_can_answer_an_interaction(sample: str) -> None:
    [found] = [each for each in samples_of("discord") if each.name == sample]
    for envelope in read_event("INTERACTION_CREATE", found.body, ACCOUNT):
        assert "token" in found.body
        assert "token" not in envelope.raw

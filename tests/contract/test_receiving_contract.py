"""What holds for every platform that sends webhooks: its signature, and its sample payloads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
import pytest

from msgcore.core.envelope import Envelope, Message
from msgcore.platforms.receiving import Inbound, InboundRequest, SignatureError, UnreadableError
from msgcore.platforms.registry import PlatformRegistry
from servers.deliveries import make_account
from servers.facts import Sample, facts_of, has_facts, samples_of

REGISTRY = PlatformRegistry()
NAMES = [name for name in REGISTRY.names if has_facts(name)]
SIGNED = [name for name in NAMES if facts_of(name).sign is not None]
SAMPLES = [pytest.param(name, sample, id=f"{name}-{sample.name}") for name in NAMES for sample in samples_of(name)]


def inbound_of(name: str) -> Inbound:
    inbound = REGISTRY.inbound(name)
    assert inbound is not None
    return inbound


def account_of(name: str) -> Any:
    fields = REGISTRY.declaration(name).credentials
    return make_account(name, {field.name: field.example for field in fields if field.example is not None})


def request_of(body: bytes, headers: dict[str, str], query: str = "") -> InboundRequest:
    lowered = {key.lower(): value for key, value in headers.items()}
    return InboundRequest("POST", lowered, query, body, datetime.now(UTC))


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_each_sample_is_read_as_it_is_meant(name: str, sample: Sample) -> None:
    assert sample.source.startswith(("http", "docs/")), f"a sample says where it is from: {sample.source}"
    envelopes = inbound_of(name).read(account_of(name), request_of(sample.content, sample.headers, sample.query))
    shown = [msgspec.structs.replace(envelope, raw=None) for envelope in envelopes]
    assert msgspec.json.decode(msgspec.json.encode(shown)) == sample.envelopes
    ids = [envelope.event_id for envelope in envelopes]
    assert len(set(ids)) == len(ids), "what happened at once has an id for each"
    chats = {envelope.chat.id for envelope in envelopes}
    assert {REGISTRY.address(name, chat) for chat in chats} == chats, "`address` gives ids as the platform tells them"


@pytest.mark.parametrize("name", [name for name in NAMES if REGISTRY.inbound(name) is not None])
def test_what_is_no_payload_is_unreadable_or_nothing(name: str) -> None:
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"{}",
        b'{"message":"\xff"}',
        b'{"a":' * 5000,
        b'{"message":1,"event":2}',
    ):
        try:
            assert list(inbound_of(name).read(account_of(name), request_of(body, {}))) == []
        except UnreadableError:
            continue


@pytest.mark.parametrize("name", SIGNED)
def test_only_what_the_platform_signed_is_taken(name: str) -> None:
    inbound, account, facts = inbound_of(name), account_of(name), facts_of(name)
    assert facts.sign is not None
    body = samples_of(name)[0].content
    headers = facts.sign(account, body)
    inbound.verify(account, request_of(body, headers))
    wrong = [{}, dict.fromkeys(headers, ""), {key: value[:-1] + "0" for key, value in headers.items()}]
    wrong += [dict.fromkeys(headers, "\xe4"), {key: value * 2 for key, value in headers.items()}]
    for given in wrong:
        if given == headers:
            continue
        with pytest.raises(SignatureError):
            inbound.verify(account, request_of(body, given))


LONG = "n" * 2000
TOO_LONG: list[tuple[str, str, dict[str, str]]] = [
    ("slack", "file", {"name": f"{LONG}.png", "mimetype": LONG}),
    ("telegram", "document", {"file_name": f"{LONG}.png", "mime_type": LONG, "first_name": LONG}),
    ("twilio-sms", "picture", {"MediaContentType0": LONG}),
    ("whatsapp-cloud", "document", {"filename": f"{LONG}.png", "mime_type": LONG, "name": LONG}),
    ("whatsapp-evo", "document", {"fileName": f"{LONG}.png", "mimetype": LONG, "pushName": LONG}),
]


def changed(part: Any, values: dict[str, str]) -> Any:
    """A payload in which each of these fields, wherever it stands, has another value."""
    if isinstance(part, list):
        return [changed(each, values) for each in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    return {name: values.get(name, changed(each, values)) for name, each in cast("dict[str, Any]", part).items()}


def sample_of(name: str, stem: str) -> Any:
    """The body of a sample; forms as the JSON object that would do as well."""
    [content] = [sample.content for sample in samples_of(name) if sample.name == stem]
    return msgspec.json.decode(content) if content.startswith(b"{") else dict(parse_qsl(content.decode()))


@pytest.mark.parametrize(("name", "stem", "values"), TOO_LONG, ids=[name for name, *_ in TOO_LONG])
def test_names_are_cut_to_what_an_envelope_holds(name: str, stem: str, values: dict[str, str]) -> None:
    body = msgspec.json.encode(changed(sample_of(name, stem), values))
    [envelope] = inbound_of(name).read(account_of(name), request_of(body, {}))
    assert msgspec.json.decode(msgspec.json.encode(envelope), type=Envelope).event_id == envelope.event_id
    assert isinstance(envelope.content, Message)
    [file] = envelope.content.attachments
    assert file.mime_type == LONG[:255]
    if name != "twilio-sms":
        assert file.filename == f"{LONG[:251]}.png"


def with_messages(name: str, messages: list[Any]) -> InboundRequest:
    """A webhook with these messages."""
    body = sample_of(name, "text")
    if name == "whatsapp-evo":
        body["data"] = messages
    else:
        body["entry"][0]["changes"][0]["value"]["messages"] = messages
    return request_of(msgspec.json.encode(body), {})


@pytest.mark.parametrize("name", ["whatsapp-cloud", "whatsapp-evo"])
def test_what_cannot_be_read_does_not_hold_back_what_came_with_it(name: str) -> None:
    body = sample_of(name, "text")
    good = body["data"] if name == "whatsapp-evo" else body["entry"][0]["changes"][0]["value"]["messages"][0]
    bad = {"messageTimestamp" if name == "whatsapp-evo" else "timestamp": "soon"}
    cases: list[list[Any]] = [[{**good, **bad}, good], [good, {}], [good, None]]
    for several in cases:
        [envelope] = inbound_of(name).read(account_of(name), with_messages(name, several))
        assert isinstance(envelope.content, Message)
    with pytest.raises(UnreadableError):
        inbound_of(name).read(account_of(name), with_messages(name, [{**good, **bad}, {}]))

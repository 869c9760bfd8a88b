"""What holds for every platform that sends webhooks: its signature, and its sample payloads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

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
    assert sample.source.startswith("http"), "a sample says where it is from"
    envelopes = inbound_of(name).read(account_of(name), request_of(sample.content, sample.headers, sample.query))
    shown = [msgspec.structs.replace(envelope, raw=None) for envelope in envelopes]
    assert msgspec.json.decode(msgspec.json.encode(shown)) == sample.envelopes
    ids = [envelope.event_id for envelope in envelopes]
    assert len(set(ids)) == len(ids), "what happened at once has an id for each"


@pytest.mark.parametrize("name", [name for name in NAMES if REGISTRY.inbound(name) is not None])
def test_what_is_no_payload_is_unreadable_or_nothing(name: str) -> None:
    for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b'{"a":' * 5000, b'{"message":1,"event":2}'):
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

"""Signatures of Vonage's, which stand among the fields that they sign, for the fuzz runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from hypothesis import strategies as st

from fuzz.mutation import texts
from fuzz.target import Target
from msgcore.platforms.receiving import InboundRequest, SignatureError
from msgcore.platforms.vonage_sms.inbound import METHODS, VonageInbound, sign
from servers.deliveries import make_account

SECRET = "my_secret_key_for_testing"
INBOUND = VonageInbound()
FIELDS = {
    "msisdn": "447700900001",
    "to": "447700900000",
    "messageId": "0A0000000123ABCD1",
    "text": "a&b=c",
    "type": "text",
}


def look(data: st.DataObject) -> None:
    """A message with a field changed, added, or left out: it is refused."""
    method = data.draw(st.sampled_from(METHODS))
    account = make_account("vonage-sms", {"signatureSecret": SECRET, "signatureMethod": method})
    now = datetime.now(UTC)
    fields = FIELDS | {"timestamp": str(int(now.timestamp()))}
    fields["sig"] = sign(SECRET, method, fields)
    assert is_taken(account, fields, now, as_json=data.draw(st.booleans()))
    other = changed(data.draw, fields)
    same = {name: value.replace("&", "_").replace("=", "_") for name, value in fields.items()}
    if {name: value.replace("&", "_").replace("=", "_") for name, value in other.items()} != same:
        assert not is_taken(account, other, now, as_json=data.draw(st.booleans())), other


def changed(draw: Any, fields: dict[str, str]) -> dict[str, str]:
    """Other fields than these."""
    name = draw(st.sampled_from(sorted(fields)))
    match draw(st.integers(0, 2)):
        case 0:
            return {each: value for each, value in fields.items() if each != name}
        case 1:
            return fields | {draw(texts): draw(texts)}
        case _:
            return fields | {name: draw(texts)}


def is_taken(account: Any, fields: dict[str, str], now: datetime, *, as_json: bool) -> bool:
    """Whether a request with these fields is Vonage's."""
    body = msgspec.json.encode(fields) if as_json else urlencode(fields).encode()
    try:
        INBOUND.verify(account, InboundRequest("POST", {}, "", body, now))
    except SignatureError:
        return False
    return True


TARGETS: Sequence[Target] = (Target("vonage-sms: signatures", st.data(), look),)

"""Every way in which a platform's webhook proves who made it, and requests with right and wrong proofs."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any
from urllib.parse import urlencode

import msgspec

from msgcore.platforms.base import Account
from msgcore.platforms.receiving import Inbound, InboundRequest
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.vonage_sms.inbound import sign as sign_for_vonage
from msgcore.security.webhook_secrets import SECRET_PREFIX, make_secret
from servers.deliveries import make_account
from servers.facts import facts_of, samples_of

REGISTRY = PlatformRegistry()
PUBLIC = frozenset(("discord",))
"""Platforms that sign with a private key: what checks it is no secret."""

_MARK = re.compile(r"[a-z0-9]{1,8}[=,]")
"""How some signatures begin, which is no secret: `sha256=`, `v0=`, `v1,`."""


@dataclass(frozen=True)
class Proof:
    """One way: `right` is the text that proves it, and `request` makes a request with any text in its place."""

    name: str
    platform: str
    account: Account
    right: str
    request: Callable[[str], InboundRequest]
    inbound: Inbound

    def verify(self, text: str) -> None:
        """As the receiver does."""
        self.inbound.verify(self.account, self.request(text))

    def wrong_at(self, place: float) -> str:
        """The right text with another character at the beginning (0) or towards the end (1) of what is secret."""
        found = _MARK.match(self.right)
        begin, end = found.end() if found else 0, len(self.right.rstrip("=")) - 1
        index = begin + round(place * (end - begin))
        other = "0" if self.right[index] != "0" else "4"  # in base64, it changes bits that count at the end too
        return self.right[:index] + other + self.right[index + 1 :]


def proofs() -> list[Proof]:
    """All of them, of accounts with the credentials that platforms give as examples.

    Raises LookupError for a platform that verifies its requests in a way that is not known here.
    """
    return _proofs(REGISTRY.names, lambda example: example)


def proofs_of_another(platform: str) -> list[Proof]:
    """The same of an account of this platform with random credentials."""
    return _proofs([platform], _another)


def _proofs(names: Sequence[str], change: Callable[[str], str]) -> list[Proof]:
    found: list[Proof] = []
    for name in names:
        inbound = REGISTRY.inbound(name)
        if inbound is None or inbound.signature.startswith("none"):
            continue
        fields = REGISTRY.declaration(name).credentials
        examples = {
            field.name: change(str(field.example)) if field.secret else field.example
            for field in fields
            if field.example
        }
        account = make_account(name, examples, webhook_url=f"https://gateway.example.com/api/v1/webhooks/{name}/x")
        made = [Proof(label, name, account, right, request, inbound) for label, right, request in _ways(name, account)]
        if not made:
            raise LookupError(f"it is not known how requests of {name} are signed: add `sign` to its facts")
        found += made
    return found


def _another(example: str) -> str:
    """A text of the same form."""
    if example.startswith(SECRET_PREFIX):
        return make_secret()
    kinds = (digits, "abcdef", ascii_lowercase, ascii_uppercase)
    pools = {one: next((kind for kind in kinds if one in kind), one) for one in example}
    return "".join(secrets.choice(pools[one]) for one in example)


_Way = tuple[str, str, Callable[[str], InboundRequest]]


def _ways(name: str, account: Account) -> Iterator[_Way]:
    body, sign = samples_of(name)[0].content, facts_of(name).sign
    if sign is not None:
        headers = {key.lower(): value for key, value in sign(account, body).items()}
        proof = max(headers, key=lambda key: len(headers[key]))  # the others are times and ids
        yield name, headers[proof], lambda text: _request(body, headers | {proof: text})
    match name:
        case "email":
            yield (
                f"{name}, by password",
                account.credentials["inboundSecret"],
                lambda text: _request(body, _basic(text)),
            )
        case "vonage-sms":
            fields = {"msisdn": "447700900001", "text": "hello", "timestamp": str(int(time.time()))}
            right = sign_for_vonage(account.credentials["signatureSecret"], "sha256", fields)
            yield name, right, lambda text: _request(msgspec.json.encode(fields | {"sig": text}), {})
        case "whatsapp-cloud":
            yield f"{name}, when it is entered", account.credentials["verifyToken"], _asked
        case _:
            return


def _request(body: bytes, headers: dict[str, str], **more: Any) -> InboundRequest:
    about = {"method": "POST", "query": ""} | more
    return InboundRequest(headers=headers, body=body, received_at=datetime.now(UTC), **about)


def _basic(password: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'mail:{password}'.encode()).decode()}"}


def _asked(token: str) -> InboundRequest:
    query = urlencode({"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "1"})
    return _request(b"", {}, method="GET", query=query)

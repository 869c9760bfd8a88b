"""Requests of Discord's, and what came over the gateway: verified, answered and read.

Source: https://docs.discord.com/developers/interactions/overview#setting-up-an-endpoint
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from msgcore.platforms.discord.events import read_event
from msgcore.platforms.discord.interactions import Kind, answer_to
from msgcore.platforms.receiving import (
    Inbound,
    InboundAnswer,
    InboundRequest,
    SignatureError,
    UnreadableError,
    read_object,
)

if TYPE_CHECKING:
    from msgcore.core.envelope import Envelope
    from msgcore.platforms.base import Account

SIGNATURE_HEADER = "x-signature-ed25519"
TIME_HEADER = "x-signature-timestamp"
SESSION_HEADER = "x-discord-session"
"""The session in which an event came over the gateway. No header of Discord's: the connection puts it there."""
WINDOW = 300
"""Seconds that a request may be old. Discord waits for three, and names no limit."""
LONGEST_TIME = 12
"""Digits of a time in seconds."""


class DiscordInbound(Inbound):
    """Interactions that are posted, and events as the gateway sends them (`op`, `t`, `s`, `d`)."""

    signature = "X-Signature-Ed25519, by the application's public key, over X-Signature-Timestamp and the body"
    keeps = (SESSION_HEADER,)

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the public key of the account's application."""
        key = account.credentials.get("publicKey")
        if not key:
            raise SignatureError("the account has no publicKey")
        at = request.headers.get(TIME_HEADER, "")
        if not (at.isascii() and at.isdigit() and len(at) <= LONGEST_TIME):
            raise SignatureError("X-Signature-Timestamp is missing or no time")
        try:
            given = bytes.fromhex(request.headers.get(SIGNATURE_HEADER, ""))
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(given, at.encode() + request.body)
        except (InvalidSignature, ValueError):
            raise SignatureError("X-Signature-Ed25519 is not by the account's publicKey") from None
        if abs(request.received_at.timestamp() - int(at)) > WINDOW:
            raise SignatureError("the request is more than five minutes old")

    def handshake(self, account: Account, request: InboundRequest) -> InboundAnswer | None:
        """A PING, by which Discord tries an address before it takes it."""
        del account
        asked = read_object(request.body)
        return _answer(asked) if asked.get("type") == Kind.PING else None

    def reply(self, request: InboundRequest) -> InboundAnswer:
        """What Discord wants at once: a button that rests again, or a sign that the command was seen."""
        return _answer(read_object(request.body))

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What an interaction or an event tells; raises UnreadableError for what is neither."""
        payload = read_object(request.body)
        name, data = payload.get("t"), payload.get("d")
        if isinstance(name, str) and isinstance(data, dict):
            dispatch = f"{request.headers.get(SESSION_HEADER, '')}:{payload.get('s')}"
            return read_event(name, cast("dict[str, Any]", data), account, dispatch)
        if "type" not in payload:
            raise UnreadableError("the body is neither an interaction nor an event of the gateway")
        return read_event("INTERACTION_CREATE", payload, account)


def _answer(interaction: dict[str, Any]) -> InboundAnswer:
    return InboundAnswer(msgspec.json.encode(answer_to(interaction)))

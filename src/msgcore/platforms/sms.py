"""What platforms that send short messages have in common: numbers, how long a message counts, forms that come in."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from msgcore.core.errors import FieldError
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.receiving import OversizedError, UnreadableError

if TYPE_CHECKING:
    from msgcore.core.content import Target
    from msgcore.platforms.base import OutgoingDelivery

SENDER = r"\+?[1-9][0-9]{6,14}|[0-9]{3,8}|(?=[0-9 +_&-]*[A-Za-z])[A-Za-z0-9 +_&-]{1,11}"
"""A number (E.164), a short code, or a name of up to 11 characters with a letter in it (3GPP TS 23.040, 9.1.2.5)."""
FIELDS = 1000
"""In a form: more is nobody's message."""
LARGEST_BODY = 256 * 1024
"""Bytes of a request: messages have a few thousand, and forms have to be taken apart before they are verified."""

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")


class SmsAdapter(CallingAdapter):
    """Sends to phone numbers, always written the same: they name conversations, and people who opted out."""

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """A number with its country's code (E.164)."""
        if _NUMBER.fullmatch(target.id):
            return []
        message = "target.id must be a phone number with + and the country's code (E.164), such as +4915123456789"
        return [FieldError("/target/id", message)]

    def seconds_left(self, delivery: OutgoingDelivery) -> int | None:
        """For how long a message is worth being delivered, at least one second; None for one that always is."""
        if delivery.options.expires_at is None:
            return None
        left = datetime.fromisoformat(delivery.options.expires_at) - self.services.clock.now()
        return max(1, int(left.total_seconds()))


def check_size(body: bytes) -> None:
    """Raises OversizedError for what is too large for a request about a message."""
    if len(body) > LARGEST_BODY:
        raise OversizedError(f"the body has more than {LARGEST_BODY} bytes")


def read_form(text: str) -> list[tuple[str, str]]:
    """The fields of a form, those without a value too. Raises UnreadableError."""
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except ValueError:
        raise UnreadableError("the form cannot be decoded") from None


def read_fields(body: bytes, query: str) -> dict[str, str]:
    """The fields of a request: of its form or JSON object, or of its query where it has no body.

    Raises UnreadableError.
    """
    try:
        if not body.startswith(b"{"):
            return dict(read_form(body.decode() or query))
        given = msgspec.json.decode(body, type=dict[str, Any])
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise UnreadableError(f"the body is neither a form nor JSON: {type(error).__name__}") from None
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode() for name, value in given.items()
    }

"""Secrets that sign webhooks, as Standard Webhooks writes them down: `whsec_` and base64.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import os

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public part
SHORTEST_SECRET, LONGEST_SECRET = 24, 64
"""Bytes, as the Standard Webhooks specification asks for symmetric secrets."""

_MADE_BYTES = 32


def make_secret() -> str:
    """A new random secret, written down."""
    return SECRET_PREFIX + base64.b64encode(os.urandom(_MADE_BYTES)).decode()


def read_secret(text: str) -> bytes | None:
    """The bytes of a secret as it is written down, or None if it is not one."""
    if not text.startswith(SECRET_PREFIX):
        return None
    encoded = text[len(SECRET_PREFIX) :]
    try:
        secret = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)
    except ValueError:
        return None
    return secret if SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET else None

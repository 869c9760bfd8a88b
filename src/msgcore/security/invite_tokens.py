"""Tokens of invitations: 32 random bytes, kept only as their SHA-256."""

from __future__ import annotations

import hashlib
import secrets

_RANDOM_BYTES = 32


def make_invite_token() -> str:
    """A new token; it is shown once and never stored."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def digest(token: str) -> str:
    """The SHA-256 of a token as hex digits, by which it is looked up."""
    return hashlib.sha256(token.encode()).hexdigest()

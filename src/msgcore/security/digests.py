"""Digests of secrets that are looked up or compared and need not be known: API keys, invitations, tokens of logins."""

from __future__ import annotations

import hashlib


def digest(secret: str) -> str:
    """The SHA-256 of a secret as hex digits.

    For secrets with 128 random bits or more, not for passwords: a plain digest of such cannot be reversed, and looking
    one up by its digest tells nothing by its timing.
    """
    return hashlib.sha256(secret.encode()).hexdigest()

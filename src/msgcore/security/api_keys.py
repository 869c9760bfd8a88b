"""API keys: `msc_<environment>_<32 random bytes, base64url>`, kept only as their SHA-256."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from msgcore.security.digests import digest

_RANDOM_BYTES = 32
_PREFIX = "msc_"
_PREFIX_LENGTH = 12
_SUFFIX_LENGTH = 4
_LONGEST = 128
_ENVIRONMENTS = {"production": "prod", "staging": "stg", "development": "dev"}


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made. `secret` is shown once and never stored."""

    secret: str = field(repr=False)
    digest: str
    prefix: str
    suffix: str


def make_api_key(environment: str) -> NewApiKey:
    """A new key for a project of this environment."""
    secret = f"{_PREFIX}{_ENVIRONMENTS.get(environment, 'dev')}_{secrets.token_urlsafe(_RANDOM_BYTES)}"
    return NewApiKey(secret, digest(secret), secret[:_PREFIX_LENGTH], secret[-_SUFFIX_LENGTH:])


def may_be_api_key(text: str) -> bool:
    """Whether a text can be a key at all; others need no look-up."""
    return text.startswith(_PREFIX) and len(text) <= _LONGEST


def mask(prefix: str, suffix: str) -> str:
    """How a key is shown in lists."""
    return f"{prefix}...{suffix}"

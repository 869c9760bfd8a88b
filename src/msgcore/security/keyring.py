"""Encryption of stored credentials: AES-256-GCM under keys that can rotate.

A token is `v1:<key id>:<nonce and ciphertext, base64url>`. The key id tells which key to use, so
rows written under an older key stay readable while they are rewritten under the new one. A running
process learns of a new key before it encrypts, and when it meets a token of a key that it does not know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = "v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_ID_DIGITS = 8

PREFIX_LENGTH = len(_VERSION) + 1 + _KEY_ID_DIGITS + 1
"""Characters of a token that tell its key."""


class DecryptionError(Exception):
    """A token cannot be decrypted. The message says why, and holds nothing of its content."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a keyring is made of, 32 bytes each: the key that encrypts, and further ones that decrypt."""

    active: bytes = field(repr=False)
    others: Sequence[bytes] = field(default=(), repr=False)


News = Callable[[], Keys | None]
"""Gives the keys of an installation when they are others than those it gave before; None when nothing has changed."""


def _no_news() -> None:
    """Keys that stay as they are for the life of the process."""


class Keyring:
    """Encrypts with the active key; decrypts with whichever key a token names."""

    def __init__(self, active: bytes, others: Sequence[bytes] = (), news: News = _no_news) -> None:
        """Keys are 32 bytes each. Raises ValueError for another length."""
        self._news = news
        self._ciphers: dict[str, AESGCM] = {}
        self.active_key_id = ""
        self._take(Keys(active, others))

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys that it can decrypt with."""
        return frozenset(self._ciphers)

    @property
    def current(self) -> str:
        """How tokens under the active key begin."""
        return f"{_VERSION}:{self.active_key_id}:"

    def encrypt(self, plaintext: bytes, *, context: str) -> str:
        """A token that only decrypts with the same `context` (the id of the row it is kept in)."""
        self._look()  # under a key that was retired meanwhile, it would be left behind
        active, nonce = self.active_key_id, os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[active].encrypt(nonce, plaintext, context.encode())
        return f"{_VERSION}:{active}:{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def decrypt(self, token: str, *, context: str) -> bytes:
        """The plaintext. Raises DecryptionError."""
        version, _, rest = token.partition(":")
        named, _, payload = rest.partition(":")
        if version != _VERSION or not payload:
            raise DecryptionError("not an encrypted value of this version")
        if named not in self._ciphers:
            self._look()
        cipher = self._ciphers.get(named)
        if cipher is None:
            raise DecryptionError(f"encrypted with another key ({named})")
        try:
            sealed = base64.b64decode(payload, altchars=b"-_", validate=True)
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError, binascii.Error):
            raise DecryptionError("damaged, or moved here from another row") from None

    def _look(self) -> None:
        keys = self._news()
        if keys is not None:
            self._take(keys)

    def _take(self, keys: Keys) -> None:
        """Use these from now on. Earlier ones stay known: rows that were read before may be under them."""
        if any(len(key) != _KEY_BYTES for key in (keys.active, *keys.others)):
            raise ValueError(f"an encryption key has {_KEY_BYTES} bytes")
        self._ciphers = self._ciphers | {key_id(key): AESGCM(key) for key in (*keys.others, keys.active)}
        self.active_key_id = key_id(keys.active)


def key_id(key: bytes) -> str:
    """What a key is called in tokens and in public; it tells nothing of the key."""
    return hashlib.sha256(b"msgcore key id\0" + key).hexdigest()[:_KEY_ID_DIGITS]


def key_id_of(token: str) -> str | None:
    """The id of the key that a token, or its first `PREFIX_LENGTH` characters, is under; None where it is no token."""
    version, _, rest = token.partition(":")
    found, colon, _ = rest.partition(":")
    return found if version == _VERSION and colon and found else None

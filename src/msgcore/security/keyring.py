"""Encryption of stored credentials: AES-256-GCM under keys that can rotate.

A token is `v1:<key id>:<nonce and ciphertext, base64url>`. The key id tells which key to use, so
rows written under an older key stay readable while they are rewritten under the new one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = "v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_ID_DIGITS = 8


class DecryptionError(Exception):
    """A token cannot be decrypted. The message says why, and holds nothing of its content."""


class Keyring:
    """Encrypts with the active key; decrypts with whichever key a token names."""

    def __init__(self, active: bytes, retired: Sequence[bytes] = ()) -> None:
        """Keys are 32 bytes each. Raises ValueError for another length."""
        if any(len(key) != _KEY_BYTES for key in (active, *retired)):
            raise ValueError(f"an encryption key has {_KEY_BYTES} bytes")
        self._ciphers = {_key_id(key): AESGCM(key) for key in (*retired, active)}
        self.active_key_id = _key_id(active)

    def encrypt(self, plaintext: bytes, *, context: str) -> str:
        """A token that only decrypts with the same `context` (the id of the row it is kept in)."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.active_key_id].encrypt(nonce, plaintext, context.encode())
        return f"{_VERSION}:{self.active_key_id}:{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def decrypt(self, token: str, *, context: str) -> bytes:
        """The plaintext. Raises DecryptionError."""
        version, _, rest = token.partition(":")
        key_id, _, payload = rest.partition(":")
        if version != _VERSION or not payload:
            raise DecryptionError("not an encrypted value of this version")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise DecryptionError(f"encrypted with another key ({key_id})")
        try:
            sealed = base64.b64decode(payload, altchars=b"-_", validate=True)
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError, binascii.Error):
            raise DecryptionError("damaged, or moved here from another row") from None


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"msgcore key id\0" + key).hexdigest()[:_KEY_ID_DIGITS]

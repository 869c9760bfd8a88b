"""The two secrets of an installation: what signs logins, and what encrypts credentials.

Each comes from its setting. What is not set is made on the first start and kept in
`secrets.json` in the data directory, readable by its owner only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgcore.config import Settings
from msgcore.security.secrets_file import StoredSecrets, load_or_make


@dataclass(frozen=True, slots=True)
class Secrets:
    """`jwt_secret` signs logins (at least 32 characters); `encryption_key` is 32 bytes, as are `decryption_keys`."""

    jwt_secret: str = field(repr=False)
    encryption_key: bytes = field(repr=False)
    decryption_keys: Sequence[bytes] = field(default=(), repr=False)


def load_secrets(settings: Settings) -> Secrets:
    """The secrets of this installation, made now where there are none yet.

    Makes the data directory where it is missing. Raises StartupError when that directory or its
    file cannot be used; a damaged file is never replaced, because credentials depend on it.
    """
    jwt_secret, encryption_key = settings.jwt_secret, settings.encryption_key
    more = further_keys(settings)
    if jwt_secret is not None and encryption_key is not None:
        return Secrets(jwt_secret.get_secret_value(), bytes.fromhex(encryption_key.get_secret_value()), more)
    stored = load_or_make(settings.data_dir)
    signing = jwt_secret.get_secret_value() if jwt_secret else stored.jwt_secret
    if encryption_key is not None:
        return Secrets(signing, bytes.fromhex(encryption_key.get_secret_value()), more)
    return Secrets(signing, bytes.fromhex(stored.encryption_key), (*more, *retired(stored)))


def further_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys of `MSGCORE_DECRYPTION_KEYS`, which only decrypt."""
    given = settings.decryption_keys
    return () if given is None else tuple(map(bytes.fromhex, given.get_secret_value().split(",")))


def retired(stored: StoredSecrets) -> tuple[bytes, ...]:
    """The keys of the file that only decrypt."""
    return tuple(bytes.fromhex(each.key) for each in stored.retired_keys)

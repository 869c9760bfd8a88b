"""The two secrets of an installation: what signs logins, and what encrypts credentials.

Each comes from its setting, or from a command that a setting names. Which of them does not is made on the first start
and kept in `secrets.json` in the data directory, readable by its owner only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgcore.config import Settings
from msgcore.security.key_providers import key_provider
from msgcore.security.secrets_file import load_or_make, signing_secret


@dataclass(frozen=True, slots=True)
class Secrets:
    """`jwt_secret` signs logins (at least 32 characters); `encryption_key` is 32 bytes, as are `decryption_keys`."""

    jwt_secret: str = field(repr=False)
    encryption_key: bytes = field(repr=False)
    decryption_keys: Sequence[bytes] = field(default=(), repr=False)


def load_secrets(settings: Settings) -> Secrets:
    """The secrets of this installation, made now where there are none yet.

    Makes the data directory where it is missing. Raises StartupError when that directory or its
    file cannot be used, or the command gives no key; a damaged file is never replaced, because credentials
    depend on it.
    """
    keys = key_provider(settings).load()
    given = settings.jwt_secret
    if given is not None:
        return Secrets(given.get_secret_value(), keys.active, keys.others)
    signing = signing_secret(settings.data_dir, load_or_make(settings))
    return Secrets(signing, keys.active, keys.others)

"""The encryption keys of an installation: where they come from, how a new one is made, and how old ones go."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from msgcore.config import Settings
from msgcore.core.errors import InvalidInputError, StartupError
from msgcore.security import secrets_file
from msgcore.security.keyring import Keyring, Keys, key_id
from msgcore.security.secrets import Secrets, further_keys, load_secrets, retired
from msgcore.security.secrets_file import SECRETS_FILE, RetiredKey, StoredSecrets

logger = logging.getLogger(__name__)

SETTLING = timedelta(seconds=60)
"""For so long after a key was retired, a transaction that began before may still write under it."""


def open_keyring(settings: Settings, found: Secrets) -> Keyring:
    """The keyring of an installation; keys from the file are read again when that was changed."""
    if settings.encryption_key is not None:
        return Keyring(found.encryption_key, found.decryption_keys)
    return Keyring(found.encryption_key, found.decryption_keys, _FileNews(settings))


def add_key(settings: Settings, now: datetime) -> str:
    """Make a key that encrypts from now on, and retire the present one; the new one's id.

    Running processes that share the data directory find it there. Raises InvalidInputError where the keys are not
    kept in that file.
    """
    if settings.encryption_key is not None:
        raise InvalidInputError(
            "the keys come from MSGCORE_ENCRYPTION_KEY, which this command cannot change. First add a new key "
            "(openssl rand -hex 32) to MSGCORE_DECRYPTION_KEYS of every process and restart them, then swap the two "
            "and restart them again, then run this command without --new"
        )
    load_secrets(settings)
    made = secrets.token_hex(32)

    def renewed(stored: StoredSecrets) -> StoredSecrets:
        old = RetiredKey(key=stored.encryption_key, retired_at=now)
        return StoredSecrets(
            jwt_secret=stored.jwt_secret, encryption_key=made, retired_keys=[*stored.retired_keys, old]
        )

    secrets_file.change(settings.data_dir, renewed)
    return key_id(bytes.fromhex(made))


def prune_keys(settings: Settings, used: Collection[str], now: datetime) -> Sequence[str]:
    """Remove retired keys from the file but for those with an id in `used`; the ids of what was removed.

    Raises InvalidInputError, having removed nothing, where a key must stay or the keys are not kept in that file.
    """
    if settings.encryption_key is not None:
        raise InvalidInputError(
            "the keys come from MSGCORE_DECRYPTION_KEYS, which this command cannot change: take out those that "
            "`msgcore keys status` shows without rows, and restart the processes"
        )
    load_secrets(settings)
    removed: list[str] = []

    def pruned(stored: StoredSecrets) -> StoredSecrets:
        for each in stored.retired_keys:
            _require_unused(each, used, now)
            removed.append(key_id(bytes.fromhex(each.key)))
        return StoredSecrets(jwt_secret=stored.jwt_secret, encryption_key=stored.encryption_key)

    secrets_file.change(settings.data_dir, pruned)
    return removed


def _require_unused(retired_key: RetiredKey, used: Collection[str], now: datetime) -> None:
    name = key_id(bytes.fromhex(retired_key.key))
    if name in used:
        raise InvalidInputError(f"key {name} stays, because rows are under it: run `msgcore keys rotate` first")
    left = (retired_key.retired_at + SETTLING - now).total_seconds()
    if left > 0:
        raise InvalidInputError(
            f"key {name} was retired less than {SETTLING.seconds} s ago, and something may just be written under it: "
            f"run `msgcore keys rotate --prune` again in {left:.0f} s"
        )


class _FileNews:
    """Whether the secrets file was replaced, and the keys that it holds then."""

    def __init__(self, settings: Settings) -> None:
        self._data_dir = settings.data_dir
        self._more = further_keys(settings)
        self._seen: tuple[int, int, int] | None = None

    def __call__(self) -> Keys | None:
        # By its name each time: the file is replaced, never written to. This costs microseconds.
        try:
            found = (self._data_dir / SECRETS_FILE).stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return None
            stored = secrets_file.read(self._data_dir)
        except (OSError, StartupError) as error:
            logger.warning("the secrets file cannot be read again, so its keys stay as they are: %s", error)
            return None
        self._seen = seen
        return Keys(bytes.fromhex(stored.encryption_key), (*self._more, *retired(stored)))

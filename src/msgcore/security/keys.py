"""The encryption keys of an installation: opening them, how a new one is made, and how old ones go."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from msgcore.config import Settings
from msgcore.core.errors import InvalidInputError
from msgcore.security import secrets_file
from msgcore.security.key_providers import key_provider
from msgcore.security.keyring import Keyring, key_id
from msgcore.security.secrets import Secrets, load_secrets
from msgcore.security.secrets_file import RetiredKey, StoredSecrets

SETTLING = timedelta(seconds=60)
"""For so long after a key was retired, a transaction that began before may still write under it."""


def open_keyring(settings: Settings, found: Secrets) -> Keyring:
    """The keyring of an installation, which hears of new keys where those who keep them tell."""
    return Keyring(found.encryption_key, found.decryption_keys, key_provider(settings).news)


def add_key(settings: Settings, now: datetime) -> str:
    """Make a key that encrypts from now on, and retire the present one; the new one's id.

    Running processes that share the data directory find it there. Raises InvalidInputError where the keys are not
    kept in that file.
    """
    provider = key_provider(settings)
    if provider.adding is not None:
        raise InvalidInputError(
            f"the keys come from {provider.source}, which this command cannot change. {provider.adding}"
        )
    load_secrets(settings)
    made = secrets.token_hex(32)

    def renewed(stored: StoredSecrets) -> StoredSecrets:
        old = RetiredKey(key=secrets_file.encryption_key(settings.data_dir, stored), retired_at=now)
        return replace(stored, encryption_key=made, retired_keys=[*stored.retired_keys, old])

    secrets_file.change(settings.data_dir, renewed)
    return key_id(bytes.fromhex(made))


def prune_keys(settings: Settings, used: Collection[str], now: datetime) -> Sequence[str]:
    """Remove retired keys from the file but for those with an id in `used`; the ids of what was removed.

    Raises InvalidInputError, having removed nothing, where a key must stay or the keys are not kept in that file.
    """
    provider = key_provider(settings)
    if provider.removing is not None:
        raise InvalidInputError(
            f"the keys come from {provider.source}, which this command cannot change: "
            f"{provider.removing}, and restart the processes"
        )
    load_secrets(settings)
    removed: list[str] = []

    def pruned(stored: StoredSecrets) -> StoredSecrets:
        for each in stored.retired_keys:
            _require_unused(each, used, now)
            removed.append(key_id(bytes.fromhex(each.key)))
        return replace(stored, retired_keys=[])

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

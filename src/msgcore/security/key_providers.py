"""Where encryption keys come from: the environment, a command that asks a key manager, or the secrets file."""

from __future__ import annotations

import logging
from typing import ClassVar, Protocol

from msgcore.config import Settings
from msgcore.core.errors import StartupError
from msgcore.security import secrets_file
from msgcore.security.key_command import ask_for_keys
from msgcore.security.keyring import Keys
from msgcore.security.secrets_file import SECRETS_FILE, StoredSecrets, load_or_make

logger = logging.getLogger(__name__)


class KeyProvider(Protocol):
    """Gives the keys of an installation: the one that encrypts, and those that were retired and still decrypt.

    `source` is the setting that names them. `adding` and `removing` tell the operator how a key comes and how one goes;
    all three are None where `msgcore keys` does that itself.
    """

    source: ClassVar[str | None]
    adding: ClassVar[str | None]
    removing: ClassVar[str | None]

    def load(self) -> Keys:
        """The keys at a start, or when they are changed. Raises StartupError that says what to do."""
        ...

    def news(self) -> Keys | None:
        """The keys when they are others than before. Asked before anything is encrypted: it takes microseconds."""
        ...


def key_provider(settings: Settings) -> KeyProvider:
    """The provider that these settings name."""
    if settings.encryption_key is not None:
        return EnvironmentKeys(settings)
    if settings.encryption_key_command is not None:
        return CommandKeys(settings, settings.encryption_key_command.get_secret_value())
    return FileKeys(settings)


class EnvironmentKeys:
    """The key of `MSGCORE_ENCRYPTION_KEY`, as it is for the life of the process."""

    source: ClassVar[str | None] = "MSGCORE_ENCRYPTION_KEY"
    adding: ClassVar[str | None] = (
        "First add a new key (openssl rand -hex 32) to MSGCORE_DECRYPTION_KEYS of every process and restart them, "
        "then swap the two and restart them again, then run this command without --new"
    )
    removing: ClassVar[str | None] = (
        "take those that `msgcore keys status` shows without rows out of MSGCORE_DECRYPTION_KEYS"
    )

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def load(self) -> Keys:
        """As they are set."""
        key = self._settings.encryption_key
        if key is None:
            raise StartupError("MSGCORE_ENCRYPTION_KEY is not set")
        return Keys(bytes.fromhex(key.get_secret_value()), _further_keys(self._settings))

    def news(self) -> None:
        """The environment of a process stays."""


class CommandKeys:
    """The keys that a command prints, as they are for the life of the process: the first one encrypts."""

    source: ClassVar[str | None] = "MSGCORE_ENCRYPTION_KEY_COMMAND"
    adding: ClassVar[str | None] = (
        "First let it print a new key (openssl rand -hex 32) as the last line, for every process, and restart them, "
        "then as the first line and restart them again, then run this command without --new"
    )
    removing: ClassVar[str | None] = "let it print no more those that `msgcore keys status` shows without rows"

    def __init__(self, settings: Settings, command: str) -> None:
        self._settings = settings
        self._command = command

    def load(self) -> Keys:
        """Runs the command, which may take a while. Raises StartupError."""
        printed = ask_for_keys(self._command)
        return Keys(printed.active, (*printed.others, *_further_keys(self._settings)))

    def news(self) -> None:
        """It is not asked again: who encrypts cannot wait for it."""


class FileKeys:
    """The keys of the secrets file, made at the first start. They are read again when it was replaced."""

    source: ClassVar[str | None] = None
    adding: ClassVar[str | None] = None
    removing: ClassVar[str | None] = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir
        self._more = _further_keys(settings)
        self._seen: tuple[int, int, int] | None = None

    def load(self) -> Keys:
        """Raises StartupError."""
        return self._keys(load_or_make(self._settings))

    def news(self) -> Keys | None:
        """Looks whether the file is another one."""
        # By its name each time: the file is replaced, never written to. This costs microseconds.
        try:
            found = (self._data_dir / SECRETS_FILE).stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return None
            keys = self._keys(secrets_file.read(self._data_dir))
        except (OSError, StartupError) as error:
            logger.warning("the secrets file cannot be read again, so its keys stay as they are: %s", error)
            return None
        self._seen = seen
        return keys

    def _keys(self, stored: StoredSecrets) -> Keys:
        retired = (bytes.fromhex(each.key) for each in stored.retired_keys)
        active = secrets_file.encryption_key(self._data_dir, stored)
        return Keys(bytes.fromhex(active), (*self._more, *retired))


def _further_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys of `MSGCORE_DECRYPTION_KEYS`, which only decrypt."""
    given = settings.decryption_keys
    return () if given is None else tuple(map(bytes.fromhex, given.get_secret_value().split(",")))

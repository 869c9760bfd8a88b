"""The two secrets of an installation: what signs logins, and what encrypts credentials.

Each comes from its setting. What is not set is made on the first start and kept in
`secrets.json` in the data directory, readable by its owner only.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from msgcore.config import Settings
from msgcore.core.errors import StartupError

logger = logging.getLogger(__name__)

SECRETS_FILE = "secrets.json"


@dataclass(frozen=True, slots=True)
class Secrets:
    """`jwt_secret` signs logins (at least 32 characters); `encryption_key` is 32 bytes."""

    jwt_secret: str = field(repr=False)
    encryption_key: bytes = field(repr=False)


class _StoredSecrets(msgspec.Struct, rename="camel"):
    """What `secrets.json` holds; the key as hex digits."""

    jwt_secret: Annotated[str, msgspec.Meta(min_length=32)]
    encryption_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{64}$")]


def load_secrets(settings: Settings) -> Secrets:
    """The secrets of this installation, made now where there are none yet.

    Makes the data directory where it is missing. Raises StartupError when that directory or its
    file cannot be used; a damaged file is never replaced, because credentials depend on it.
    """
    jwt_secret, encryption_key = settings.jwt_secret, settings.encryption_key
    if jwt_secret is not None and encryption_key is not None:
        return Secrets(jwt_secret.get_secret_value(), bytes.fromhex(encryption_key.get_secret_value()))
    stored = _load_or_make(settings.data_dir)
    return Secrets(
        jwt_secret.get_secret_value() if jwt_secret else stored.jwt_secret,
        bytes.fromhex(encryption_key.get_secret_value() if encryption_key else stored.encryption_key),
    )


def prepare_data_dir(data_dir: Path) -> None:
    """Make the data directory (mode 0700) where it is missing, and check that files can be made in it.

    Raises StartupError that names MSGCORE_DATA_DIR.
    """
    with _explained(data_dir):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(data_dir, os.W_OK | os.X_OK):
            raise PermissionError(None, "not writable")


def _load_or_make(data_dir: Path) -> _StoredSecrets:
    prepare_data_dir(data_dir)
    path = data_dir / SECRETS_FILE
    with _explained(data_dir):
        if not path.exists():
            _create(path)
        _keep_private(path)
        content = path.read_bytes()
    try:
        return msgspec.json.decode(content, type=_StoredSecrets)
    except msgspec.DecodeError:
        raise StartupError(
            f"{path} is damaged; restore it from a backup, "
            "or set MSGCORE_JWT_SECRET and MSGCORE_ENCRYPTION_KEY to the values it held"
        ) from None


def _create(path: Path) -> None:
    """Write new secrets so that the file appears whole or not at all.

    Of two processes that start at once, one wins: `link` refuses a name that exists, where
    `rename` would put the second one's key over a key that is already in use.
    """
    made = _StoredSecrets(jwt_secret=secrets.token_urlsafe(48), encryption_key=secrets.token_hex(32))
    draft = path.with_name(f".{SECRETS_FILE}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(made))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make a new file name survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_private(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
        logger.warning("%s could be read by others; its mode is 0600 now", path)


@contextmanager
def _explained(data_dir: Path) -> Generator[None]:
    """Turn what the file system refuses into one line that says what to set."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or "not usable").lower()
        raise StartupError(
            f"MSGCORE_DATA_DIR: {data_dir} cannot be used ({reason}); set it to a folder that this user can write to"
        ) from None

"""The file in the data directory that keeps the secrets which no setting gives: made once, changed as a whole.

What a setting gave when it was made is not in it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from msgcore.config import Settings
from msgcore.core.errors import StartupError
from msgcore.core.private import private_repr
from msgcore.core.private_files import keep_private

SECRETS_FILE = "secrets.json"

HexKey = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{64}$")]


class RetiredKey(msgspec.Struct, rename="camel"):
    """A key that only decrypts, and since when; as hex digits."""

    __repr__ = private_repr

    key: HexKey
    retired_at: datetime


class StoredSecrets(msgspec.Struct, rename="camel", omit_defaults=True):
    """What the file holds; the key as hex digits. None stands for what comes from elsewhere."""

    __repr__ = private_repr

    jwt_secret: Annotated[str, msgspec.Meta(min_length=32)] | None = None
    encryption_key: HexKey | None = None
    retired_keys: list[RetiredKey] = []


def prepare_data_dir(data_dir: Path) -> None:
    """Make the data directory (mode 0700) where it is missing, and check that files can be made in it.

    Raises StartupError that names MSGCORE_DATA_DIR.
    """
    with _explained(data_dir):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(data_dir, os.W_OK | os.X_OK):
            raise PermissionError(None, "not writable")


def load_or_make(settings: Settings) -> StoredSecrets:
    """What the file holds, made now where there is none yet, of what no setting gives. Raises StartupError."""
    prepare_data_dir(settings.data_dir)
    path = settings.data_dir / SECRETS_FILE
    with _explained(settings.data_dir):
        if not path.exists():
            _create(path, _new(settings))
        keep_private(path)
    return read(settings.data_dir)


def read(data_dir: Path) -> StoredSecrets:
    """What the file holds. Raises StartupError where it cannot be read, or is damaged."""
    path = data_dir / SECRETS_FILE
    with _explained(data_dir):
        content = path.read_bytes()
    try:
        return msgspec.json.decode(content, type=StoredSecrets)
    except msgspec.DecodeError:
        raise StartupError(
            f"{path} is damaged; restore it from a backup, "
            "or set MSGCORE_JWT_SECRET and MSGCORE_ENCRYPTION_KEY to the values it held"
        ) from None


def signing_secret(data_dir: Path, stored: StoredSecrets) -> str:
    """What signs logins. Raises StartupError where the file has none."""
    return _found(stored.jwt_secret, data_dir, "jwtSecret", "MSGCORE_JWT_SECRET")


def encryption_key(data_dir: Path, stored: StoredSecrets) -> str:
    """What encrypts. Raises StartupError where the file has none: another one would not open what there is."""
    return _found(stored.encryption_key, data_dir, "encryptionKey", "MSGCORE_ENCRYPTION_KEY")


def change(data_dir: Path, made_of: Callable[[StoredSecrets], StoredSecrets]) -> None:
    """Put what `made_of` makes of the file in its place. Of several who do so, each begins with what the other left.

    A reader finds the file from before or from after. Raises StartupError.
    """
    path = data_dir / SECRETS_FILE
    with _explained(data_dir), _turn(data_dir):
        changed = msgspec.json.encode(made_of(read(data_dir)))
        with _draft(path, changed) as draft:
            draft.replace(path)


def _found(value: str | None, data_dir: Path, name: str, variable: str) -> str:
    if value is None:
        raise StartupError(
            f"{data_dir / SECRETS_FILE} has no {name}, and {variable} is not set; set it as it was, "
            "or restore the file from a backup"
        )
    return value


def _new(settings: Settings) -> StoredSecrets:
    given = settings.encryption_key or settings.encryption_key_command
    return StoredSecrets(
        jwt_secret=secrets.token_urlsafe(48) if settings.jwt_secret is None else None,
        encryption_key=secrets.token_hex(32) if given is None else None,
    )


def _create(path: Path, made: StoredSecrets) -> None:
    """Write new secrets so that the file appears whole or not at all.

    Of two processes that start at once, one wins: `link` refuses a name that exists, where
    `rename` would put the second one's key over a key that is already in use.
    """
    with _draft(path, msgspec.json.encode(made)) as draft, suppress(FileExistsError):
        path.hardlink_to(draft)


@contextmanager
def _draft(path: Path, content: bytes) -> Generator[Path]:
    """A file beside `path` with this content, to be put in its place."""
    draft = path.with_name(f".{SECRETS_FILE}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
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


@contextmanager
def _turn(directory: Path) -> Generator[None]:
    """Wait until nobody else changes the file. The lock is on its folder, because the file is replaced."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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

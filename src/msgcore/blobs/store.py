"""The blob store: files by names of ours, each there as a whole or not at all.

One library (obstore) speaks to both kinds. It writes beside the final place and then moves, or uploads in parts that
count once they are complete, so nobody ever sees half a file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from msgcore.config import Settings
from msgcore.core.errors import StartupError
from msgcore.core.private_files import FOLDER_MODE, keep_private

PIECE = 5 * 1024 * 1024
"""Bytes of a part of an upload: the least that S3 takes. Smaller files go with one request."""
PARTS_AT_ONCE = 2
"""Of one file; they are in memory."""
READ_PIECE = 256 * 1024
FOLDER = "blobs"
CONNECT, WHOLE_REQUEST, RETRY_FOR = timedelta(seconds=5), timedelta(seconds=60), timedelta(seconds=20)
"""For requests to a bucket, and for trying one again."""

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import S3Config

_FAULTS = (BaseError, OSError)


class BlobError(Exception):
    """The blob store cannot be used just now. The message names the kind of fault, and no secret."""


class BlobMissingError(Exception):
    """There is no such file."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that was opened: how many bytes all of it has, and those that were asked for."""

    size: int
    pieces: AsyncGenerator[bytes]


class BlobStore:
    """Files by name. A name is an id of ours, never anything that a sender wrote."""

    def __init__(self, store: LocalStore | S3Store, root: Path | None) -> None:
        """`root` is the directory of a local store."""
        self._store = store
        self._root = root

    @classmethod
    def open(cls, settings: Settings) -> BlobStore:
        """The store that the settings name. Raises StartupError for a directory that cannot be used."""
        parts = urlsplit(settings.blob_url or "")
        if parts.scheme == "s3":
            return cls(_bucket(settings, parts.netloc, parts.path.strip("/")), None)
        root = Path(unquote(parts.path)) if settings.blob_url else settings.data_dir / FOLDER
        try:
            root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            if not settings.blob_url:  # who shares one that they named has a reason
                keep_private(root)
            if not os.access(root, os.W_OK | os.X_OK):
                raise PermissionError(None, "not writable")
        except OSError as error:
            reason = (error.strerror or "not usable").lower()
            raise StartupError(
                f"MSGCORE_BLOB_URL: {root} cannot be used ({reason}); set it to a folder that this user can write to"
            ) from None
        return cls(LocalStore(root), root)

    async def put(self, name: str, content: bytes | AsyncIterable[bytes]) -> None:
        """Store a file under a name, in place of one that is there; safe on the disk when it returns.

        Raises BlobError, and what reading `content` raises; nothing is stored then. One that is cancelled may leave an
        upload in a bucket that is never completed: where time is short, let `content` raise.
        """
        path = _path(name)
        upload = content if isinstance(content, bytes) else await _small_or_pieces(content)
        try:
            await obstore.put_async(self._store, path, upload, chunk_size=PIECE, max_concurrency=PARTS_AT_ONCE)
            if self._root is not None:
                await asyncio.to_thread(_settle, self._root / path)
        except _FAULTS as error:
            raise _explained(error) from error

    async def get(self, name: str, start: int = 0, end: int | None = None) -> Blob:
        """Open a file, or its bytes from `start` to before `end`. Raises BlobMissingError and BlobError.

        Reading it may raise BlobError too.
        """
        wanted: GetOptions = {}
        if end is not None:
            wanted["range"] = (start, end)
        elif start:
            wanted["range"] = {"offset": start}
        try:
            found = await obstore.get_async(self._store, _path(name), options=wanted)
        except FileNotFoundError:
            raise BlobMissingError(name) from None
        except _FAULTS as error:
            raise _explained(error) from error
        return Blob(found.meta["size"], _read(found))

    async def delete(self, names: Sequence[str]) -> None:
        """Delete files; those that are not there count as deleted. Raises BlobError."""
        try:
            if self._root is None:
                await obstore.delete_async(self._store, [_path(name) for name in names])
            else:
                await asyncio.to_thread(_unlink, [self._root / _path(name) for name in names])
        except _FAULTS as error:
            raise _explained(error) from error


def _path(name: str) -> str:
    """In a folder of 256, by digits that are evenly spread: folders with millions of files are slow to list."""
    return f"{name[-2:]}/{name}"


def _bucket(settings: Settings, name: str, prefix: str) -> S3Store:
    key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    config: S3Config = {"region": settings.s3_region}
    if key is not None and secret is not None:
        config |= {"access_key_id": key.get_secret_value(), "secret_access_key": secret.get_secret_value()}
    if settings.s3_endpoint is not None:
        config["endpoint"] = settings.s3_endpoint
    return S3Store(
        name,
        prefix=prefix or None,
        config=config,
        client_options={"allow_http": True, "connect_timeout": CONNECT, "timeout": WHOLE_REQUEST},
        retry_config={"max_retries": 3, "retry_timeout": RETRY_FOR},
    )


async def _small_or_pieces(content: AsyncIterable[bytes]) -> bytes | AsyncIterator[bytes]:
    """All of a file that is no larger than a part; of another, what gives its pieces."""
    pieces = aiter(content)
    start = bytearray()
    async for piece in pieces:
        start += piece
        if len(start) > PIECE:
            return _from(bytes(start), pieces)
    return bytes(start)


async def _from(start: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield start
    async for piece in rest:
        yield piece


async def _read(found: GetResult) -> AsyncGenerator[bytes]:
    try:
        async for piece in found.stream(min_chunk_size=READ_PIECE):
            yield bytes(piece)
    except _FAULTS as error:
        raise _explained(error) from error


def _settle(path: Path) -> None:
    """Make a file that was moved to its place survive a power cut, which the library leaves to the system."""
    for place in (path, path.parent, path.parent.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _drop_drafts(path)


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        _drop_drafts(path)


def _drop_drafts(path: Path) -> None:
    """What a process that was killed had written beside it: the library calls these `<name>#1` and so on."""
    with suppress(FileNotFoundError):
        for number in count(1):
            path.with_name(f"{path.name}#{number}").unlink()


def _explained(error: Exception) -> BlobError:
    """Without the library's words: they may hold what the server answered, and addresses with credentials."""
    return BlobError(type(error).__name__)

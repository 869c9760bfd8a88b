"""The spool: verified requests on the local disk while the database is away.

A folder of files, one for each batch, named so that they sort by age. A file is complete or not
there: it is written under another name, synced, renamed, and its folder synced. The database is
given each file's requests again and again until it has them; requests have ids, so twice does no harm.
Each process has a folder of its own, which a lock on it says; what one left that ended is taken over
by the next that starts.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from msgcore.core.ids import new_id
from msgcore.core.private_files import make_folder
from msgcore.store.inbound import RawRequest

log = structlog.stdlib.get_logger(__name__)

SUFFIX, UNFINISHED, DAMAGED = ".batch", ".part", ".damaged"

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[RawRequest])


class SpoolFullError(Exception):
    """The spool holds as many bytes as it may."""


class Spool:
    """A bounded queue of batches on the disk, for one process."""

    def __init__(self, root: Path, *, largest: int) -> None:
        """`root` has the folders of all processes; `largest` is how many bytes this one may keep."""
        self._root = root
        self._folder = root
        self._largest = largest
        self._files: list[Path] = []
        self._lock: int | None = None
        self.size = 0

    def open(self) -> None:
        """Take a folder, with what was left there and in those that nobody has any more."""
        make_folder(self._root)
        number = 0
        while (lock := _lock(self._root / str(number))) is None:
            number += 1
        self._lock, self._folder = lock, self._root / str(number)
        for other in self._root.iterdir():
            self._take_over(other)
        for path in self._folder.glob(f"*{UNFINISHED}"):
            path.unlink()  # it was not answered
        self._files = sorted(self._folder.glob(f"*{SUFFIX}"))
        self.size = sum(path.stat().st_size for path in self._files)

    def close(self) -> None:
        """Let the folder go; what lies there is for the next process."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_over(self, folder: Path) -> None:
        lock = None if folder == self._folder else _lock(folder)
        if lock is not None:
            for path in folder.glob(f"*{SUFFIX}"):
                path.rename(self._folder / path.name)
            os.close(lock)

    @property
    def is_empty(self) -> bool:
        """Whether nothing lies there."""
        return not self._files

    async def put(self, requests: Sequence[RawRequest]) -> None:
        """Write a batch; returns when it is on the disk. Raises SpoolFullError, or OSError if the disk refuses."""
        encoded = _ENCODER.encode(list(requests))
        if self.size + len(encoded) > self._largest:
            raise SpoolFullError
        path = self._folder / f"{new_id()}{SUFFIX}"
        await asyncio.to_thread(_write, path, encoded)
        self._files.append(path)
        self.size += len(encoded)

    async def first(self) -> list[RawRequest]:
        """The oldest batch; empty when there is none. One that cannot be read any more is set aside."""
        while self._files:
            path = self._files[0]
            try:
                return _DECODER.decode(await asyncio.to_thread(path.read_bytes))
            except (msgspec.DecodeError, FileNotFoundError):
                log.exception("spool_damaged", file=path.name)
                self._forget(path)
                if path.exists():
                    path.rename(path.with_suffix(DAMAGED))
        return []

    async def drop_first(self) -> None:
        """Forget the oldest batch: the database has it."""
        path = self._files[0]
        size = path.stat().st_size
        await asyncio.to_thread(path.unlink)
        self._files.pop(0)
        self.size -= size

    def _forget(self, path: Path) -> None:
        self._files.remove(path)
        self.size = sum(each.stat().st_size for each in self._files if each.exists())


def _lock(folder: Path) -> int | None:
    """A descriptor that holds a folder, which is made if need be; None if another process holds it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _write(path: Path, encoded: bytes) -> None:
    unfinished = path.with_suffix(UNFINISHED)
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(encoded)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        _sync_folder(path.parent)
    except BaseException:
        # It counts nowhere, and a disk that is full is not to stay so because of it.
        for left in (unfinished, path):
            left.unlink(missing_ok=True)
        raise


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

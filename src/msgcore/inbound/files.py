"""Files of messages on their way in: which are kept, and storing those whose bytes came with the message.

Nothing is ever unpacked: an archive is a file like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from msgcore.blobs.store import BlobError, BlobStore
from msgcore.core.attachments import AttachmentState
from msgcore.core.clock import Clock
from msgcore.core.envelope import File
from msgcore.core.errors import DeliveryError, PermanentError
from msgcore.core.ids import new_id
from msgcore.store import attachments as store
from msgcore.store.database import Database

UNKNOWN_TYPE = "application/octet-stream"
AT_ONCE = 4
"""Files that are stored at the same time."""
LOOKED_AT = 64
"""Bytes at the start of a file by which it is told what it holds."""

_PROGRAMS = (
    # "PE Format", 2.1; System V ABI, "ELF Header"; loader.h of Mach-O, both widths and byte orders.
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"\x7fELF", "application/x-executable"),
    (b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
    (b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
)
_FORMATS = (
    # "MIME Sniffing", 6.1 and 7.1 (https://mimesniff.spec.whatwg.org). Containers such as ZIP are left out, which hold
    # documents of other types.
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
)
_MARKUP = (
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<head", "text/html"),
    (b"<body", "text/html"),
    (b"<script", "text/html"),
    (b"<iframe", "text/html"),
    (b"<svg", "image/svg+xml"),
)


@dataclass(slots=True)
class ReceivedFile:
    """A file of a message, the id that it has with us, and what has become of it so far."""

    file: File
    id: str = field(default_factory=new_id)
    state: AttachmentState = AttachmentState.PENDING
    error: PermanentError | None = None

    def end(self, error: PermanentError, state: AttachmentState = AttachmentState.REFUSED) -> None:
        """It cannot be had."""
        self.state, self.error = state, error


class FilePolicy:
    """Which files are kept: up to so many bytes, of allowed media types that are not blocked."""

    def __init__(self, max_bytes: int, allowed: Sequence[str], blocked: Sequence[str]) -> None:
        """Types may be patterns: `image/*`."""
        self.max_bytes = max_bytes
        self._allowed = tuple(allowed)
        self._blocked = tuple(blocked)

    def check_size(self, size: int) -> None:
        """Raise PermanentError (`attachment_too_large`)."""
        if size > self.max_bytes:
            raise self.too_large()

    def too_large(self) -> PermanentError:
        """What is said of a file that has too many bytes."""
        return PermanentError(
            "attachment_too_large",
            f"The file is larger than {self.max_bytes} bytes; the operator sets MSGCORE_MAX_INBOUND_ATTACHMENT_BYTES",
        )

    def check_type(self, mime_type: str | None, start: bytes = b"") -> None:
        """Raise PermanentError (`attachment_type_refused`), by what a file is said to be and by how it begins."""
        said = (mime_type or UNKNOWN_TYPE).lower()
        kinds = (said, _held_type(start, said))
        for kind in kinds:
            if not _matches(kind, self._allowed):
                raise PermanentError(
                    "attachment_type_refused",
                    f"Files of the type {kind[:100]} are not kept; the operator sets MSGCORE_ATTACHMENT_TYPES",
                )
        for kind in kinds:
            if _matches(kind, self._blocked):
                raise PermanentError(
                    "attachment_type_refused",
                    f"Files of the type {kind[:100]} are refused; the operator sets MSGCORE_BLOCKED_ATTACHMENT_TYPES",
                )


class FileKeeper:
    """Stores the files whose bytes came with their messages, before anybody is told of those."""

    def __init__(self, *, database: Database, blobs: BlobStore, policy: FilePolicy, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._policy = policy
        self._clock = clock

    async def keep(self, files: Iterable[ReceivedFile]) -> None:
        """Decide on each, and store those that are there; the others stay pending. Raises BlobError."""
        here = [each for each in files if self._is_to_be_stored(each)]
        if not here:
            return
        now = self._clock.now()
        await self._database.transact(lambda connection: store.note(connection, [each.id for each in here], now))
        try:
            for start in range(0, len(here), AT_ONCE):
                ends = await asyncio.gather(*map(self._put, here[start : start + AT_ONCE]), return_exceptions=True)
                for error in ends:
                    if error is not None:
                        raise error
        except BlobError:
            await self._take_back([each.id for each in here])
            raise

    def _is_to_be_stored(self, each: ReceivedFile) -> bool:
        """Whether the bytes of a file are here and may be kept."""
        file = each.file
        if file.data is None and file.url is None and file.id is None:
            each.end(PermanentError("attachment_empty", "The platform did not say where it is"), AttachmentState.FAILED)
            return False
        try:
            self._policy.check_size(len(file.data) if file.data is not None else file.size or 0)
            if file.data is not None or file.mime_type is not None:
                self._policy.check_type(file.mime_type, (file.data or b"")[:LOOKED_AT])
        except PermanentError as error:
            each.end(error)
            return False
        return file.data is not None

    async def _put(self, each: ReceivedFile) -> None:
        await self._blobs.put(each.id, each.file.data or b"")
        each.state = AttachmentState.STORED

    async def _take_back(self, ids: Sequence[str]) -> None:
        """Since trying again gives other ids; where this fails as well, the sweeper finds what is left."""
        with suppress(BlobError):
            await self._blobs.delete(ids)
            await store.forget(self._database, ids)


def log_line(about: dict[str, Any], attachment_id: str, state: AttachmentState, error: DeliveryError) -> dict[str, Any]:
    """A line of the platform's log on a file that cannot be had.

    `about` has `project_id`, `platform_id`, `platform`, `message_id` and `timestamp`. What is said of the file is its
    id: its address may hold a secret, and its name anything.
    """
    said = "An attachment was refused" if state == AttachmentState.REFUSED else "An attachment could not be had"
    return {
        "id": new_id(),
        "project_id": about["project_id"],
        "platform_id": about["platform_id"],
        "platform": about["platform"],
        "level": "warn",
        "category": "message",
        "message": said,
        "metadata": {"attachmentId": attachment_id, "messageId": about["message_id"], "code": error.code},
        "error": error.message,
        "timestamp": about["timestamp"],
    }


def _held_type(start: bytes, said: str) -> str:
    """The media type of what a file holds, where its first bytes leave no doubt; else what is said."""
    if b"\0" in start:  # else it could be a text
        for beginning, kind in _PROGRAMS:
            if start.startswith(beginning):
                return kind
    for beginning, kind in _FORMATS:
        if start.startswith(beginning):
            # Of the same main type it may be the same by another name: image/jpg, application/x-pdf.
            return said if said.partition("/")[0] == kind.partition("/")[0] else kind
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip(b"\t\n\f\r ").lower()
    return next((kind for beginning, kind in _MARKUP if text.startswith(beginning)), said)


def _matches(kind: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(kind, pattern) for pattern in patterns)

"""Files of received messages: their addresses, and what is at these."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from msgcore.blobs.store import BlobError, BlobMissingError, BlobStore
from msgcore.core.attachments import AttachmentState
from msgcore.core.clock import Clock
from msgcore.core.errors import (
    ForbiddenError,
    GoneError,
    NotFoundError,
    RangeNotSatisfiableError,
    UnavailableError,
)
from msgcore.core.ids import canonical_id
from msgcore.security.links import AttachmentLinks
from msgcore.store import attachments as store
from msgcore.store.database import Database

log = structlog.stdlib.get_logger(__name__)

SOONEST, LATEST = 2.0, 3600.0
"""Seconds after which it is worth asking again for a file that is still to be fetched."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class AttachmentLink:
    """An attachment (a row), and its address, valid until a moment."""

    row: Any
    url: str
    until: datetime


@dataclass(frozen=True, slots=True)
class OpenedAttachment:
    """An attachment (a row) that is read: all of its `size` bytes, or those from `start` to before `end`.

    `seconds` is how long its address is still valid.
    """

    row: Any
    size: int
    start: int
    end: int
    is_part: bool
    seconds: int
    pieces: AsyncGenerator[bytes]


class AttachmentService:
    """Gives addresses to those who may read messages, and files to those who have an address."""

    def __init__(self, *, database: Database, blobs: BlobStore, links: AttachmentLinks, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._links = links
        self._clock = clock

    async def link(self, project_id: str, message_id: str, attachment_id: str) -> AttachmentLink:
        """A fresh address of a file. Raises NotFoundError."""
        ids = canonical_id(message_id), canonical_id(attachment_id)
        if ids[0] is not None and ids[1] is not None:
            async with self._database.read() as connection:
                row = await store.find_of_message(connection, project_id, ids[0], ids[1])
            if row is not None:
                until = self._links.expiry()
                return AttachmentLink(row, self._links.url_of(row.id, until), until)
        raise NotFoundError(f"Attachment {attachment_id[:64]!r} not found: the message lists those that it has")

    async def open(self, attachment_id: str, expires: int, signature: str, wanted: str | None) -> OpenedAttachment:
        """A file, by its address; `wanted` is a Range header.

        Raises ForbiddenError for an address that is not valid and for a file that was refused, UnavailableError for
        one that is still to be fetched, GoneError for one that is no longer kept, NotFoundError for one that could not
        be had, and RangeNotSatisfiableError.
        """
        seconds = self._links.check(attachment_id, expires, signature)
        async with self._database.read() as connection:
            row = await store.find(connection, attachment_id)
        if row is None:
            raise GoneError("The message that had the file is no longer kept")
        self._require_stored(row)
        part = _part_of(wanted, row.size or 0)
        start, end = part or (0, row.size or 0)
        try:
            blob = await (self._blobs.get(row.id) if part is None else self._blobs.get(row.id, start, end))
        except BlobMissingError:
            log.error("blob_missing", attachment_id=row.id)  # noqa: TRY400 - says all there is
            raise NotFoundError("The file is not where it was kept; the operator's log has its id") from None
        except BlobError as error:
            log.error("blobs_away", error=str(error))  # noqa: TRY400 - says all there is
            raise UnavailableError("The file cannot be read just now; try again", retry_after=SOONEST) from None
        return OpenedAttachment(row, blob.size, start, end, part is not None, seconds, blob.pieces)

    def _require_stored(self, row: Any) -> None:
        match row.state:
            case AttachmentState.STORED:
                return
            case AttachmentState.PENDING:
                wait = (row.due_at - self._clock.now()).total_seconds() if row.reason else SOONEST
                why = f" (so far: {row.reason})" if row.reason else ""
                raise UnavailableError(
                    f"The file is still to be fetched from the platform{why}; try again",
                    retry_after=min(max(wait, SOONEST), LATEST),
                )
            case AttachmentState.REFUSED:
                raise ForbiddenError(f"The file was refused: {row.reason}")
            case AttachmentState.EXPIRED:
                raise GoneError(f"The file is no longer kept: {row.reason}")
            case _:
                raise NotFoundError(f"The file could not be had: {row.reason}")


def _part_of(wanted: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the one after the last of a Range header (RFC 9110, section 14.1.2).

    None for all: for no header, one of several ranges, or a malformed one, which may be ignored.
    """
    match = _RANGE.fullmatch(wanted or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiableError(f"The file has {size} bytes", size=size)
    return start, end

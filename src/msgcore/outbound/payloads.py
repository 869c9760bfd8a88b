"""Bodies of requests: bytes as they are, and multipart/form-data (RFC 7578)."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import aiohttp

from msgcore.core.errors import PermanentError
from msgcore.outbound.transport import Part

STREAMED_FROM = 1024 * 1024
"""Bytes from which a body is written in pieces: aiohttp writes one piece without a pause."""
PLAIN = "text/plain; charset=utf-8"
UNKNOWN_TYPE = "application/octet-stream"

Payload = bytes | io.BytesIO | aiohttp.MultipartWriter | None

_NOT_IN_HEADERS = re.compile(r"[\x00-\x1f\x7f]")


def as_payload(body: bytes | Sequence[Part] | None) -> Payload:
    """A body as aiohttp takes it. Raises PermanentError for a part that would make headers of its own."""
    if body is None or isinstance(body, bytes):
        return body if body is None else _streamed(body)
    form = aiohttp.MultipartWriter("form-data")
    for part in body:
        if any(_NOT_IN_HEADERS.search(text) for text in (part.name, part.filename or "", part.mime_type or "")):
            raise header_error()
        of_kind = PLAIN if part.filename is None else UNKNOWN_TYPE
        field = form.append(_streamed(part.data), {"Content-Type": part.mime_type or of_kind})
        names = {"name": part.name} if part.filename is None else {"name": part.name, "filename": part.filename}
        # Names as they are in UTF-8, as browsers send them: servers seldom know the percent form.
        field.set_content_disposition("form-data", quote_fields=False, **names)
    return form


def header_error() -> PermanentError:
    """For what would be another header, or none that may be sent."""
    return PermanentError("header_invalid", "A header of the request would hold a line break or control character")


def _streamed(data: bytes) -> bytes | io.BytesIO:
    return data if len(data) < STREAMED_FROM else io.BytesIO(data)

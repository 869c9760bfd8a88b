"""Files of received messages: a fresh address for one, and the file at an address."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from litestar import Controller, get
from litestar.background_tasks import BackgroundTask
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.response import Stream

from msgcore.api.access import PUBLIC, Injected, requires
from msgcore.api.answers import Timestamp
from msgcore.api.documented import answered, problems
from msgcore.api.received import AttachmentAnswer, attachment_answer
from msgcore.api.stalled import letting_go
from msgcore.core.clock import to_iso
from msgcore.core.scopes import ApiScope
from msgcore.services.attachments import AttachmentService, OpenedAttachment

UNKNOWN_TYPE = "application/octet-stream"
_RUN_BY_BROWSERS = re.compile(r".*(html|[/+]xml|/xsl|script|/css|/wasm|cache-manifest)|multipart/.*", re.IGNORECASE)
"""Media types that may do something in a page of this origin, be it only as a part of one."""
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_NOT_QUOTABLE = re.compile(r"[^ -~]|[\"\\%]")
_UNSAFE_IN_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069/\\]")
"""Control characters, folders, and what lets `exe.png` be shown for `gnp.exe`."""

Expires = Annotated[int, QueryParameter(ge=0, le=2**53, description="Part of the address")]
Signature = Annotated[str, QueryParameter(max_length=100, description="Part of the address")]
Range = Annotated[str | None, HeaderParameter(name="Range", description="One range of bytes", max_length=100)]


class LinkedAttachment(AttachmentAnswer):
    """With how long `url` is valid."""

    expires_at: Timestamp


class AttachmentsController(Controller):
    """Files of received messages."""

    path = "/api/v1"
    tags = ("Received messages",)

    @get(
        "/projects/{project:str}/messages/{message_id:str}/attachments/{attachment_id:str}",
        opt=requires(ApiScope.MESSAGES_READ),
        summary="Get a fresh address of an attachment",
    )
    async def link(
        self,
        project: FromPath[str],
        message_id: FromPath[str],
        attachment_id: FromPath[str],
        attachments: Injected[AttachmentService],
    ) -> LinkedAttachment:
        """And how it is with the file. Whoever has the address can read the file until `expiresAt`."""
        found = await attachments.link(project, message_id, attachment_id)
        shown = attachment_answer(found.row, found.url)
        return LinkedAttachment(
            **{name: getattr(shown, name) for name in shown.__struct_fields__}, expires_at=to_iso(found.until)
        )

    @get(
        "/attachments/{attachment_id:str}",
        opt=PUBLIC,
        middleware=[letting_go],
        summary="Download an attachment",
        responses=answered(Any, "*/*")
        | answered(Any, "*/*", status=206)
        | problems(
            HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        ),
    )
    async def download(
        self,
        attachment_id: FromPath[str],
        attachments: Injected[AttachmentService],
        expires: Expires,
        signature: Signature,
        wanted: Range = None,
    ) -> Stream:
        """By the address that messages and events have; nothing else is asked for.

        403 for one that is not valid (any longer) and for a file that was refused, 503 with `Retry-After` while it is
        still to be fetched, 404 where it could not be had, 410 where it is no longer kept.
        """
        opened = await attachments.open(attachment_id, expires, signature, wanted)
        return Stream(
            opened.pieces,
            status_code=206 if opened.is_part else 200,
            headers=_headers(opened),
            background=BackgroundTask(opened.pieces.aclose),  # what a client that is gone left unread
        )


def _headers(opened: OpenedAttachment) -> dict[str, str]:
    """Whatever the file is, a browser shows it to be saved, and runs nothing of it."""
    headers = {
        # Here, since Litestar would add a charset that nobody knows of.
        "Content-Type": shown_type(opened.row.mime_type or ""),
        "Content-Length": str(opened.end - opened.start),
        "Content-Disposition": disposition(opened.row.filename),
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",  # for pictures in pages of others, who have the address
        "Cache-Control": f"private, max-age={opened.seconds}",
        "Accept-Ranges": "bytes",
    }
    if opened.is_part:
        headers["Content-Range"] = f"bytes {opened.start}-{opened.end - 1}/{opened.size}"
    return headers


def shown_type(mime_type: str) -> str:
    """The type to give a file out as: what its sender said, unless browsers run such."""
    if not _MEDIA_TYPE.fullmatch(mime_type) or _RUN_BY_BROWSERS.fullmatch(mime_type):
        return UNKNOWN_TYPE
    return mime_type


def disposition(filename: str | None) -> str:
    """A Content-Disposition that gives a name to save under, in ASCII and as it is (RFC 6266, appendix D)."""
    name = _UNSAFE_IN_NAME.sub("_", filename or "")
    if not name.strip(". "):
        return "attachment"
    return f"attachment; filename=\"{_NOT_QUOTABLE.sub('_', name)}\"; filename*=UTF-8''{quote(name, safe='')}"

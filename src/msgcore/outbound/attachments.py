"""Attachments: checked when a message is accepted, loaded when it is sent."""

from __future__ import annotations

import binascii
import mimetypes
import re
from collections.abc import Iterable
from dataclasses import dataclass
from posixpath import basename
from urllib.parse import unquote, urlsplit

from msgcore.core.content import Attachment
from msgcore.core.errors import FieldError, PermanentError, TemporaryError
from msgcore.outbound.following import media_type, open_file
from msgcore.outbound.transport import TooLargeError, Transport
from msgcore.security.egress import url_problem

UNKNOWN_TYPE = "application/octet-stream"

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w-]+=[^;,]*)*;base64,", re.ASCII | re.IGNORECASE)
_POSITION = re.compile(r"/(\d+)")
_UNSAFE_IN_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029/\\]")


@dataclass(frozen=True, slots=True)
class LoadedAttachment:
    """A file ready to be sent: a safe name, a MIME type, the bytes."""

    filename: str
    mime_type: str
    data: bytes


class AttachmentLoader:
    """Gets the bytes of attachments: decodes what is inline, fetches what is on the web.

    `max_bytes` bounds a file, and the files of a message together: they are in memory at once.
    """

    def __init__(self, transport: Transport, max_bytes: int) -> None:
        self._transport = transport
        self._max_bytes = max_bytes

    async def load(self, attachments: Iterable[Attachment]) -> list[LoadedAttachment]:
        """The files of one message, one after the other, each cut off where their budget ends.

        Raises PermanentError (`attachment_invalid`, `attachment_not_found`, `attachment_too_large`,
        `attachments_too_large`, `egress_denied`) or TemporaryError (`attachment_unavailable`).
        """
        files: list[LoadedAttachment] = []
        left = self._max_bytes
        for attachment in attachments:
            try:
                file = await self._load(attachment, left)
            except TooLargeError:
                raise (self._too_large() if left == self._max_bytes else self._too_large_together()) from None
            left -= len(file.data)
            files.append(file)
        return files

    async def _load(self, attachment: Attachment, largest: int) -> LoadedAttachment:
        if attachment.data is not None:
            return self._decode(attachment, attachment.data, largest)
        if attachment.url is not None:
            return await self._fetch(attachment, attachment.url, largest)
        raise PermanentError("attachment_invalid", "The attachment has neither url nor data")

    def _decode(self, attachment: Attachment, text: str, largest: int) -> LoadedAttachment:
        mime_type, encoded = _split_data_url(text)
        try:
            data = binascii.a2b_base64(encoded, strict_mode=True)
        except ValueError:
            raise PermanentError("attachment_invalid", "The attachment's data is not valid base64") from None
        if len(data) > largest:
            raise TooLargeError
        return _named(attachment, data, "", mime_type)

    async def _fetch(self, attachment: Attachment, url: str, largest: int) -> LoadedAttachment:
        try:
            async with open_file(self._transport, url) as (answer, found_at):
                data = await answer.read(largest)
                return _named(attachment, data, urlsplit(found_at).path, media_type(answer))
        except TemporaryError as error:
            # A file that could not be fetched says nothing about the message: nothing was sent.
            raise TemporaryError("attachment_unavailable", f"The attachment: {error.message}") from error

    def _too_large(self) -> PermanentError:
        return PermanentError(
            "attachment_too_large",
            f"The attachment is larger than {self._max_bytes} bytes; the operator sets MSGCORE_MAX_ATTACHMENT_BYTES",
        )

    def _too_large_together(self) -> PermanentError:
        return PermanentError(
            "attachments_too_large",
            f"The message's attachments are larger than {self._max_bytes} bytes together; "
            "the operator sets MSGCORE_MAX_ATTACHMENT_BYTES",
        )


def name_of(attachment: Attachment) -> str:
    """The name of a file as far as its sender or its URL says it; may be empty."""
    return attachment.filename or ("" if attachment.url is None else basename(unquote(urlsplit(attachment.url).path)))


def type_of(attachment: Attachment) -> str:
    """The MIME type of a file as far as its sender or its name says it; may be empty."""
    return attachment.mime_type or mimetypes.guess_type(name_of(attachment))[0] or ""


def check_attachment(attachment: Attachment, pointer: str) -> list[FieldError]:
    """What is wrong with an attachment; reads inline data once without decoding it.

    `pointer` is the JSON pointer of the attachment, such as `/content/attachments/0`.
    """
    name = _POSITION.sub(r"[\1]", pointer.removeprefix("/")).replace("/", ".")
    errors: list[FieldError] = []
    if (attachment.url is None) == (attachment.data is None):
        errors.append(FieldError(pointer, f"{name} must have exactly one of url and data"))
    if attachment.url is not None and (problem := url_problem(attachment.url)) is not None:
        errors.append(FieldError(f"{pointer}/url", f"{name}.url {problem}"))
    if attachment.data is not None and not _looks_like_base64(_split_data_url(attachment.data)[1]):
        errors.append(
            FieldError(f"{pointer}/data", f"{name}.data must be base64 (padded, without line breaks) or a data: URL")
        )
    if attachment.filename is not None and _UNSAFE_IN_NAME.search(attachment.filename):
        errors.append(FieldError(f"{pointer}/filename", f"{name}.filename must not hold slashes or control characters"))
    return errors


def check_attachments(attachments: list[Attachment] | None) -> list[FieldError]:
    """What is wrong with the attachments of a message."""
    return [
        error
        for index, attachment in enumerate(attachments or ())
        for error in check_attachment(attachment, f"/content/attachments/{index}")
    ]


def _split_data_url(text: str) -> tuple[str | None, str]:
    match = _DATA_URL.match(text)
    return (None, text) if match is None else (match["type"], text[match.end() :])


def _looks_like_base64(encoded: str) -> bool:
    # Deleting the alphabet runs at memory speed; decoding megabytes here would hold up other requests.
    if not encoded or len(encoded) % 4 or not encoded.isascii():
        return False
    rest = encoded.encode().translate(None, _BASE64)
    return rest in (b"", b"=", b"==") and encoded.endswith(rest.decode())


def _named(attachment: Attachment, data: bytes, path: str, found_type: str | None) -> LoadedAttachment:
    name = _UNSAFE_IN_NAME.sub("_", attachment.filename or basename(unquote(path)))[-255:]
    mime_type = attachment.mime_type
    if mime_type is None and found_type not in (None, UNKNOWN_TYPE):
        mime_type = found_type
    if mime_type is None:
        mime_type = mimetypes.guess_type(name)[0] or UNKNOWN_TYPE
    if not name:
        name = f"file{mimetypes.guess_extension(mime_type) or ''}"
    return LoadedAttachment(name, mime_type, data)

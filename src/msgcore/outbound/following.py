"""Opening a file on the web: redirects are followed a few times, each checked by the egress guard anew."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

from msgcore.core.errors import PermanentError, TemporaryError
from msgcore.outbound.transport import Download, Transport

MAX_REDIRECTS = 3

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_WORTH_ANOTHER_TRY = frozenset((408, 425, 429))
_MEDIA_TYPE = re.compile(r"\s*([\w.+-]+/[\w.+-]+)\s*(?:;|$)", re.ASCII)


@asynccontextmanager
async def open_file(
    transport: Transport, url: str, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[tuple[Download, str]]:
    """The answer that has a file, its body not read yet, and the URL that it came from.

    `headers` are for the URL's own origin: to another one they do not go along, since they may hold a secret. Raises
    PermanentError (`attachment_not_found`, `attachment_invalid`, and those of the transport) or TemporaryError.
    """
    for _ in range(MAX_REDIRECTS + 1):
        async with transport.download(url, headers=headers) as answer:
            if answer.status in _REDIRECTS and "Location" in answer.headers:
                target = _redirected(url, answer.headers["Location"])
                headers = headers if urlsplit(target)[:2] == urlsplit(url)[:2] else None
                url = target
                continue
            _check_answer(answer, url)
            yield answer, url
            return
    raise PermanentError("attachment_invalid", f"The attachment's URL redirects more than {MAX_REDIRECTS} times")


def media_type(answer: Download) -> str | None:
    """The media type that an answer names, without its parameters."""
    match = _MEDIA_TYPE.match(answer.headers.get("Content-Type", ""))
    return None if match is None else match[1].lower()


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        is_downgrade = urlsplit(url).scheme == "https" != urlsplit(target).scheme
    except ValueError:
        raise PermanentError("attachment_invalid", "The attachment's URL redirects to what is no URL") from None
    if is_downgrade:  # whoever sits in between could say what the file is
        raise PermanentError("attachment_invalid", "The attachment's URL redirects from https:// to something else")
    return target


def _check_answer(answer: Download, url: str) -> None:
    status = answer.status
    text = f"{urlsplit(url).hostname} answered {status} for the attachment"
    if status >= 500 or status in _WORTH_ANOTHER_TRY:  # noqa: PLR2004
        raise TemporaryError("attachment_unavailable", text)
    if status != 200:  # noqa: PLR2004
        raise PermanentError("attachment_not_found", text)

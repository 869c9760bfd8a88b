"""Answers that do not come from a platform's API, or not whole: of a proxy, a firewall, a sign-in page of a network.

They tell nothing about the message, so nothing final may follow from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgcore.core.errors import TemporaryError
from msgcore.outbound.transport import Response
from msgcore.platforms.documents import read_document

_TOLD_BY_STATUS = frozenset((401, 408, 413, 414, 425, 429))
"""Of these the status says what is to be done, whatever the body."""
_READ_OTHERWISE = ("text/plain", "application/x-ndjson")


def read_answer(answer: Response, platform: str) -> Mapping[str, Any]:
    """The JSON object of an answer, and an empty one where that has none; `platform` is its name for people.

    Raises TemporaryError where the answer is nothing like the platform's. Refusals are like it, whatever their form
    if their status says enough.
    """
    data, status = _decode(answer), answer.status
    if 300 <= status < 400:  # noqa: PLR2004
        text = f"{platform} redirects ({status}), which is not followed: correct the address that is called"
        raise TemporaryError("platform_redirects", text)
    if status >= 500 or status in _TOLD_BY_STATUS:  # noqa: PLR2004
        return data or {}
    # After a 2xx nobody knows whether it is the platform that has taken the message.
    reached = "maybe" if status < 300 else "no"  # noqa: PLR2004
    if answer.body is None:
        text = f"{platform} answered {status}, but the answer broke off or was too long"
        raise TemporaryError("answer_lost", text, reached=reached)
    if data is None:
        text = (
            f"The answer {status} is none of {platform}'s: something in between has sent a page. "
            "Look for a proxy or firewall, and at the address that is called"
        )
        raise TemporaryError("answer_unreadable", text, reached=reached)
    return data


def _decode(answer: Response) -> Mapping[str, Any] | None:
    """None for what is not JSON. Short words in plain text are an answer as well, and so is a stream of JSON."""
    data = read_document(answer.body)
    if data is None and answer.headers.get("Content-Type", "").startswith(_READ_OTHERWISE):
        return {}
    return data

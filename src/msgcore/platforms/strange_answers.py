"""Answers that do not come from a platform's API, or not whole: of a proxy, a firewall, a sign-in page of a network.

They tell nothing about the message, so nothing final may follow from them.
"""

from __future__ import annotations

from msgcore.core.errors import TemporaryError
from msgcore.outbound.transport import Response

_TOLD_BY_STATUS = frozenset((401, 408, 413, 414, 425, 429))
"""Of these the status says what is to be done, whatever the body."""


def strange(answer: Response, platform: str, *, is_readable: bool) -> TemporaryError | None:
    """The error of an answer that is nothing like the platform's; None for others, refusals included.

    `is_readable` tells whether its body is JSON, or none. `platform` is its name for people.
    """
    status = answer.status
    if 300 <= status < 400:  # noqa: PLR2004
        text = (
            f"Calls to {platform} are redirected ({status}), which is not followed: correct the address that is called"
        )
        return TemporaryError("platform_redirects", text)
    if status >= 500 or status in _TOLD_BY_STATUS:  # noqa: PLR2004
        return None
    # After a 2xx nobody knows whether it is the platform that has taken the message.
    reached = "maybe" if status < 300 else "no"  # noqa: PLR2004
    if answer.body is None:
        text = f"{platform} answered {status}, but the answer broke off or was too long"
        return TemporaryError("answer_lost", text, reached=reached)
    if is_readable:
        return None
    text = (
        f"The answer {status} is none of {platform}'s: something in between has sent a page. "
        "Look for a proxy or firewall, and at the address that is called"
    )
    return TemporaryError("answer_unreadable", text, reached=reached)

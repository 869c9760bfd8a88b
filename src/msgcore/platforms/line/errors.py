"""What the errors of the Messaging API mean.

Source: https://developers.line.biz/en/reference/messaging-api/#error-messages and #status-codes, and what is said of
errors at each endpoint. LINE has no codes: errors are told by the status and by words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from msgcore.outbound.transport import Response
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

QUOTA = "you have reached your monthly limit"
QUOTA_SECONDS = 3600.0
"""How long a used-up quota is left alone: it may be one that deliveries under way have reserved, or last the month
(https://developers.line.biz/en/faq/#why-do-i-get-429-error-during-message-delivery).
"""
MOST_DETAILS = 5

_ACCEPTED = 409


def _rule(
    status: int, name: str, ending: Ending, message: str, said: str, *details: dict[str, str], text: str | None = None
) -> ErrorRule:
    """A rule with the answer that it is about; `text` is a part of LINE's words that tells it from others."""
    example: dict[str, Any] = {"message": said}
    if details:
        example["details"] = list(details)
    return ErrorRule(name, ending, message, status=status, text=text, example=example)


_LOGIN, _NEVER, _SLOWER = Ending.AUTHENTICATION, Ending.PERMANENT, Ending.THROTTLED
_KINDS = "Must be one of the following values: [text, image, video, audio, location, sticker, template, imagemap]"
_GONE = "LINE does not have the file any more: the sender took it back, or it was kept long enough"

ERRORS = ErrorTable(
    (
        _rule(
            401,
            "credentials_refused",
            _LOGIN,
            "LINE does not take the channel access token: issue a new one in the LINE Developers Console",
            "Authentication failed due to the following reason: invalid token. "
            "Confirm that the access token in the authorization header is valid.",
        ),
        _rule(
            403,
            "not_allowed",
            _LOGIN,
            "The account or its plan may not do this: see LINE Official Account Manager",
            "Access to this API is not available for your account",
        ),
        _rule(
            429,
            "quota_exhausted",
            _SLOWER,
            "The messages of this month are used up, or reserved by others under way: raise the plan's limit, or wait",
            "You have reached your monthly limit.",
            text=QUOTA,
        ),
        _rule(
            429,
            "rate_limited",
            _SLOWER,
            "The channel calls LINE too often, or writes too much to one person",
            "The API rate limit has been exceeded. Try again later.",
        ),
        _rule(
            400,
            "recipient_unknown",
            _NEVER,
            "This channel knows no such person, or is not in this group: ids are those of its own webhooks",
            "Failed to send messages",
            text="failed to send messages",
        ),
        _rule(
            400,
            "message_invalid",
            _NEVER,
            "LINE takes a part of the message for wrong: see its own words",
            "The request body has 2 error(s)",
            {"message": "May not be empty", "property": "messages[0].text"},
            {"message": _KINDS, "property": "messages[1].type"},
            text="the request body has",
        ),
        _rule(
            400,
            "message_invalid",
            _NEVER,
            "LINE takes a part of the message for wrong: see its own words",
            "The property, to[1], in the request body is invalid (line: -, column: -)",
            text="the property, ",
        ),
        _rule(
            400,
            "webhook_refused",
            _NEVER,
            "LINE posts to https addresses that it can reach, of up to 500 characters",
            "Invalid webhook endpoint URL",
            text="invalid webhook endpoint url",
        ),
        _rule(404, "attachment_not_found", _NEVER, _GONE, "not found", text="not found"),
        _rule(410, "attachment_not_found", _NEVER, _GONE, "The content is gone"),
    )
)


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None for a success.

    One of 409 is a success: LINE took the message under the same retry key before, and tells its id again
    (https://developers.line.biz/en/docs/messaging-api/retrying-api-request/).
    """
    if answer.status < 400 or answer.status == _ACCEPTED:  # noqa: PLR2004
        return None
    said = str(data.get("message") or "")
    wait = QUOTA_SECONDS if QUOTA in said.lower() else None
    return Problem(answer.status, text=": ".join(filter(None, (said, "; ".join(_details(data))))), retry_after=wait)


def _details(data: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with which part of a request."""
    details: Any = data.get("details")
    if not isinstance(details, list):
        return
    for detail in cast("list[Any]", details)[:MOST_DETAILS]:
        if isinstance(detail, Mapping):
            part = cast("Mapping[str, Any]", detail)
            yield " ".join(str(part[name]) for name in ("property", "message") if part.get(name))

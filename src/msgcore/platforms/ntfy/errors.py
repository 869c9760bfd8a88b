"""What ntfy's errors mean.

Source: https://docs.ntfy.sh/publish/#limitations, and server/errors.go of github.com/binwiederhier/ntfy (2.27), which
has each `code` with its HTTP status and its words. How long to wait is not said: it is when the limits of
server/config.go let the next one through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgcore.core.errors import Scope
from msgcore.outbound.transport import Response
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

_MINUTE, _HOUR = 60.0, 3600.0

_WAITS = {
    42901: 5.0,  # DefaultVisitorRequestLimitReplenish
    42902: _HOUR,  # DefaultVisitorEmailLimitReplenish
    42903: _MINUTE,  # until another connection ends
    42904: _HOUR,  # until topics that nobody uses are forgotten
    42905: _HOUR,  # a day's traffic, as is 42908 and 42910: reset at midnight UTC
    42908: _HOUR,
    42909: _MINUTE,  # DefaultVisitorAuthFailureLimitReplenish
    42910: _HOUR,
    42911: _MINUTE,  # DefaultVisitorTopicCreationLimitReplenish
}

_MAIL = "The message asks for an e-mail, which this server does not send"
_CALL = "The message asks for a phone call, which this server does not make"

_REFUSED: tuple[tuple[int, str, str, str], ...] = (
    (40001, "email_unavailable", _MAIL, "e-mail notifications are not enabled"),
    (40053, "email_unavailable", f"{_MAIL} without a login", "invalid request: anonymous email sending is not allowed"),
    (
        40052,
        "email_unavailable",
        "The address for the e-mail is not verified in the ntfy account",
        "invalid request: email address not verified",
    ),
    (40050, "email_unavailable", "The address for the e-mail is none", "invalid request: invalid e-mail address"),
    (40032, "call_unavailable", _CALL, "invalid request: calling is disabled"),
    (40035, "call_unavailable", f"{_CALL} without a login", "invalid request: anonymous phone calls are not allowed"),
    (40033, "call_unavailable", "The phone number to be called is none", "invalid request: phone number invalid"),
    (
        40034,
        "call_unavailable",
        "The phone number to be called is not verified in the ntfy account",
        "invalid request: phone number not verified, or no matching verified numbers found",
    ),
    (
        40003,
        "delay_refused",
        "A message with a delay cannot go out as an e-mail too",
        "delayed e-mail notifications are not supported",
    ),
    (
        40037,
        "delay_refused",
        "A message with a delay cannot be a phone call too",
        "invalid request: delayed call notifications are not supported",
    ),
    (40002, "delay_refused", "A message with a delay has to be cached", "cannot disable cache for delayed message"),
    (
        40004,
        "delay_refused",
        "ntfy cannot read platformOptions.ntfy.delay; give one such as 30m",
        "invalid delay parameter: unable to parse delay",
    ),
    (
        40005,
        "delay_refused",
        "platformOptions.ntfy.delay is shorter than the server takes (usually 10 seconds)",
        "invalid delay parameter: too small, please refer to the docs",
    ),
    (
        40006,
        "delay_refused",
        "platformOptions.ntfy.delay is longer than the server takes (usually 3 days)",
        "invalid delay parameter: too large, please refer to the docs",
    ),
    (40009, "topic_invalid", "The topic's name is not valid", "invalid request: topic invalid"),
    (
        40010,
        "topic_invalid",
        "The server keeps this topic's name for itself",
        "invalid request: topic name is not allowed",
    ),
    (
        40014,
        "attachment_refused",
        "The server takes no files: give a url, or have its operator set attachment-cache-dir and base-url",
        "invalid request: attachments not allowed",
    ),
    (
        40015,
        "attachment_refused",
        "The file would be gone before the message goes out: shorten platformOptions.ntfy.delay",
        "invalid request: attachment expiry before delayed delivery date",
    ),
    (40018, "buttons_refused", "The server refuses the buttons", "invalid request: actions invalid; only 3 allowed"),
)

_LIMITS: tuple[tuple[int, str, Scope, str], ...] = (
    (42901, "ntfy asks to send slower", Scope.ACCOUNT, "too many requests"),
    (42908, "The day's messages are used up", Scope.ACCOUNT, "daily message quota reached"),
    (42909, "Too many log-ins failed", Scope.ACCOUNT, "too many auth failures"),
    (42902, "The day's e-mails are used up", Scope.DELIVERY, "too many emails"),
    (42910, "The day's phone calls are used up", Scope.DELIVERY, "daily phone call quota reached"),
    (42905, "The day's traffic for files is used up", Scope.DELIVERY, "daily bandwidth reached"),
    (
        42904,
        "The server has as many topics as it takes",
        Scope.LANE,
        "the total number of topics on the server has been reached, please contact the admin",
    ),
    (42911, "Too many new topics at once", Scope.LANE, "too many new topics, please wait"),
    (42903, "Too many connections listen to the server", Scope.ACCOUNT, "too many active subscriptions"),
)


def _said(code: int, words: str) -> dict[str, Any]:
    return {"code": code, "http": code // 100, "error": words}


def _rules() -> Iterator[ErrorRule]:
    yield ErrorRule(
        "credentials_refused",
        Ending.AUTHENTICATION,
        "ntfy does not know the token, or the user and password",
        status=401,
        platform_code=40101,
        example=_said(40101, "unauthorized"),
    )
    yield ErrorRule(
        "topic_forbidden",
        Ending.PERMANENT,
        "The account may not use this topic: have the server's operator grant it access, or give a login",
        status=403,
        platform_code=40301,
        example=_said(40301, "forbidden"),
    )
    yield ErrorRule(
        "not_found",
        Ending.PERMANENT,
        "The server does not know this: credentials.serverUrl has to be a ntfy server's, "
        "of version 2.16 or newer to change messages",
        status=404,
        example=_said(40401, "page not found"),
    )
    yield ErrorRule(
        "attachment_too_large",
        Ending.PERMANENT,
        "The file is larger than the server takes, or all files of the account together are",
        status=413,
        platform_code=41301,
        example=_said(41301, "attachment too large, or bandwidth limit reached"),
    )
    yield ErrorRule(
        "message_too_large",
        Ending.PERMANENT,
        "The message is larger than the server takes",
        status=413,
        platform_code=41303,
        example=_said(41303, "JSON body too large"),
    )
    for code, name, message, words in _REFUSED:
        yield ErrorRule(name, Ending.PERMANENT, message, status=400, platform_code=code, example=_said(code, words))
    for code, message, scope, words in _LIMITS:
        example = _said(code, f"limit reached: {words}")
        yield ErrorRule(
            "rate_limited", Ending.THROTTLED, message, status=429, platform_code=code, scope=scope, example=example
        )


ERRORS = ErrorTable(tuple(_rules()))


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None for a success."""
    if 200 <= answer.status < 300:  # noqa: PLR2004
        return None
    code: Any = data.get("code")
    known = code if isinstance(code, int) else None
    return Problem(
        answer.status,
        platform_code=known,
        text=str(data.get("error") or ""),
        retry_after=None if known is None else _WAITS.get(known),
    )

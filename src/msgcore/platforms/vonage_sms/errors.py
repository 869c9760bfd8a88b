"""What the errors of Vonage's SMS API mean.

It answers 200 in any case, with a status for each part of the message. Sources:
https://developer.vonage.com/en/messaging/sms/guides/troubleshooting-sms (statuses of answers) and
https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts (error codes of receipts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgcore.outbound.transport import Response
from msgcore.platforms.documents import find_objects
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

TAKEN = "0"
INTERNAL_ERROR = "5"

_SOURCE = "https://developer.vonage.com/en/messaging/sms/guides/troubleshooting-sms"
# What Vonage says with status 1, in milliseconds: https://github.com/nyaruka/courier/blob/main/handlers/nexmo/handler.go
_WAIT = re.compile(r"please wait \[ ?([0-9]{1,7}) ?\]")


def _rule(status: str, code: str, ending: Ending, message: str, said: str) -> ErrorRule:
    body = {"message-count": "1", "messages": [{"status": status, "error-text": said}]}
    http = None if status == INTERNAL_ERROR else 200
    return ErrorRule(code, ending, message, status=http, platform_code=status, example=body, source=_SOURCE)


_SUPPORT = "ask Vonage's support, then resume the platform"

ERRORS = ErrorTable(
    (
        _rule("1", "rate_limited", Ending.THROTTLED, "Vonage asks to send slower", "Throttled"),
        _rule("2", "request_invalid", Ending.PERMANENT, "Vonage misses a part of the message", "Missing Parameters"),
        _rule("3", "request_invalid", Ending.PERMANENT, "A part of the message is not valid", "Invalid Parameters"),
        _rule(
            "4",
            "credentials_refused",
            Ending.AUTHENTICATION,
            "Vonage does not know these credentials: copy the API key and secret from its dashboard",
            "Invalid Credentials",
        ),
        _rule(
            INTERNAL_ERROR,
            "platform_unavailable",
            Ending.TEMPORARY,
            "Vonage has a problem of its own",
            "Internal Error",
        ),
        _rule(
            "6",
            "recipient_invalid",
            Ending.PERMANENT,
            "Vonage cannot send to this number, for example since its prefix is unknown",
            "Invalid Message",
        ),
        _rule(
            "7", "recipient_barred", Ending.PERMANENT, "This number is on Vonage's list of barred ones", "Number Barred"
        ),
        _rule(
            "8",
            "account_suspended",
            Ending.AUTHENTICATION,
            f"The Vonage account is suspended: {_SUPPORT}",
            "Partner Account Barred",
        ),
        _rule(
            "9",
            "no_credit",
            Ending.AUTHENTICATION,
            "The Vonage account has too little credit: top it up, then resume the platform",
            "Partner Quota Violation",
        ),
        _rule("10", "rate_limited", Ending.THROTTLED, "Vonage asks for fewer connections", "Too Many Existing Binds"),
        _rule(
            "11",
            "account_not_enabled",
            Ending.AUTHENTICATION,
            f"The Vonage account may not use the SMS API: {_SUPPORT}",
            "Account Not Enabled For HTTP",
        ),
        _rule("12", "text_too_long", Ending.PERMANENT, "The text is longer than Vonage takes", "Message Too Long"),
        _rule(
            "14",
            "signature_needed",
            Ending.AUTHENTICATION,
            "The Vonage account asks for signed messages: have its support make that optional",
            "Invalid Signature",
        ),
        _rule(
            "15",
            "sender_refused",
            Ending.PERMANENT,
            "credentials.from may not write to this number: North America asks for a number rented from Vonage",
            "Invalid Sender Address",
        ),
        _rule(
            "23",
            "callback_refused",
            Ending.PERMANENT,
            "Vonage cannot use this server's address for receipts: correct MSGCORE_API_URL",
            "Invalid Callback Url",
        ),
        _rule(
            "29",
            "recipient_not_verified",
            Ending.PERMANENT,
            "A demo account only writes to numbers of its list: add it in Vonage's dashboard, or top up the account",
            "Non-Whitelisted Destination",
        ),
        _rule(
            "33", "recipient_unreachable", Ending.PERMANENT, "This number is not in use any more", "Number De-activated"
        ),
    )
)

FAILURES: Mapping[str, str] = {
    "1": "no reason could be found",
    "2": "the handset was not available for the moment",
    "3": "the number is not in use any more",
    "4": "the user bars messages, and has to ask their carrier to lift that",
    "5": "the number was ported, and that went wrong",
    "6": "a carrier took the message for spam",
    "7": "the handset was busy",
    "8": "the network failed",
    "9": "the user wants no messages of this service",
    "10": "a part of the message is wrong, for example its encoding",
    "11": "Vonage finds no route for the message",
    "12": "there is no route to the number",
    "13": "the user is too young for the message",
    "14": "the carrier blocks messages to the number",
    "15": "the user's prepaid credit does not suffice",
    "50": "the country asks for an entity id, which is missing or wrong",
    "51": "the country asks for a registered sender, which is missing or wrong",
    "52": "the country asks for a content id, which is missing or wrong",
    "53": "the country asks for a consent, which is missing",
    "54": "the country's regulation forbids it",
    "99": "the route failed",
}
"""Why a message failed after Vonage took it: `err-code` of receipts."""


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None where all parts of the message were taken."""
    parts = find_objects(data, "messages")
    failed = [part for part in parts if str(part.get("status")) != TAKEN]
    if not parts:
        return Problem(answer.status if answer.status >= 400 else 502)  # noqa: PLR2004 - something in between answered
    if not failed:
        return None
    status, words = str(failed[0].get("status")), str(failed[0].get("error-text") or "")
    if len(failed) < len(parts):
        return Problem(500, text=f"{len(parts) - len(failed)} of {len(parts)} parts were taken; {words}")
    wait = _WAIT.search(words)
    # With an internal error nobody knows whether the message was taken.
    http = 500 if status == INTERNAL_ERROR else answer.status
    return Problem(http, status, words, retry_after=int(wait[1]) / 1000 if wait else None)


def failure(status: str, code: str | None) -> str:
    """Why a message failed, for people, by a receipt's status and error code."""
    if code in (None, "", "0"):
        return status
    return f"{code}: {FAILURES.get(code or '', status)}"

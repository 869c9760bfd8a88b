"""What Twilio's errors mean, by its codes (https://www.twilio.com/docs/api/errors).

Refusals have a code, a message and a link in their body; what becomes of a message later comes with the same codes
in status callbacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgcore.outbound.transport import Response
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

PAGE = "https://www.twilio.com/docs/api/errors"

_CONSOLE = "in Twilio's console"
_RESUME = "then resume the platform"


def _rule(number: int, code: str, ending: Ending, message: str, said: str, status: int | None = None) -> ErrorRule:
    body = {"code": number, "message": said, "more_info": f"https://www.twilio.com/docs/errors/{number}"}
    body |= {} if status is None else {"status": status}
    return ErrorRule(
        code, ending, message, status=status, platform_code=number, example=body, source=f"{PAGE}/{number}"
    )


def _refused(number: int, code: str, message: str, said: str) -> ErrorRule:
    return _rule(number, code, Ending.PERMANENT, message, said)


def _held(number: int, code: str, message: str, said: str, status: int | None = None) -> ErrorRule:
    """What holds for all messages of the account until somebody changes something: they wait."""
    return _rule(number, code, Ending.AUTHENTICATION, message, said, status)


_SUSPENDED = f"The Twilio account is not active: look {_CONSOLE} for its balance and notices, {_RESUME}"
_CREDENTIALS = "Twilio does not know these credentials: copy accountSid and authToken from its console"

ERRORS = ErrorTable(
    (
        _held(20003, "credentials_refused", _CREDENTIALS, "Authenticate", 401),
        _held(20404, "credentials_refused", _CREDENTIALS, "The requested resource was not found", 404),
        _held(20005, "account_suspended", _SUSPENDED, "Account not active"),
        _held(20403, "account_suspended", _SUSPENDED, "Forbidden", 403),
        _held(10001, "account_suspended", _SUSPENDED, "Account is not active"),
        _held(90010, "account_suspended", _SUSPENDED, "Account is not active"),
        _rule(
            20429, "rate_limited", Ending.THROTTLED, "Twilio asks for fewer requests at once", "Too Many Requests", 429
        ),
        _rule(
            21611,
            "queue_full",
            Ending.THROTTLED,
            "Twilio holds as many messages of this sender as it goes through in ten hours: add senders to go faster",
            "This 'From' number has exceeded the maximum number of queued messages",
        ),
        _rule(
            63038,
            "daily_limit",
            Ending.THROTTLED,
            "The account has sent as many messages as it may in a day: ask Twilio's support for more",
            "Account exceeded the daily messages limit",
        ),
        _refused(21211, "recipient_invalid", "This is no phone number", "Invalid 'To' Phone Number"),
        _refused(
            21614,
            "recipient_unreachable",
            "This number takes no short messages",
            "'To' number is not a valid mobile number",
        ),
        _refused(
            21635,
            "recipient_unreachable",
            "This number is a landline, which takes no short messages",
            "'To' number cannot be a landline",
        ),
        _refused(
            21610,
            "recipient_opted_out",
            "The recipient has answered STOP: nothing can be sent until they answer START",
            "Attempt to send to unsubscribed recipient",
        ),
        _refused(
            21408,
            "region_not_enabled",
            f"Messages to this country are switched off: allow it {_CONSOLE}, Messaging, Geo permissions",
            "Permission to send an SMS has not been enabled for the region indicated by the 'To' number",
        ),
        _refused(
            21608,
            "recipient_not_verified",
            f"A trial account only writes to numbers that were verified: verify it {_CONSOLE}, or upgrade the account",
            "The 'to' phone number provided is not yet verified for this account.",
        ),
        _refused(
            21612,
            "route_unavailable",
            "From this sender the number cannot be reached: use a sender that its country knows",
            "Message cannot be sent with the current combination of 'To' and/or 'From' parameters",
        ),
        _refused(
            21606,
            "sender_refused",
            "The sender may not write to this number: use one of the account that its country knows",
            "The 'From' phone number provided is not a valid message-capable Twilio phone number for this destination",
        ),
        _refused(
            21659,
            "sender_refused",
            "The sender is none of Twilio's numbers, or a short code of another country",
            "'From' is not a Twilio phone number or Short Code country mismatch",
        ),
        _held(
            21212,
            "sender_invalid",
            "credentials.from is no sender that Twilio knows: correct it",
            "Invalid From Number (caller ID)",
        ),
        _held(
            21661,
            "sender_invalid",
            "credentials.from cannot send short messages: use another number of the account",
            "'From' number is not SMS-capable",
        ),
        _held(
            21703,
            "sender_missing",
            f"The messaging service has no sender: add one {_CONSOLE}, {_RESUME}",
            "The Messaging Service does not have a phone number available to send a message",
        ),
        _held(
            21704,
            "sender_missing",
            f"The messaging service has no sender: add one {_CONSOLE}, {_RESUME}",
            "The Messaging Service contains no phone numbers",
        ),
        _held(
            21705,
            "sender_invalid",
            "credentials.messagingServiceSid is no messaging service of this account: correct it",
            "The Messaging Service is invalid",
        ),
        _refused(21602, "text_missing", "The message has neither text nor files", "Message body is required"),
        _refused(
            21617,
            "text_too_long",
            "The text is longer than Twilio takes",
            "The concatenated message body exceeds the 1600 character limit",
        ),
        _refused(
            21620,
            "attachment_invalid",
            "Twilio cannot use the address of an attachment: give a public http(s) URL",
            "Invalid media URL(s)",
        ),
        _refused(
            21623,
            "attachments_too_many",
            "A message takes ten attachments",
            "Number of media files exceeds allowed limit",
        ),
        _refused(
            21609,
            "callback_refused",
            "Twilio cannot use this server's address for reports: correct MSGCORE_API_URL",
            "The 'StatusCallback' URL is not a valid URL.",
        ),
    )
)

FAILURES: Mapping[str, str] = {
    "21610": "the recipient has answered STOP",
    "30001": "more was queued than goes out in time: send slower, or add senders",
    "30002": "the account was suspended before the message went out",
    "30003": "the handset cannot be reached: it is off, out of reach, or takes no short messages",
    "30004": "the message is blocked for this recipient",
    "30005": "the number is unknown, or is not in use any more",
    "30006": "the number is a landline, or its carrier cannot be reached",
    "30007": "the message was filtered out as unwanted, by Twilio or by the carrier",
    "30008": "the carrier gave no reason",
    "30010": "the message costs more than its maximum price",
    "30011": "the number takes no files (MMS) in this region",
    "30017": "the carrier's network is congested",
    "30018": "the country asks for senders to be registered before",
    "30022": "the carrier's rate limit for this campaign (A2P 10DLC) is exceeded",
    "30023": "the carrier's daily limit for this campaign (A2P 10DLC) is reached",
    "30024": "the carrier does not know this sender",
    "30032": "the toll-free number was not verified",
    "30044": "a trial account may not send messages that are so long",
    "63038": "the account has sent as many messages as it may in a day",
}
"""Why a message failed after Twilio took it: its codes in status callbacks."""


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None for one that succeeded and is Twilio's."""
    if 200 <= answer.status < 300:  # noqa: PLR2004
        return None if data else Problem(502)  # something in between answered
    number = data.get("code")
    words = " ".join(str(data[name]) for name in ("message", "more_info") if data.get(name))
    return Problem(answer.status, number if isinstance(number, int) else None, words)


def failure(code: str | None, words: str | None) -> str | None:
    """Why a message failed, for people; Twilio's own words where the code is not one of the usual."""
    if not code:
        return words
    return f"{code}: {FAILURES.get(code) or words or 'the message failed'} ({PAGE}/{code})"

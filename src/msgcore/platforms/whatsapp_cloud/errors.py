"""What the Cloud API's errors mean.

Source: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes, which asks to
go by `code` (and the details), not by titles or the HTTP status. The same codes come in webhooks, for messages that
were taken and failed later. Limits of the Graph API: https://developers.facebook.com/docs/graph-api/overview/rate-limiting
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from msgcore.core.errors import Scope
from msgcore.outbound.http import as_seconds
from msgcore.outbound.transport import Response
from msgcore.platforms.error_table import SHOWN, Ending, ErrorRule, ErrorTable, Problem

PAIR_SECONDS = 6.0
"""Between messages to one person ("Pair rate limits": 1 in 6 s)."""
USAGE_HEADER = "X-Business-Use-Case-Usage"
_PAIR = 131056
_PERMISSIONS = range(200, 300)
_NOTHING_THERE = (100, 33)


def _rule(
    code: int | str, name: str, ending: Ending, message: str, said: str, *, scope: Scope = Scope.ACCOUNT
) -> ErrorRule:
    """A rule with the answer that it is about."""
    number, _, subcode = str(code).partition("/")
    error = {"message": f"(#{number}) {said}", "type": "OAuthException", "code": int(number), "fbtrace_id": "A1b2C3"}
    if subcode:
        error["error_subcode"] = int(subcode)
    return ErrorRule(name, ending, message, platform_code=code, scope=scope, example={"error": error})


_LOGIN, _NEVER, _LATER, _SLOWER = Ending.AUTHENTICATION, Ending.PERMANENT, Ending.TEMPORARY, Ending.THROTTLED
_RENEW = "Meta refuses the access token: make a new one for a system user, with whatsapp_business_messaging"
_NOT_ALLOWED = "The access token may not do this: give its app whatsapp_business_messaging on this account"
_MISTAKEN = "Meta takes a value of the message for wrong: see its own words"
_UNAVAILABLE = "Meta has a problem of its own"
_GO_SLOWER = "The account makes too many calls"

ERRORS = ErrorTable(
    (
        # --- authorization
        _rule(0, "credentials_refused", _LOGIN, _RENEW, "AuthException"),
        _rule(190, "credentials_refused", _LOGIN, _RENEW, "Access token has expired"),
        _rule(3, "permission_missing", _LOGIN, _NOT_ALLOWED, "Capability or permissions issue"),
        _rule(10, "permission_missing", _LOGIN, _NOT_ALLOWED, "Permission denied"),
        _rule(200, "permission_missing", _LOGIN, _NOT_ALLOWED, "API Permission"),
        _rule(131005, "permission_missing", _LOGIN, _NOT_ALLOWED, "Access denied"),
        _rule(
            "100/33",
            "phone_number_unknown",
            _LOGIN,
            "There is no phone number with this phoneNumberId, or the access token cannot see it",
            "Unsupported post request. Object does not exist or cannot be loaded due to missing permissions",
        ),
        _rule(
            33, "phone_number_unknown", _LOGIN, "The business phone number was deleted", "Parameter value is not valid"
        ),
        _rule(
            133010,
            "phone_number_unknown",
            _LOGIN,
            "The business phone number is not registered",
            "Phone number not registered",
        ),
        # --- integrity
        _rule(
            368,
            "account_restricted",
            _LOGIN,
            "Meta has restricted the account for violating a policy: see WhatsApp Manager",
            "Temporarily blocked for policies violations",
        ),
        _rule(
            131031,
            "account_restricted",
            _LOGIN,
            "Meta has locked the account: see WhatsApp Manager",
            "Account has been locked",
        ),
        _rule(
            131042,
            "payment_due",
            _LOGIN,
            "Something is wrong with the account's payment method",
            "Business eligibility payment issue",
        ),
        # --- how much
        _rule(4, "rate_limited", _SLOWER, _GO_SLOWER, "API Too Many Calls"),
        _rule(17, "rate_limited", _SLOWER, _GO_SLOWER, "User request limit reached"),
        _rule(80007, "rate_limited", _SLOWER, _GO_SLOWER, "Rate limit issues"),
        _rule(
            130429,
            "rate_limited",
            _SLOWER,
            "The phone number sends more a second than its throughput",
            "Rate limit hit",
        ),
        _rule(
            _PAIR,
            "rate_limited",
            _SLOWER,
            "Too many messages to this person in a short time",
            "(Business Account, Consumer Account) pair rate limit hit",
            scope=Scope.LANE,
        ),
        _rule(
            131048,
            "spam_limited",
            _LATER,
            "Meta lets this number send less, as too many of its messages were blocked or reported: see its quality",
            "Spam rate limit hit",
        ),
        # --- the recipient
        _rule(
            131047,
            "window_closed",
            _NEVER,
            "The person has not written within the last 24 hours: only a template can be sent "
            "(content.platformOptions.whatsapp-cloud.template)",
            "Re-engagement message",
        ),
        _rule(
            131026,
            "recipient_unreachable",
            _NEVER,
            "WhatsApp cannot deliver to this number: it is not on WhatsApp, or has not accepted the newest terms",
            "Message undeliverable",
        ),
        _rule(131021, "recipient_is_sender", _NEVER, "A number cannot write to itself", "Recipient cannot be sender"),
        _rule(
            131030,
            "recipient_not_allowed",
            _NEVER,
            "A test number only writes to the numbers on its list: add this one in the App Dashboard",
            "Recipient phone number not in allowed list",
        ),
        _rule(
            131049,
            "withheld",
            _NEVER,
            "Meta held this marketing message back, as the person gets many: wait a day before another one",
            "This message was not delivered to maintain healthy ecosystem engagement",
        ),
        _rule(
            131050,
            "opted_out",
            _NEVER,
            "The person has stopped marketing messages",
            "User has stopped marketing messages",
        ),
        _rule(
            130472,
            "withheld",
            _NEVER,
            "Meta held this message back for an experiment",
            "User's number is part of an experiment",
        ),
        # --- the message
        _rule(100, "platform_refused", _NEVER, _MISTAKEN, "Invalid parameter"),
        _rule(131008, "platform_refused", _NEVER, _MISTAKEN, "Required parameter is missing"),
        _rule(131009, "platform_refused", _NEVER, _MISTAKEN, "Parameter value is not valid"),
        _rule(135000, "platform_refused", _NEVER, _MISTAKEN, "Generic user error"),
        _rule(
            131051,
            "type_unsupported",
            _NEVER,
            "WhatsApp does not know this kind of message",
            "Unsupported message type",
        ),
        _rule(131052, "attachment_unreadable", _NEVER, "Meta could not fetch the file", "Media download error"),
        _rule(
            131053,
            "attachment_unreadable",
            _NEVER,
            "Meta does not take the file: its kind or size is not supported",
            "Media upload error",
        ),
        # --- templates
        _rule(
            132000,
            "template_mismatch",
            _NEVER,
            "The template has another number of parameters",
            "Template Param Count Mismatch",
        ),
        _rule(
            132001,
            "template_unknown",
            _NEVER,
            "There is no such template in this language, or it is not approved yet",
            "Template does not exist",
        ),
        _rule(
            132005,
            "template_mismatch",
            _NEVER,
            "The template becomes too long with these values",
            "Template Hydrated Text Too Long",
        ),
        _rule(
            132007,
            "template_refused",
            _NEVER,
            "The template violates a policy",
            "Template Format Character Policy Violated",
        ),
        _rule(
            132012,
            "template_mismatch",
            _NEVER,
            "A parameter has another form than the template's",
            "Template Parameter Format Mismatch",
        ),
        _rule(
            132015, "template_refused", _NEVER, "The template is paused for low quality: edit it", "Template is Paused"
        ),
        _rule(132016, "template_refused", _NEVER, "The template is disabled for low quality", "Template is Disabled"),
        _rule(132068, "template_refused", _NEVER, "The template's flow is blocked", "Flow is in blocked state"),
        _rule(132069, "template_refused", _NEVER, "The template's flow is throttled", "Flow is in throttled state"),
        # --- Meta itself
        _rule(1, "platform_unavailable", _LATER, _UNAVAILABLE, "API Unknown"),
        _rule(2, "platform_unavailable", _LATER, _UNAVAILABLE, "API Service"),
        _rule(131000, "platform_unavailable", _LATER, _UNAVAILABLE, "Something went wrong"),
        _rule(131016, "platform_unavailable", _LATER, _UNAVAILABLE, "Service unavailable"),
        _rule(
            131057, "platform_unavailable", _LATER, "Meta maintains the account just now", "Account in maintenance mode"
        ),
    )
)


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None for a success."""
    given = data.get("error")
    if not isinstance(given, dict):
        return None if 200 <= answer.status < 300 else Problem(answer.status)  # noqa: PLR2004
    error = cast("dict[str, Any]", given)
    code = _code(error)
    wait = PAIR_SECONDS if code == _PAIR else _until_calls_are_taken(answer.headers.get(USAGE_HEADER))
    return Problem(max(answer.status, 400), code, _words(error), retry_after=wait)


def describe(error: Mapping[str, Any]) -> str:
    """What an error in a webhook means, for people."""
    code, said = _code(error), _words(error)
    known = next((rule.message for rule in ERRORS.rules if rule.platform_code == code), None)
    return f"{said} ({code})" if known is None else f"{known} (WhatsApp: {said}, {code})"


def _code(error: Mapping[str, Any]) -> int | str | None:
    code = error.get("code")
    if (code, error.get("error_subcode")) == _NOTHING_THERE:
        return "100/33"
    if not isinstance(code, int):
        return None
    return _PERMISSIONS.start if code in _PERMISSIONS else code


def _words(error: Mapping[str, Any]) -> str:
    """A message, and the details where there are some that it does not have."""
    said = str(error.get("message") or error.get("title") or "")
    more: Any = error.get("error_data")
    details = str(cast("dict[str, Any]", more).get("details") or "") if isinstance(more, dict) else ""
    return (f"{said}: {details}" if said and details and details not in said else said or details)[:SHOWN]


def _until_calls_are_taken(usage: str | None) -> float | None:
    """Seconds by `estimated_time_to_regain_access`, which is in minutes; None where nothing has to wait."""
    try:
        by_account = msgspec.json.decode(usage or "{}", type=dict[str, list[dict[str, Any]]])
    except (ValueError, RecursionError):
        return None
    minutes = [each.get("estimated_time_to_regain_access") for entries in by_account.values() for each in entries]
    longest = max((each for each in minutes if isinstance(each, int)), default=0)
    return as_seconds(60 * longest) if longest > 0 else None

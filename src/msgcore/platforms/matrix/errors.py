"""What the errors of a homeserver mean.

Sources: https://spec.matrix.org/v1.18/client-server-api/#standard-error-response (`errcode`, `error`, and the list of
codes), #rate-limiting (`retry_after_ms`, `Retry-After`), and what each endpoint says of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgcore.core.errors import Scope
from msgcore.outbound.transport import Response
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

LONGEST_WAIT = 86_400_000
"""Milliseconds: a homeserver may write any number."""
_NO_HOMESERVER = "What is at homeserverUrl does not know this part of Matrix: it is no homeserver, or one before v1.11"
_GET_A_TOKEN = "log in again and give the account the new accessToken"  # noqa: S105 - no token


def _rule(
    code: str, ending: Ending, message: str, status: int | None, errcode: str | None, said: str, **more: Any
) -> ErrorRule:
    example = {"error": said, **more} | ({} if errcode is None else {"errcode": errcode})
    return ErrorRule(code, ending, message, status=status, platform_code=errcode, example=example)


ERRORS = ErrorTable(
    (
        _rule(
            "credentials_refused",
            Ending.AUTHENTICATION,
            f"The homeserver does not know the access token any more: {_GET_A_TOKEN}",
            401,
            "M_UNKNOWN_TOKEN",
            "Invalid access token passed.",
            soft_logout=False,
        ),
        _rule(
            "credentials_refused",
            Ending.AUTHENTICATION,
            f"The homeserver got no access token: {_GET_A_TOKEN}",
            401,
            "M_MISSING_TOKEN",
            "Missing access token.",
        ),
        _rule(
            "account_locked",
            Ending.AUTHENTICATION,
            "The user is locked: the homeserver's administrators can unlock it",
            401,
            "M_USER_LOCKED",
            "This account has been locked",
            soft_logout=True,
        ),
        _rule(
            "account_deactivated",
            Ending.AUTHENTICATION,
            "The user was deactivated for good: give the account the token of another one",
            403,
            "M_USER_DEACTIVATED",
            "This account has been deactivated",
        ),
        _rule(
            "account_suspended",
            Ending.AUTHENTICATION,
            "The user is suspended and may not write: the homeserver's administrators can change that",
            403,
            "M_USER_SUSPENDED",
            "You cannot perform this action while suspended.",
        ),
        # https://element-hq.github.io/synapse/latest/consent_tracking.html
        _rule(
            "consent_needed",
            Ending.AUTHENTICATION,
            "The user has to agree to the homeserver's terms first",
            403,
            "M_CONSENT_NOT_GIVEN",
            "To continue using this homeserver you must review and agree to the terms",
            consent_uri="https://matrix.example.com/_matrix/consent?u=bot",
        ),
        _rule(
            "homeserver_wrong",
            Ending.AUTHENTICATION,
            _NO_HOMESERVER,
            None,
            "M_UNRECOGNIZED",
            "Unrecognized request",
        ),
        _rule(
            "guests_refused",
            Ending.PERMANENT,
            "The room is closed to guests: use a registered user",
            403,
            "M_GUEST_ACCESS_FORBIDDEN",
            "Guest access not allowed",
        ),
        _rule(
            "invite_blocked",
            Ending.PERMANENT,
            "The recipient takes no invitations from this user",
            403,
            "M_INVITE_BLOCKED",
            "This user is not permitted to send invites to this server/user",
        ),
        _rule(
            "homeserver_full",
            Ending.TEMPORARY,
            "The homeserver is at one of its limits: its administrators can raise it",
            403,
            "M_RESOURCE_LIMIT_EXCEEDED",
            "Monthly Active User Limit Exceeded",
            admin_contact="mailto:admin@example.com",
        ),
        _rule(
            "user_limit_reached",
            Ending.PERMANENT,
            "The user is at one of the homeserver's limits, such as that of its files",
            None,
            "M_USER_LIMIT_EXCEEDED",
            "You have exceeded your storage quota of 10GB",
            info_uri="https://example.com/homeserver/about?limit_type=quota",
        ),
        _rule(
            "not_a_member",
            Ending.PERMANENT,
            "The user is not in this room, or may not do this there: invite it, or raise its power level",
            403,
            "M_FORBIDDEN",
            "User @bot:example.org not in room !jEsUZKDJdhlrceRyVU:example.org",
        ),
        _rule(
            "recipient_unknown",
            Ending.PERMANENT,
            "There is no such room, alias, user or message for this user",
            None,
            "M_NOT_FOUND",
            "Room alias #monkeys:matrix.org not found.",
        ),
        # Homeservers say what they do not find: this is another server.
        ErrorRule("homeserver_wrong", Ending.AUTHENTICATION, _NO_HOMESERVER, status=404, example={}),
        _rule(
            "reaction_duplicate",
            Ending.PERMANENT,
            "The message has this reaction of the user already",
            400,
            "M_DUPLICATE_ANNOTATION",
            "Can't send same reaction twice",
        ),
        _rule(
            "message_too_large",
            Ending.PERMANENT,
            "The message or a file is larger than the homeserver takes",
            413,
            None,
            "Cannot upload files larger than 50M",
        ),
        *(
            _rule(
                "message_refused",
                Ending.PERMANENT,
                "The homeserver finds the message malformed",
                400,
                errcode,
                said,
            )
            for errcode, said in (
                ("M_BAD_JSON", "'msgtype' not in content"),
                ("M_NOT_JSON", "Content not JSON."),
                ("M_INVALID_PARAM", "thread_id field must be a non-empty string"),
                ("M_MISSING_PARAM", "Missing params: ['body']"),
            )
        ),
        _rule(
            "rate_limited",
            Ending.THROTTLED,
            "The homeserver asks to go slower",
            429,
            "M_LIMIT_EXCEEDED",
            "Too Many Requests",
            retry_after_ms=2000,
        ),
    )
)


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None for a success."""
    if 200 <= answer.status < 300:  # noqa: PLR2004
        return None
    code, said, wait = data.get("errcode"), data.get("error"), data.get("retry_after_ms")
    # Retry-After is rounded up to whole seconds; this is exact where it is still given.
    seconds: float | None = None
    if isinstance(wait, int | float) and not isinstance(wait, bool):
        seconds = max(0.0, min(wait, LONGEST_WAIT) / 1000)
    return Problem(
        answer.status,
        platform_code=code if isinstance(code, str) else None,
        text=said if isinstance(said, str) else "",
        retry_after=seconds,
        scope=Scope.ACCOUNT,
    )

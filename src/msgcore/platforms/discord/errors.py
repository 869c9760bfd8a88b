"""What Discord's errors mean.

Source: https://docs.discord.com/developers/topics/opcodes-and-status-codes#json (codes),
https://docs.discord.com/developers/topics/rate-limits (429) and
https://docs.discord.com/developers/reference#error-messages (what is wrong with a form).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from msgcore.core.errors import Scope
from msgcore.core.limits import Pace
from msgcore.outbound.http import as_seconds
from msgcore.outbound.transport import Response
from msgcore.platforms.documents import find_objects
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

CLOUDFLARE = "blocked by cloudflare"
"""What is said where the answer is not Discord's own."""
MOST_DETAILS, DEEPEST_DETAIL = 5, 20
LONGEST_RESET = 3600.0
"""Seconds until a bucket is full again; Discord's are so after seconds."""
OPENING = 40003
"""A limit of the bot as a whole, told with 403 and without a time to wait."""

_MISSING = Ending.PERMANENT, "recipient_unknown", "There is no such channel, thread or person, or the bot sees it not"
_LACKING = Ending.PERMANENT, "missing_permission", "The bot lacks a permission in this channel: an admin can give it"
_CLOSED = (
    Ending.PERMANENT,
    "recipient_refused",
    "The recipient takes no messages from the bot, or shares no server with it",
)
_UNFIT = Ending.PERMANENT, "recipient_unfit", "Nothing of this kind can be written in this channel or thread"
_MODERATED = Ending.PERMANENT, "message_blocked", "The server's rules refuse what the message says"
_LARGE = (
    Ending.PERMANENT,
    "attachment_too_large",
    "The files are larger than Discord takes there (10 MiB each, 25 MiB in all)",
)
_FILE = Ending.PERMANENT, "attachment_refused", "Discord does not take the file"
_GONE = Ending.PERMANENT, "message_unknown", "There is no such message in this channel any more"
_FIXED = Ending.PERMANENT, "message_fixed", "This message cannot be changed"
_REACTION = (
    Ending.PERMANENT,
    "reaction_refused",
    "The reaction is not taken: its emoji is unknown, or no more fit the message",
)
_WRONG = Ending.PERMANENT, "message_invalid", "Discord does not take the message as it is"
_TOKEN = (
    Ending.AUTHENTICATION,
    "credentials_refused",
    "Discord does not take the bot's token: get a new one in its portal",
)
_DOWN = Ending.TEMPORARY, "platform_unavailable", "Discord has a problem of its own"
_SLOWER = Ending.THROTTLED, "rate_limited", "Discord asks to go slower"

_Kind = tuple[Ending, str, str]
_CODES: tuple[tuple[_Kind, int, str], ...] = (
    (_MISSING, 10003, "Unknown Channel"),
    (_MISSING, 10004, "Unknown Guild"),
    (_MISSING, 10013, "Unknown User"),
    (_MISSING, 50033, "Invalid Recipient(s)"),
    (_LACKING, 50001, "Missing Access"),
    (_LACKING, 50013, "Missing Permissions"),
    (_LACKING, 50009, "Channel verification level is too high for you to gain access"),
    (_LACKING, 160002, "Cannot reply without permission to read message history"),
    (_LACKING, 400001, "Access to file uploads has been limited for this guild"),
    (_LACKING, 20012, "You are not authorized to perform this action on this application"),
    (_CLOSED, 50007, "Cannot send messages to this user"),
    (_CLOSED, 50278, "Cannot send messages to this user due to having no mutual guilds"),
    (_CLOSED, 20009, "Explicit content cannot be sent to the desired recipient(s)"),
    (_UNFIT, 50003, "Cannot execute action on a DM channel"),
    (_UNFIT, 50008, "Cannot send messages in a non-text channel"),
    (_UNFIT, 50024, "Cannot execute action on this channel type"),
    (_UNFIT, 50083, "Thread is archived"),
    (_UNFIT, 160005, "Thread is locked"),
    (_UNFIT, 40058, "Cannot send a message in a forum channel"),
    (_UNFIT, 520002, "Invalid channel type for poll creation"),
    (_MODERATED, 200000, "Message was blocked by automatic moderation"),
    (_MODERATED, 240000, "Message blocked by harmful links filter"),
    (_LARGE, 40005, "Request entity too large"),
    (_LARGE, 50045, "File uploaded exceeds the maximum size"),
    (_FILE, 30015, "Maximum number of attachments in a message reached (10)"),
    (_FILE, 50046, "Invalid file uploaded"),
    (_FILE, 50110, "The provided file is invalid."),
    (_FILE, 50123, "The provided file type is invalid."),
    (_GONE, 10008, "Unknown Message"),
    (_FIXED, 50005, "Cannot edit a message authored by another user"),
    (_FIXED, 50021, "Cannot execute action on a system message"),
    (_FIXED, 520003, "Cannot edit a poll message"),
    (_REACTION, 10014, "Unknown Emoji"),
    (_REACTION, 30010, "Maximum number of reactions reached (20)"),
    (_REACTION, 90001, "Reaction was blocked"),
    (_WRONG, 50006, "Cannot send an empty message"),
    (_WRONG, 50035, "Invalid Form Body"),
    (_WRONG, 50109, "The request body contains invalid JSON."),
    (_TOKEN, 40001, "Unauthorized"),
    (_TOKEN, 50014, "Invalid authentication token"),
    (_DOWN, 40004, "Send messages has been temporarily disabled"),
    (_DOWN, 40006, "This feature has been temporarily disabled server-side"),
    (_DOWN, 130000, "API resource is currently overloaded. Try again a little later"),
)
_WAITS: tuple[tuple[int, str], ...] = (
    (20016, "This action cannot be performed due to slowmode rate limit"),
    (20022, "This message cannot be edited due to announcement rate limits"),
    (20028, "The write action you are performing on the channel has hit the write rate limit"),
    (20029, "The write action you are performing on the server has hit the write rate limit"),
    (30046, "Maximum number of edits to messages older than 1 hour reached. Try again later"),
    (OPENING, "You are opening direct messages too fast"),
    (40062, "Service resource is being rate limited"),
)


def _rules() -> Iterator[ErrorRule]:
    for (ending, code, message), number, said in _CODES:
        example = {"message": said, "code": number}
        yield ErrorRule(code, ending, message, platform_code=number, example=example)
    ending, code, message = _SLOWER
    for number, said in _WAITS:
        body = {"message": said, "code": number, "retry_after": 3.0, "global": False}
        scope = Scope.ACCOUNT if number == OPENING else Scope.LANE
        yield ErrorRule(code, ending, message, platform_code=number, scope=scope, example=body)


ERRORS = ErrorTable(
    (
        *_rules(),
        ErrorRule(
            "credentials_refused",
            _TOKEN[0],
            _TOKEN[2],
            status=401,
            example={"message": "401: Unauthorized", "code": 0},
        ),
        ErrorRule(
            "platform_unavailable",
            Ending.TEMPORARY,
            "Discord's network does not let this server through for now, as after many refused requests",
            status=403,
            text=CLOUDFLARE,
            example="<!DOCTYPE html><title>Attention Required! | Cloudflare</title>",
        ),
        ErrorRule(
            "platform_unavailable",
            Ending.TEMPORARY,
            "Discord's network does not let this server through for now, as after many refused requests",
            platform_code=40333,
            example={"message": "internal network error", "code": 40333},
        ),
        # "The Authorization token you passed did not have permission to the resource": the token itself is good.
        ErrorRule(
            "missing_permission",
            Ending.PERMANENT,
            _LACKING[2],
            status=403,
            example={"message": "403: Forbidden", "code": 0},
        ),
        ErrorRule(
            "attachment_too_large",
            Ending.PERMANENT,
            _LARGE[2],
            status=413,
            example={"message": "413: Payload Too Large", "code": 0},
        ),
    )
)


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer, by its status."""
    status = answer.status
    if status < 400:  # noqa: PLR2004
        return None if status < 300 else Problem(502)  # noqa: PLR2004 - redirects are not Discord's
    wait = data.get("retry_after", answer.headers.get("Retry-After"))
    if "message" not in data:
        return Problem(status, text=CLOUDFLARE if status == 403 else "", retry_after=as_seconds(wait))  # noqa: PLR2004
    text = "; ".join((str(data["message"]), *_details(data.get("errors"))))
    return Problem(status, data.get("code"), text, as_seconds(wait), _scope(answer, data))


def pace(answer: Response) -> Pace | None:
    """What is left of the channel's bucket, which is of this kind of call there ("Header Format")."""
    remaining = answer.headers.get("X-RateLimit-Remaining", "")
    after = as_seconds(answer.headers.get("X-RateLimit-Reset-After"))
    if after is None or not (remaining.isascii() and remaining.isdigit()):
        return None
    return Pace(Scope.LANE, int(remaining[:9]), min(after, LONGEST_RESET))


def _scope(answer: Response, data: Mapping[str, Any]) -> Scope | None:
    """What has to wait: all of the bot by its global limit, else the channel. Only asked of a 429."""
    if data.get("global") is True or answer.headers.get("X-RateLimit-Scope") == "global":
        return Scope.ACCOUNT
    return Scope.LANE if answer.status == 429 else None  # noqa: PLR2004


def _details(errors: Any, path: str = "", left: int = DEEPEST_DETAIL) -> list[str]:
    """Which field of a form is wrong, and how (`embeds.0.title: This field is required`)."""
    found = [f"{path or 'message'}: {each.get('message')}" for each in find_objects(errors, "_errors")[:MOST_DETAILS]]
    if not isinstance(errors, dict) or not left:
        return found
    for name, inner in cast("dict[str, Any]", errors).items():
        if name != "_errors" and len(found) < MOST_DETAILS:
            found += _details(inner, f"{path}.{name}" if path else name, left - 1)
    return found[:MOST_DETAILS]

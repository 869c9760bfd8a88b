"""What the Bot API's errors mean.

Source: https://core.telegram.org/bots/api#making-requests (`ok`, `error_code`, `description`) and #responseparameters
(`retry_after`). The descriptions are not documented one by one; they are those of the open source server,
https://github.com/tdlib/telegram-bot-api (telegram-bot-api/Client.cpp, fail_query).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgcore.core.errors import Scope
from msgcore.outbound.http import as_seconds
from msgcore.outbound.transport import Response
from msgcore.platforms.documents import find
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

SAME = "message_unchanged"
GONE = "message_gone"
NO_TEXT = "message_without_text"


def _said(code: int, description: str, **parameters: int) -> dict[str, Any]:
    body: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    return body | ({"parameters": parameters} if parameters else {})


ERRORS = ErrorTable(
    (
        ErrorRule(
            "credentials_refused",
            Ending.AUTHENTICATION,
            "Telegram does not know the bot token: get the right one from @BotFather",
            status=401,
            example=_said(401, "Unauthorized"),
        ),
        ErrorRule(
            "credentials_refused",
            Ending.AUTHENTICATION,
            "Telegram does not know the bot token: get the right one from @BotFather",
            status=404,
            text="not found",
            example=_said(404, "Not Found"),
        ),
        ErrorRule(
            "recipient_blocked_bot",
            Ending.PERMANENT,
            "The recipient has blocked the bot, or never started it",
            status=403,
            text="bot was blocked",
            example=_said(403, "Forbidden: bot was blocked by the user"),
        ),
        ErrorRule(
            "recipient_not_started",
            Ending.PERMANENT,
            "A bot cannot write first: the recipient has to start it",
            status=403,
            text="can't initiate conversation",
            example=_said(403, "Forbidden: bot can't initiate conversation with a user"),
        ),
        ErrorRule(
            "not_a_member",
            Ending.PERMANENT,
            "The bot is not in this chat, was removed from it, or may not write there",
            status=403,
            example=_said(403, "Forbidden: bot was kicked from the supergroup chat"),
        ),
        ErrorRule(
            "recipient_unknown",
            Ending.PERMANENT,
            "There is no such chat, or the bot cannot see it",
            status=400,
            text="chat not found",
            example=_said(400, "Bad Request: chat not found"),
        ),
        ErrorRule(
            "recipient_moved",
            Ending.PERMANENT,
            "The group became a supergroup with another id: send to that one",
            status=400,
            text="upgraded to a supergroup",
            example=_said(
                400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=-1001234567890
            ),
        ),
        ErrorRule(
            "rate_limited",
            Ending.THROTTLED,
            "Telegram asks to write slower to this chat",
            status=429,
            scope=Scope.LANE,
            example=_said(429, "Too Many Requests: retry after 14", retry_after=14),
        ),
        ErrorRule(
            "attachment_too_large",
            Ending.PERMANENT,
            "A file is larger than Telegram takes (photos 10 MB, others 50 MB)",
            status=413,
            example=_said(413, "Request Entity Too Large"),
        ),
        ErrorRule(
            "reply_unknown",
            Ending.PERMANENT,
            "The message to be answered is not in this chat",
            status=400,
            text="message to be replied not found",
            example=_said(400, "Bad Request: message to be replied not found"),
        ),
        ErrorRule(
            SAME,
            Ending.PERMANENT,
            "The message says this already",
            status=400,
            text="message is not modified",
            example=_said(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup are exactly the "
                "same as a current content and reply markup of the message",
            ),
        ),
        ErrorRule(
            GONE,
            Ending.PERMANENT,
            "The message is not there any more",
            status=400,
            text="message to delete not found",
            example=_said(400, "Bad Request: message to delete not found"),
        ),
        ErrorRule(
            NO_TEXT,
            Ending.PERMANENT,
            "The message has no text that could be changed",
            status=400,
            text="there is no text in the message to edit",
            example=_said(400, "Bad Request: there is no text in the message to edit"),
        ),
        ErrorRule(
            "message_unknown",
            Ending.PERMANENT,
            "There is no such message in this chat",
            status=400,
            text="message to edit not found",
            example=_said(400, "Bad Request: message to edit not found"),
        ),
        ErrorRule(
            "message_fixed",
            Ending.PERMANENT,
            "The message cannot be changed: it is not the bot's own, or of a kind that stays as it is",
            status=400,
            text="message can't be edited",
            example=_said(400, "Bad Request: message can't be edited"),
        ),
        ErrorRule(
            "message_fixed",
            Ending.PERMANENT,
            "The message cannot be deleted: it is older than 48 hours, or the bot has not the right to",
            status=400,
            text="message can't be deleted",
            example=_said(400, "Bad Request: message can't be deleted for everyone"),
        ),
        ErrorRule(
            "webhook_set",
            Ending.TEMPORARY,
            "Another program has set a webhook for this bot since polling began: remove it there, and save the account",
            status=409,
            text="webhook is active",
            example=_said(
                409,
                "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            ),
        ),
        ErrorRule(
            "webhook_set",
            Ending.TEMPORARY,
            "Another program has set a webhook for this bot since polling began: remove it there, and save the account",
            status=409,
            text="terminated by setwebhook",
            example=_said(409, "Conflict: terminated by setWebhook request"),
        ),
        ErrorRule(
            "polled_elsewhere",
            Ending.TEMPORARY,
            "Another program polls this bot: stop it, or take a bot for each",
            status=409,
            text="other getupdates",
            example=_said(
                409,
                "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
            ),
        ),
        ErrorRule(
            "conflict",
            Ending.TEMPORARY,
            "Something else uses this bot at the same time",
            status=409,
            example=_said(409, "Conflict: terminated by other setWebhook"),
        ),
    )
)


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None for one with `ok`."""
    if data.get("ok") is True:
        return None
    if "error_code" not in data:
        # Telegram's own answers say what is wrong: this is something in between.
        return Problem(answer.status if answer.status >= 400 else 502)  # noqa: PLR2004
    wait = find(data, "parameters", "retry_after")
    return Problem(
        answer.status,
        text=str(data.get("description") or ""),
        retry_after=as_seconds(wait),
    )

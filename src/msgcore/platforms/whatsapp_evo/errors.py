"""What the Evolution API's errors mean.

Source: https://doc.evolution-api.com/v2/api-reference and https://github.com/EvolutionAPI/evolution-api (2.3.6):
src/main.ts for the shape, src/api/guards for instances and keys, and
src/api/integrations/channel/whatsapp/whatsapp.baileys.service.ts (sendMessageWithTyping) for what sending answers:
whatever goes wrong at WhatsApp is a 400 with the words of the error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgcore.core.errors import Scope
from msgcore.outbound.transport import Response
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable, Problem

NOT_ON_WHATSAPP = "exists: false"


def _said(status: int, error: str, *messages: Any) -> dict[str, Any]:
    return {"status": status, "error": error, "response": {"message": list(messages)}}


ERRORS = ErrorTable(
    (
        ErrorRule(
            "credentials_refused",
            Ending.AUTHENTICATION,
            "The Evolution API does not know the key: give that of the server, or of this instance",
            status=401,
            example={"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}},
        ),
        ErrorRule(
            "instance_unknown",
            Ending.AUTHENTICATION,
            "The Evolution API has no instance of this name: create it, or change instanceName",
            status=404,
            text="instance does not exist",
            example=_said(404, "Not Found", 'The "invalid-instance" instance does not exist'),
        ),
        ErrorRule(
            "address_wrong",
            Ending.AUTHENTICATION,
            "There is no Evolution API v2 at evolutionApiUrl",
            status=404,
            text="cannot ",
            example=_said(404, "Not Found", "Cannot POST /message/sendText/msgcore"),
        ),
        ErrorRule(
            "recipient_unknown",
            Ending.PERMANENT,
            "This number is not on WhatsApp",
            platform_code=NOT_ON_WHATSAPP,
            example=_said(
                400, "Bad Request", {"exists": False, "jid": "4915112345678@s.whatsapp.net", "number": "4915112345678"}
            ),
        ),
        ErrorRule(
            "device_not_connected",
            Ending.TEMPORARY,
            "The instance is not connected to WhatsApp: link it again (GET platforms/:id/qr-code)",
            text="connection closed",
            example=_said(400, "Bad Request", "Error: Connection Closed"),
        ),
        ErrorRule(
            "rate_limited",
            Ending.THROTTLED,
            "WhatsApp asks to go slower",
            text="rate-overlimit",
            scope=Scope.ACCOUNT,
            example=_said(400, "Bad Request", "Error: rate-overlimit"),
        ),
        ErrorRule(
            "message_unknown",
            Ending.PERMANENT,
            "The Evolution API server has not kept this message (DATABASE_SAVE_DATA_NEW_MESSAGE)",
            status=404,
            text="message not found",
            example=_said(404, "Not Found", "Message not found"),
        ),
        ErrorRule(
            "message_fixed",
            Ending.PERMANENT,
            "The message cannot be changed any more: WhatsApp allows that for 15 minutes",
            status=400,
            text="older than 15 minutes",
            example=_said(400, "Bad Request", "Message is older than 15 minutes"),
        ),
        ErrorRule(
            "message_fixed",
            Ending.PERMANENT,
            "The message is of a kind that cannot be changed",
            status=400,
            text="not compatible",
            example=_said(400, "Bad Request", "Message not compatible"),
        ),
        ErrorRule(
            "recipient_unknown",
            Ending.PERMANENT,
            "The Evolution API does not say what is wrong; mostly it does not know the group, or is not in it",
            status=400,
            text="[object object]",
            example=_said(400, "Bad Request", "[object Object]"),
        ),
    )
)


def read_problem(answer: Response, data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an answer; None for a success."""
    if answer.status < 300 and not data.get("error"):  # noqa: PLR2004
        return None
    response: Any = data.get("response")
    said: Any = cast("dict[str, Any]", response).get("message") if isinstance(response, dict) else data.get("message")
    messages = cast("list[Any]", said) if isinstance(said, list) else [said]
    missing = any(isinstance(each, dict) and cast("dict[str, Any]", each).get("exists") is False for each in messages)
    words = "; ".join(each for each in messages if isinstance(each, str))
    return Problem(max(answer.status, 400), NOT_ON_WHATSAPP if missing else None, words)

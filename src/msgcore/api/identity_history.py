"""What came in, as it is shown."""

from __future__ import annotations

from typing import Any, Literal

from msgcore.api.answers import Answer, Timestamp
from msgcore.api.received import ReceivingPlatform
from msgcore.core.clock import to_iso


class ReceivedAnswer(Answer):
    """What messages and reactions have in common. `timestamp` is `receivedAt` under its newer name."""

    id: str
    project_id: str
    platform_id: str
    platform: str
    provider_message_id: str
    provider_chat_id: str
    provider_user_id: str
    user_display: str | None
    raw_data: Any
    received_at: Timestamp
    timestamp: Timestamp


class ReceivedMessageAnswer(ReceivedAnswer):
    """A message that somebody wrote."""

    message_text: str | None
    message_type: str
    direction: Literal["received"]
    platform_config: ReceivingPlatform


class ReceivedReactionAnswer(ReceivedAnswer):
    """A reaction that somebody added to a message, or took back."""

    emoji: str
    reaction_type: Literal["added", "removed"]


def received_message(row: Any) -> ReceivedMessageAnswer:
    """A row of `received_messages` with `is_active` and `test_mode` of its platform."""
    return ReceivedMessageAnswer(
        **_fields(row),
        message_text=row.message_text,
        message_type=row.message_type,
        direction="received",
        platform_config=ReceivingPlatform(
            id=row.platform_id, platform=row.platform, is_active=row.is_active, test_mode=row.test_mode
        ),
    )


def received_reaction(row: Any) -> ReceivedReactionAnswer:
    """A row of `received_reactions`."""
    return ReceivedReactionAnswer(**_fields(row), emoji=row.emoji, reaction_type=row.reaction_type)


def _fields(row: Any) -> dict[str, Any]:
    received_at = to_iso(row.received_at)
    return {
        "id": row.id,
        "project_id": row.project_id,
        "platform_id": row.platform_id,
        "platform": row.platform,
        "provider_message_id": row.provider_message_id,
        "provider_chat_id": row.provider_chat_id,
        "provider_user_id": row.provider_user_id,
        "user_display": row.user_display,
        "raw_data": row.raw_data,
        "received_at": received_at,
        "timestamp": received_at,
    }

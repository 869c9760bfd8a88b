"""The events that tell what became of a delivery, with the names and fields of the compatible API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row

from msgcore.core.clock import to_iso
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.store.events import NewEvent
from msgcore.store.ledger.beginning import WorkItem

LONGEST_TEXT = 10_000
"""Characters of a message's text that its event repeats: it is there once for each of up to 10,000 targets."""

Told = Literal["sent", "failed", "cancelled"]
"""How the name of an event ends."""


Delivery = WorkItem | Row[Any]
"""What a worker has of a delivery, or the ledger's row of it."""


def outcome_event(delivery: Delivery, ending: Told, more: dict[str, Any], now: datetime) -> NewEvent | None:
    """The event of a delivery's end; None for what posts an event, since that would post the next one for ever.

    `more` is what only this end has.
    """
    if delivery.platform == EVENT_WEBHOOK:
        return None
    kind, data = "message", about_delivery(delivery)
    data.update(more)
    if delivery.action is not None:
        kind, data["action"] = "action", delivery.action
    return NewEvent(delivery.project_id, f"{kind}.{ending}", data, now, delivery.platform_id)


def about_delivery(delivery: Delivery) -> dict[str, Any]:
    """What every event about a delivery has. `message_id` is the id that the list of sent messages shows."""
    to = delivery.target_id
    return {
        "message_id": delivery.id,
        "job_id": delivery.message_id,
        "platform": delivery.platform,
        "platform_id": delivery.platform_id,
        "chat_id": to,
        "target": {
            "type": delivery.target_type,
            "chat_id": to,
            "user_id": to if delivery.target_type == "user" else None,
        },
    }


def sent_data(text: str | None, provider_message_id: str | None, attempts: int, now: datetime) -> dict[str, Any]:
    """What only `message.sent` has."""
    return {
        "text": None if text is None else text[:LONGEST_TEXT],
        "provider_message_id": provider_message_id,
        "attempts": attempts,
        "sent_at": to_iso(now),
    }


def failed_data(state: str, code: str | None, message: str | None, attempts: int, now: datetime) -> dict[str, Any]:
    """What only `message.failed` has; `state` tells what expired from what was refused."""
    return {
        "error": message or code or state,
        "error_code": code,
        "state": state,
        "attempts": attempts,
        "failed_at": to_iso(now),
    }

"""Events as deliveries of the ledger, each to one webhook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgcore.core.content import TargetType
from msgcore.core.deliveries import DeliveryState, Rank, Ticket
from msgcore.core.events import EVENT_WEBHOOK, EVERY_EVENT, posting_tenant, realm_of
from msgcore.core.ids import new_id
from msgcore.inbound.event_documents import entry_of
from msgcore.platforms.event_webhook import DECLARATION
from msgcore.store.events import Event
from msgcore.store.ledger.accept import NewMessage, new_delivery


@dataclass(frozen=True, slots=True)
class Posting:
    """A delivery to a webhook: the ledger's message, and the row for the user's list."""

    message: NewMessage
    row: dict[str, Any]


def wants(webhook: Any, event: Event) -> bool:
    """Whether a webhook (a row) subscribed to an event."""
    return event.type in webhook.events or EVERY_EVENT in webhook.events


def postings_of(webhooks: Sequence[Any], event: Event, now: datetime) -> list[Posting]:
    """An event for each of these webhooks that wants it."""
    wanting = [webhook for webhook in webhooks if wants(webhook, event)]
    document = entry_of(event) if wanting else None
    return [compose(webhook, event.id, event.type, document, now) for webhook in wanting]


def compose(webhook: Any, event_id: str, kind: str, document: Any, now: datetime) -> Posting:
    """A delivery of a document to a webhook (a row), which is due now."""
    delivery_id, realm = new_id(), realm_of(webhook.id)
    lane = webhook.id if webhook.is_ordered else None
    message = {
        "id": delivery_id,
        "project_id": realm,
        "content": {"platformOptions": {EVENT_WEBHOOK: document}},
        "options": None,
        "metadata": None,
        "created_by": None,
        "created_at": now,
        "batch_id": None,
    }
    delivery = new_delivery(
        message,
        due_at=now,
        id=delivery_id,
        platform_id=webhook.id,
        platform=EVENT_WEBHOOK,
        target_type=TargetType.USER.value,
        target_id=event_id,
        lane=lane,
        rank=Rank.NORMAL.value,
        state=DeliveryState.QUEUED.value,
    )
    row = {
        "id": delivery_id,
        "webhook_id": webhook.id,
        "event": kind,
        "event_id": event_id,
        "payload": document,
        "attempts": 0,
        "status": "pending",
        "created_at": now,
    }
    tenant = posting_tenant(webhook.project_id)
    ticket = Ticket(delivery_id, webhook.id, lane, limits=DECLARATION.limits, tenant=tenant)
    return Posting(NewMessage(message, [delivery], [ticket]), row)

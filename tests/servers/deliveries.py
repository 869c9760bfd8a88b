"""Deliveries as the dispatch core gives them to adapters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from msgcore.core.actions import Action
from msgcore.core.content import Content, SendOptions, Target
from msgcore.core.ids import new_id
from msgcore.platforms.base import Account, OutgoingAction, OutgoingDelivery

PLATFORM_ID = "0190a000-0000-7000-8000-000000000001"


def make_account(platform: str, credentials: dict[str, Any], *, version: str = "1", **rest: Any) -> Account:
    """An account with credentials in the clear."""
    about = {"id": PLATFORM_ID, "project_id": "demo"} | rest
    return Account(platform=platform, credentials=credentials, version=version, **about)


def make_content(**content: Any) -> Content:
    """Content from its JSON form (camelCase)."""
    return msgspec.convert(content, Content)


def make_delivery(
    target_id: str,
    content: Content,
    *,
    target_type: str = "user",
    options: dict[str, Any] | None = None,
    attempt: int = 1,
    throttles: int = 0,
    delivery_id: str | None = None,
) -> OutgoingDelivery:
    """One message to one target."""
    return OutgoingDelivery(
        id=delivery_id or new_id(),
        message_id=new_id(),
        target=msgspec.convert({"platformId": PLATFORM_ID, "type": target_type, "id": target_id}, Target),
        content=content,
        options=msgspec.convert(options or {}, SendOptions),
        attempt=attempt,
        throttles=throttles,
        created_at=datetime.now(UTC),
    )


def make_action(target_id: str, action: Action, *, target_type: str = "user") -> OutgoingAction:
    """Something that is done to a message in a chat."""
    delivery = make_delivery(target_id, Content(), target_type=target_type)
    return OutgoingAction(
        id=delivery.id,
        message_id=delivery.message_id,
        target=delivery.target,
        action=action,
        attempt=1,
        throttles=0,
        created_at=delivery.created_at,
    )

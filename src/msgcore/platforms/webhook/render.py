"""The document that is posted."""

from __future__ import annotations

from datetime import datetime

import msgspec

from msgcore.core.actions import Unreact
from msgcore.core.content import Content, SendOptions
from msgcore.core.envelope import Reaction
from msgcore.platforms.base import Account, OutgoingAction, OutgoingDelivery


class Recipient(msgspec.Struct):
    """Whom the message is for, in the receiver's own terms."""

    type: str
    id: str


class Document(msgspec.Struct, rename="camel", omit_defaults=True):
    """The body of the POST. It is the same for each attempt, but for what signs it."""

    id: str
    message_id: str
    project_id: str
    platform_id: str
    timestamp: datetime
    target: Recipient
    content: Content | Reaction
    options: SendOptions


def _shown(options: SendOptions) -> SendOptions:
    """Without what is nobody's business at this endpoint: where else the message may go."""
    return options if options.fallback is None else msgspec.structs.replace(options, fallback=None)


_ENCODER = msgspec.json.Encoder()


def encode(account: Account, delivery: OutgoingDelivery) -> bytes:
    """The JSON document of a delivery."""
    return _ENCODER.encode(
        Document(
            id=delivery.id,
            message_id=delivery.message_id,
            project_id=account.project_id,
            platform_id=account.id,
            timestamp=delivery.created_at,
            target=Recipient(delivery.target.type.value, delivery.target.id),
            content=delivery.content,
            options=_shown(delivery.options),
        )
    )


def encode_action(account: Account, outgoing: OutgoingAction) -> bytes:
    """The JSON document of an action: its content has the `kind` that the envelope has for it."""
    action = outgoing.action
    return _ENCODER.encode(
        Document(
            id=outgoing.id,
            message_id=outgoing.message_id,
            project_id=account.project_id,
            platform_id=account.id,
            timestamp=outgoing.created_at,
            target=Recipient(outgoing.target.type.value, outgoing.target.id),
            content=Reaction(message_id=action.message_id, emoji=action.emoji, removed=isinstance(action, Unreact)),
            options=SendOptions(),
        )
    )

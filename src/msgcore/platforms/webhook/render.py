"""The document that is posted."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

import msgspec

from msgcore.core.actions import Action, Delete, Edit, MarkRead, React, Type, Unreact
from msgcore.core.content import Content, SendOptions
from msgcore.core.envelope import Deletion, Reaction, Receipt, Typing
from msgcore.platforms.base import Account, OutgoingAction, OutgoingDelivery


class Recipient(msgspec.Struct):
    """Whom the message is for, in the receiver's own terms."""

    type: str
    id: str


class Rewritten(msgspec.Struct, tag="edit", tag_field="kind"):
    """What a message is to say from now on."""

    id: str
    content: Content


Done = Reaction | Rewritten | Deletion | Typing | Receipt
"""An action in the words of the envelope, which tells the same of other people."""


class Document(msgspec.Struct, rename="camel", omit_defaults=True):
    """The body of the POST. It is the same for each attempt, but for what signs it."""

    id: str
    message_id: str
    project_id: str
    platform_id: str
    timestamp: datetime
    target: Recipient
    content: Content | Done
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
    return _ENCODER.encode(
        Document(
            id=outgoing.id,
            message_id=outgoing.message_id,
            project_id=account.project_id,
            platform_id=account.id,
            timestamp=outgoing.created_at,
            target=Recipient(outgoing.target.type.value, outgoing.target.id),
            content=_told(outgoing.action),
            options=SendOptions(),
        )
    )


def _told(action: Action) -> Done:
    match action:
        case React() | Unreact():
            return Reaction(message_id=action.message_id, emoji=action.emoji, removed=isinstance(action, Unreact))
        case Edit():
            return Rewritten(id=action.message_id, content=action.content)
        case Delete():
            return Deletion(id=action.message_id)
        case Type():
            return Typing()
        case MarkRead():
            return Receipt(message_id=action.message_id, status="read")
        case _:
            assert_never(action)

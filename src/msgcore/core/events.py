"""The events that customers can subscribe to."""

from __future__ import annotations

from enum import StrEnum

EVERY_EVENT = "*"
"""In a subscription: all events, also those that later versions add."""

EVENT_WEBHOOK = "event-webhook"
"""What the ledger calls the platform of deliveries to customers' webhooks. No user can configure or address it."""


def realm_of(webhook_id: str) -> str:
    """What the ledger has in place of a project for a webhook's deliveries.

    No project has such an id, so nothing that is read or counted of a project meets them.
    """
    return f"@{webhook_id}"


def posting_tenant(project_id: str) -> str:
    """Whose share of a worker's places deliveries to a project's webhooks take (`Ticket.tenant`).

    Not the project's own: receivers that answer slowly leave its messages alone.
    """
    return f"@{project_id}"


class EventType(StrEnum):
    """What can happen. Names that the compatible API has are its own."""

    MESSAGE_RECEIVED = "message.received"
    MESSAGE_EDITED = "message.edited"
    MESSAGE_DELETED = "message.deleted"
    MESSAGE_SENT = "message.sent"
    MESSAGE_FAILED = "message.failed"
    MESSAGE_CANCELLED = "message.cancelled"
    MESSAGE_DELIVERED = "message.delivered"
    MESSAGE_READ = "message.read"
    ACTION_SENT = "action.sent"
    ACTION_FAILED = "action.failed"
    ACTION_CANCELLED = "action.cancelled"
    BUTTON_CLICKED = "button.clicked"
    COMMAND_RECEIVED = "command.received"
    REACTION_ADDED = "reaction.added"
    REACTION_REMOVED = "reaction.removed"
    MEMBER_JOINED = "member.joined"
    MEMBER_LEFT = "member.left"
    TYPING_STARTED = "typing.started"
    CONTACT_OPTED_OUT = "contact.opted_out"
    CONTACT_OPTED_IN = "contact.opted_in"
    IDENTITY_LINKED = "identity.linked"
    PLATFORM_PAUSED = "platform.paused"
    PLATFORM_RESUMED = "platform.resumed"
    PROJECT_PAUSED = "project.paused"
    PROJECT_RESUMED = "project.resumed"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_TEST = "webhook.test"


DESCRIPTIONS: dict[EventType, str] = {
    EventType.MESSAGE_RECEIVED: "Somebody wrote on a platform",
    EventType.MESSAGE_EDITED: "Somebody changed what they had written",
    EventType.MESSAGE_DELETED: "Somebody took back what they had written",
    EventType.MESSAGE_SENT: "A platform took a message",
    EventType.MESSAGE_FAILED: "A message failed for good, or was not sent before it expired",
    EventType.MESSAGE_CANCELLED: "A message was taken back before it was sent",
    EventType.MESSAGE_DELIVERED: "A platform says that a message reached its recipient",
    EventType.MESSAGE_READ: "A platform says that a message was read",
    EventType.ACTION_SENT: "A platform took what is done to a message: a reaction, an edit, a deletion ...",
    EventType.ACTION_FAILED: "What is done to a message failed for good, or was not sent before it expired",
    EventType.ACTION_CANCELLED: "What is done to a message was taken back before it was sent",
    EventType.BUTTON_CLICKED: "Somebody pressed a button of a message",
    EventType.COMMAND_RECEIVED: "Somebody gave a command, such as /start",
    EventType.REACTION_ADDED: "Somebody reacted to a message",
    EventType.REACTION_REMOVED: "Somebody took a reaction back",
    EventType.MEMBER_JOINED: "Somebody came into a group or channel",
    EventType.MEMBER_LEFT: "Somebody left a group or channel",
    EventType.TYPING_STARTED: "Somebody began to type",
    EventType.CONTACT_OPTED_OUT: "Somebody wants nothing more to be sent to them on a platform",
    EventType.CONTACT_OPTED_IN: "Somebody who had opted out may be sent to again",
    EventType.IDENTITY_LINKED: "An account was linked to an identity by an e-mail address that its platform verified",
    EventType.PLATFORM_PAUSED: "A platform was paused; messages to it wait",
    EventType.PLATFORM_RESUMED: "A platform goes on",
    EventType.PROJECT_PAUSED: "A project was paused; messages to all its platforms wait",
    EventType.PROJECT_RESUMED: "A project goes on",
    EventType.WEBHOOK_DISABLED: "A webhook was switched off because nothing got through to it",
    EventType.WEBHOOK_TEST: "Somebody asked for a test of a webhook",
}
"""What each one tells, in a line."""

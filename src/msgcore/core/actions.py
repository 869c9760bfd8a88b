"""What can be done to a message that is on its platform already. Goes out as a delivery, in place of a content.

In the ledger an action is the message's content; its first field, `action`, is what tells it from one.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from msgcore.core.content import Content

MessageId = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
"""A message as its platform calls it."""
Emoji = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class React(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag="react", tag_field="action"):
    """Put an emoji to a message. `from_me`: it is one that was sent by the same account."""

    message_id: MessageId
    emoji: Emoji
    from_me: bool = False


class Unreact(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag="unreact", tag_field="action"):
    """Take an emoji of ours away again."""

    message_id: MessageId
    emoji: Emoji
    from_me: bool = False


class Edit(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag="edit", tag_field="action"):
    """Put another content in the place of a message of ours."""

    message_id: MessageId
    content: Content


class Delete(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", tag="delete", tag_field="action"
):
    """Take a message of ours away for everybody. One that is gone already is as good as taken away.

    `other_parts` are the rest of a message that went out in several calls. Adapters are given one part at a time.
    """

    message_id: MessageId
    other_parts: tuple[MessageId, ...] = ()


class Type(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", tag="typing", tag_field="action"
):
    """Show in the chat that an answer is being written, for as long as the platform shows it (5 to 25 seconds).

    `message_id` is the newest message that was received there, where there is one: some platforms want to know it.
    """

    message_id: MessageId | None = None


class MarkRead(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag="read", tag_field="action"):
    """Tell the sender of a received message that it, and what came before, was read."""

    message_id: MessageId


Action = React | Unreact | Edit | Delete | Type | MarkRead

_BEGINNING = '{"action":'


def word_of(action: Action) -> str:
    """What the ledger and events call an action."""
    return str(action.__struct_config__.tag)


def is_action(content: str) -> bool:
    """Whether a content of the ledger is an action; msgspec writes the tag first."""
    return content.startswith(_BEGINNING)

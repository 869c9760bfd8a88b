"""The message that was sent last to a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select

from msgcore.core.deliveries import SENT_STATES
from msgcore.store.bulk import Among
from msgcore.store.tables import chats, deliveries, messages
from msgcore.store.tables.messages import IS_TO_CHAT


class Sent(msgspec.Struct, frozen=True):
    """A sent message: its content as it is stored, and its platform's id where that gave one."""

    content: dict[str, Any]
    provider_message_id: str | None


_LAST = (
    select(deliveries.c.id)
    .where(
        *(IS_TO_CHAT, deliveries.c.platform_id == chats.c.platform_id),
        deliveries.c.target_id == chats.c.provider_chat_id,
        *(deliveries.c.state.in_(sorted(SENT_STATES)), deliveries.c.action.is_(None)),
    )
    .order_by(deliveries.c.id.desc())
    .limit(1)
    .correlate(chats)
    .scalar_subquery()
)
_FIND = (
    select(chats.c.provider_chat_id, messages.c.content, deliveries.c.provider_message_id)
    .select_from(chats)
    .join(deliveries, deliveries.c.id == _LAST)
    .join(messages, messages.c.id == deliveries.c.message_id)
    .where(chats.c.platform_id == bindparam("platform"), Among(chats.c.provider_chat_id, "chat_ids"))
)


def last_sent(connection: Connection, platform_id: str, chat_ids: Sequence[str]) -> dict[str, Sent]:
    """What was sent last to each of these chats of a configured platform, by their ids; one look into an index each."""
    rows = connection.execute(_FIND, {"platform": platform_id, "chat_ids": chat_ids})
    return {row.provider_chat_id: Sent(row.content, row.provider_message_id) for row in rows}

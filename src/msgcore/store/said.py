"""Finding a message by its platform's id, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.content import TargetType
from msgcore.store.ledger.parts import UNNAMED, split_parts
from msgcore.store.tables import chats, deliveries, received_messages


@dataclass(frozen=True, slots=True)
class Said:
    """Where a message is, as a target of what is sent there, and whether it was sent by the same account.

    `other_parts` are the platform's ids of the rest of a message that was sent in several calls.
    """

    target_type: str
    target_id: str
    from_me: bool
    other_parts: tuple[str, ...] = ()


async def find_said(connection: AsyncConnection, platform_id: str, provider_message_id: str) -> Said | None:
    """The message of a configured platform that the platform calls so: one that was received, or else sent."""
    table = received_messages.c
    same_chat = and_(chats.c.platform_id == table.platform_id, chats.c.provider_chat_id == table.provider_chat_id)
    received = (
        select(table.provider_chat_id, chats.c.chat_type)
        .select_from(received_messages.outerjoin(chats, same_chat))
        .where(table.platform_id == platform_id, table.provider_message_id == provider_message_id)
    )
    row = (await connection.execute(received)).one_or_none()
    if row is not None:
        return Said(row.chat_type or TargetType.USER.value, row.provider_chat_id, from_me=False)
    columns = (deliveries.c.target_type, deliveries.c.target_id, deliveries.c.part_ids)
    sent = select(*columns).where(
        deliveries.c.platform_id == platform_id,
        deliveries.c.provider_message_id == provider_message_id,
        deliveries.c.action.is_(None),
    )
    row = (await connection.execute(sent.order_by(deliveries.c.id.desc()).limit(1))).one_or_none()
    if row is None:
        return None
    others = [part for part in split_parts(row.part_ids) if part not in (UNNAMED, provider_message_id)]
    return Said(row.target_type, row.target_id, from_me=True, other_parts=tuple(others))


async def newest_received(connection: AsyncConnection, platform_id: str, provider_chat_id: str) -> str | None:
    """The platform's id of what somebody wrote last in a chat."""
    table = received_messages.c
    query = select(table.provider_message_id).where(
        table.platform_id == platform_id, table.provider_chat_id == provider_chat_id
    )
    return (await connection.execute(query.order_by(table.id.desc()).limit(1))).scalar_one_or_none()

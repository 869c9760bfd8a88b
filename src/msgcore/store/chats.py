"""Queries on chats, and on what was sent to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.deliveries import DeliveryState, FallbackCode
from msgcore.store.tables import chats, deliveries, messages
from msgcore.store.tables.messages import IS_TO_CHAT

MOST_COUNTED = 10_000
"""Counting stops here, so that many chats make no list slow."""


@dataclass(frozen=True, slots=True)
class ChatFilter:
    """Which chats of a project; None leaves a condition out. `search` is a part of the name, or the whole chat id."""

    project_id: str
    platform_id: str | None = None
    chat_type: str | None = None
    search: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        conditions = [chats.c.project_id == self.project_id]
        if self.platform_id is not None:
            conditions.append(chats.c.platform_id == self.platform_id)
        if self.chat_type is not None:
            conditions.append(chats.c.chat_type == self.chat_type)
        if self.search is not None:
            named = chats.c.name.icontains(self.search, autoescape=True)
            conditions.append(or_(named, chats.c.provider_chat_id == self.search))
        return conditions


async def list_chats(connection: AsyncConnection, chosen: ChatFilter, *, limit: int, offset: int) -> Sequence[Row[Any]]:
    """A page, newest activity first; then those in which nothing was said yet, newest first.

    The two are asked for one after the other: where those without activity come in an index differs between databases.
    """
    active, quiet = chats.c.last_message_at.is_not(None), chats.c.last_message_at.is_(None)
    query = select(chats).where(*chosen.conditions())
    by_activity = query.where(active).order_by(chats.c.last_message_at.desc(), chats.c.id.desc())
    rows = (await connection.execute(by_activity.limit(limit).offset(offset))).all()
    if len(rows) == limit:
        return rows
    before = offset + len(rows) if rows else await _count(connection, [*chosen.conditions(), active], most=offset)
    newest_first = (chats.c.last_message_at.desc(), chats.c.id.desc())  # else PostgreSQL sorts, for want of an index
    rest = query.where(quiet).order_by(*newest_first).limit(limit - len(rows)).offset(max(0, offset - before))
    return [*rows, *(await connection.execute(rest)).all()]


async def count_chats(connection: AsyncConnection, chosen: ChatFilter) -> int:
    """How many there are, at most `MOST_COUNTED`."""
    return await _count(connection, chosen.conditions(), most=MOST_COUNTED)


async def find_chat(connection: AsyncConnection, project_id: str, chat_id: str) -> Row[Any] | None:
    """One chat of a project."""
    query = select(chats).where(chats.c.id == chat_id, chats.c.project_id == project_id)
    return (await connection.execute(query)).one_or_none()


async def update_chat(connection: AsyncConnection, chat_id: str, values: dict[str, Any]) -> None:
    """Change columns of a chat."""
    await connection.execute(update(chats).where(chats.c.id == chat_id).values(values))


async def list_sent(connection: AsyncConnection, chat: Any, *, before: str | None, limit: int) -> Sequence[Row[Any]]:
    """Messages to a chat, as deliveries with their `content`, newest first; with ids below `before`.

    Fallbacks that nobody needed, or did not need yet, are left out.
    """
    table = deliveries.c
    page = select(deliveries).where(
        *(IS_TO_CHAT, table.platform_id == chat.platform_id, table.target_id == chat.provider_chat_id),
        table.state != DeliveryState.STANDBY,
        table.error_code.is_distinct_from(FallbackCode.NOT_NEEDED),
        table.action.is_(None),
    )
    if before is not None:
        page = page.where(table.id < before)
    found = page.order_by(table.id.desc()).limit(limit).subquery()
    query = select(found, messages.c.content).join(messages, messages.c.id == found.c.message_id)
    return (await connection.execute(query.order_by(found.c.id.desc()))).all()


async def _count(connection: AsyncConnection, conditions: list[ColumnElement[bool]], *, most: int) -> int:
    # In an order, or PostgreSQL may look through the whole table, in the hope of meeting enough of them soon.
    found = select(literal(1)).where(*conditions).order_by(chats.c.last_message_at.desc()).limit(most).subquery()
    return (await connection.execute(select(func.count()).select_from(found))).scalar_one()

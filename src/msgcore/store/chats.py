"""Queries on chats, and on what was sent to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.deliveries import DeliveryState, FallbackCode
from msgcore.store.tables import chats, deliveries, messages

MOST_COUNTED = 10_000
"""Counting stops here, so that many chats make no list slow."""

SENT_WINDOW = 10_000
"""Among how many of a project's deliveries those to a chat are looked for.

Deliveries have no index on their target, so a page of a chat's history looks at the newest ones before it only.
"""


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

    The two are asked for one after the other: together they would have to be sorted, for want of a common index.
    """
    active, quiet = chats.c.last_message_at.is_not(None), chats.c.last_message_at.is_(None)
    query = select(chats).where(*chosen.conditions())
    by_activity = query.where(active).order_by(chats.c.last_message_at.desc(), chats.c.id.desc())
    rows = (await connection.execute(by_activity.limit(limit).offset(offset))).all()
    if len(rows) == limit:
        return rows
    before = offset + len(rows) if rows else await _count(connection, [*chosen.conditions(), active], most=offset)
    rest = query.where(quiet).order_by(chats.c.id.desc()).limit(limit - len(rows)).offset(max(0, offset - before))
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


async def sent_horizon(connection: AsyncConnection, project_id: str, before: str | None) -> Row[Any, Any] | None:
    """`id` and `created_at` of the oldest delivery that `list_sent` may look at; None if it may look at all."""
    table = deliveries.c
    query = select(table.id, table.created_at).where(table.project_id == project_id)
    if before is not None:
        query = query.where(table.id < before)
    return (await connection.execute(query.order_by(table.id.desc()).offset(SENT_WINDOW - 1).limit(1))).one_or_none()


async def list_sent(
    connection: AsyncConnection, chat: Any, *, before: str | None, since: str | None, limit: int
) -> Sequence[Row[Any]]:
    """Messages to a chat, as deliveries with their `content`, newest first: ids below `before`, none below `since`.

    Fallbacks that nobody needed, or did not need yet, are left out.
    """
    table = deliveries.c
    page = select(deliveries).where(
        table.project_id == chat.project_id,
        table.platform_id == chat.platform_id,
        table.target_id == chat.provider_chat_id,
        table.state != DeliveryState.STANDBY,
        table.error_code.is_distinct_from(FallbackCode.NOT_NEEDED),
        table.action.is_(None),
    )
    if before is not None:
        page = page.where(table.id < before)
    if since is not None:
        page = page.where(table.id >= since)
    found = page.order_by(table.id.desc()).limit(limit).subquery()
    query = select(found, messages.c.content).join(messages, messages.c.id == found.c.message_id)
    return (await connection.execute(query.order_by(found.c.id.desc()))).all()


async def _count(connection: AsyncConnection, conditions: list[ColumnElement[bool]], *, most: int) -> int:
    found = select(literal(1)).select_from(chats).where(*conditions).limit(most).subquery()
    return (await connection.execute(select(func.count()).select_from(found))).scalar_one()

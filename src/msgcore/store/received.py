"""Queries on what was received: messages, their attachments and the reactions to them.

An id is made when its message is received, so a range of time is a range of ids. That is what the indexes
have; `received_at` then decides exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, and_, case, delete, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.ids import earliest_id
from msgcore.store.tables import (
    identities,
    identity_aliases,
    message_attachments,
    project_platforms,
    received_messages,
    received_reactions,
)

MOST_COUNTED = 10_000
"""Counting stops here, so that a long history makes no list slow."""

MOST_REACTIONS = 5_000
"""Reactions that are looked at for one page of messages, newest first."""

_SLACK = timedelta(hours=1)
"""How far the moment in an id may be from `received_at`: clocks differ, and what was received may wait to be stored."""

_FIRST_MOMENT = datetime.fromtimestamp(0, UTC) + _SLACK
_LAST_MOMENT = datetime.max.replace(tzinfo=UTC) - _SLACK

Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class ReceivedFilter:
    """Which received messages of a project; None leaves a condition out. The times are inclusive."""

    project_id: str
    platform_id: str | None = None
    platform: str | None = None
    chat_id: str | None = None
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        table = received_messages.c
        equal = {
            table.platform_id: self.platform_id,
            table.platform: self.platform,
            table.provider_chat_id: self.chat_id,
            table.provider_user_id: self.user_id,
        }
        conditions = [self._of_project()]
        conditions += [column == value for column, value in equal.items() if value is not None]
        if self.since is not None:
            conditions += [table.received_at >= self.since, table.id >= _id_before(self.since)]
        if self.until is not None:
            conditions += [table.received_at <= self.until, table.id < _id_after(self.until)]
        return conditions

    def _of_project(self) -> ColumnElement[bool]:
        """Whose messages. Indexes on an account's messages, chats and users begin with the account.

        Asked for its project as well, SQLite may as soon go through all that the project has.
        """
        own = select(project_platforms.c.id).where(project_platforms.c.project_id == self.project_id)
        if self.platform_id is not None:
            return own.where(project_platforms.c.id == self.platform_id).exists()
        if self.chat_id is None and self.user_id is None:
            return received_messages.c.project_id == self.project_id
        return received_messages.c.platform_id.in_(own)


async def list_received(
    connection: AsyncConnection,
    chosen: ReceivedFilter,
    *,
    limit: int,
    offset: int = 0,
    order: Order = "desc",
    before: str | None = None,
    raw: bool = False,
) -> Sequence[Row[Any]]:
    """A page by the order of receiving, each row with its sender's `identity_id`, `identity_name`, `identity_email`.

    `before` is the id of the last entry of the page before, whatever the order. `raw_data` is read only on request.
    """
    table = received_messages.c
    newest_first = order == "desc"
    columns = [column for column in table if raw or column is not table.raw_data]
    page = select(*columns).where(*chosen.conditions())
    if before is not None:
        page = page.where(table.id < before if newest_first else table.id > before)
    found = page.order_by(table.id.desc() if newest_first else table.id).limit(limit).offset(offset).subquery()
    query = _with_identity(select(found), found.c)
    return (await connection.execute(query.order_by(found.c.id.desc() if newest_first else found.c.id))).all()


async def find_received(connection: AsyncConnection, project_id: str, message_id: str) -> Row[Any] | None:
    """One received message with its sender's identity, and `is_active` and `test_mode` of its platform."""
    table = received_messages.c
    chosen = select(received_messages).where(table.id == message_id, table.project_id == project_id).subquery()
    query = _with_identity(select(chosen), chosen.c)
    query = query.add_columns(project_platforms.c.is_active, project_platforms.c.test_mode).join(
        project_platforms, project_platforms.c.id == chosen.c.platform_id
    )
    return (await connection.execute(query)).one_or_none()


async def count_received(connection: AsyncConnection, chosen: ReceivedFilter) -> int:
    """How many there are, at most `MOST_COUNTED`."""
    found = select(literal(1)).select_from(received_messages).where(*chosen.conditions()).limit(MOST_COUNTED).subquery()
    return (await connection.execute(select(func.count()).select_from(found))).scalar_one()


async def list_attachments(connection: AsyncConnection, message_ids: Collection[str]) -> Sequence[Row[Any]]:
    """The attachments of these messages, in the order in which they were stored."""
    table = message_attachments.c
    query = select(message_attachments).where(table.message_id.in_(message_ids)).order_by(table.id)
    return (await connection.execute(query)).all()


async def list_reactions(
    connection: AsyncConnection, project_id: str, messages: Collection[tuple[str, str]]
) -> Sequence[Row[Any]]:
    """What was added and removed on these messages (platform id, provider's message id), newest first.

    At most `MOST_REACTIONS` rows, each with the identity of who reacted.
    """
    table = received_reactions.c
    columns = [column for column in table if column is not table.raw_data]
    found = (
        select(*columns)
        .where(table.project_id == project_id, tuple_(table.platform_id, table.provider_message_id).in_(messages))
        .order_by(table.id.desc())
        .limit(MOST_REACTIONS)
        .subquery()
    )
    query = _with_identity(select(found), found.c).order_by(found.c.id.desc())
    return (await connection.execute(query)).all()


async def summarize_received(
    connection: AsyncConnection, project_id: str, recent_since: datetime
) -> tuple[Row[int, int, int, int], Sequence[Row[Any, int]]]:
    """Counts over a project's newest `MOST_COUNTED` messages.

    One row of `total`, `recent` (received since that moment), `users` and `chats`; and rows of `platform` and `number`.
    """
    table = received_messages.c
    newest = (
        select(table.platform, table.provider_user_id, table.provider_chat_id, table.received_at)
        .where(table.project_id == project_id)
        .order_by(table.id.desc())
        .limit(MOST_COUNTED)
        .subquery()
    )
    totals = select(
        func.count().label("total"),
        func.count(case((newest.c.received_at >= recent_since, 1))).label("recent"),
        func.count(newest.c.provider_user_id.distinct()).label("users"),
        func.count(newest.c.provider_chat_id.distinct()).label("chats"),
    ).select_from(newest)
    by_platform = (
        select(newest.c.platform, func.count().label("number")).group_by(newest.c.platform).order_by(newest.c.platform)
    )
    return (await connection.execute(totals)).one(), (await connection.execute(by_platform)).all()


async def delete_received_before(
    connection: AsyncConnection, project_id: str, moment: datetime, *, after: str, limit: int
) -> Sequence[str]:
    """Delete up to `limit` messages with ids above `after` that were received before a moment, oldest first.

    Their attachments and the reactions to them go too. Gives the ids; call again with the last one.
    """
    table = received_messages.c
    chosen = (
        select(table.id, table.platform_id, table.provider_message_id)
        .where(
            table.project_id == project_id,
            table.id > after,
            table.id < _id_after(moment),
            table.received_at < moment,
        )
        .order_by(table.id)
        .limit(limit)
    )
    rows = (await connection.execute(chosen)).all()
    if rows:
        reacted = tuple_(received_reactions.c.platform_id, received_reactions.c.provider_message_id)
        about = [(row.platform_id, row.provider_message_id) for row in rows]
        await connection.execute(delete(received_reactions).where(reacted.in_(about)))
        await connection.execute(delete(received_messages).where(table.id.in_([row.id for row in rows])))
    return [row.id for row in rows]


def _with_identity(query: Select[Any], who: Any) -> Select[Any]:
    """Add who is behind a row's `platform_id` and `provider_user_id`, where that is known."""
    is_alias = and_(
        identity_aliases.c.platform_id == who.platform_id,
        identity_aliases.c.provider_user_id == who.provider_user_id,
        identity_aliases.c.project_id == who.project_id,
    )
    return (
        query.add_columns(
            identities.c.id.label("identity_id"),
            identities.c.display_name.label("identity_name"),
            identities.c.email.label("identity_email"),
        )
        .outerjoin(identity_aliases, is_alias)
        .outerjoin(identities, identities.c.id == identity_aliases.c.identity_id)
    )


def _id_before(moment: datetime) -> str:
    return earliest_id(max(moment, _FIRST_MOMENT) - _SLACK)


def _id_after(moment: datetime) -> str:
    return earliest_id(max(min(moment, _LAST_MOMENT), _FIRST_MOMENT) + _SLACK)

"""Queries on the sessions of browsers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.database import Database
from msgcore.store.tables import sessions, users

PURGED_AT_ONCE = 1000


async def insert_session(connection: AsyncConnection, row: dict[str, Any], *, most: int) -> None:
    """Add a session; of its user's, only so many of the newest stay."""
    await connection.execute(insert(sessions).values(row))
    of_user = sessions.c.user_id == row["user_id"]
    newest = select(sessions.c.id).where(of_user).order_by(sessions.c.id.desc()).limit(most)
    await connection.execute(delete(sessions).where(of_user, sessions.c.id.not_in(newest)))


async def find_session(connection: AsyncConnection, token_hash: str) -> Row[Any] | None:
    """A session with its user's columns (`id` is the user's), by the digest of its token."""
    query = select(
        sessions.c.id.label("session_id"), sessions.c.signed_in_at, sessions.c.idle_at, sessions.c.expires_at, users
    ).join_from(sessions, users)
    return (await connection.execute(query.where(sessions.c.token_hash == token_hash))).one_or_none()


async def keep_session(connection: AsyncConnection, session_id: str, until: datetime) -> None:
    """Let a session, if it is still there, end later."""
    await connection.execute(update(sessions).where(sessions.c.id == session_id).values(idle_at=until))


async def delete_session(connection: AsyncConnection, session_id: str) -> None:
    """End a session."""
    await connection.execute(delete(sessions).where(sessions.c.id == session_id))


async def purge_sessions(database: Database, before: datetime) -> int:
    """Delete up to 1,000 sessions that ended before a moment; returns how many, to be called while any were."""
    some = select(sessions.c.id).where(sessions.c.idle_at < before).limit(PURGED_AT_ONCE)
    async with database.write() as connection:
        gone = await connection.execute(delete(sessions).where(sessions.c.id.in_(some)))
        return gone.rowcount

"""Queries on the attempts to sign in that failed, or have not succeeded yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.database import Database
from msgcore.store.tables import sign_in_attempts

FORGOTTEN_AT_ONCE = 1000


async def lock_attempts(connection: AsyncConnection, subjects: Sequence[str], now: datetime) -> dict[str, Row[Any]]:
    """The rows of these subjects, made where there were none; transactions on the same one take turns from here on."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    ordered = sorted(subjects)  # always in the same order, so that no two wait for each other
    fresh = [{"subject": subject, "failures": 0, "forget_at": now} for subject in ordered]
    # A row that is there is written as it is, which locks it: one that was only looked at may go before that.
    statement = insert(sign_in_attempts).values(fresh)
    same = {"forget_at": sign_in_attempts.c.forget_at}
    statement = statement.on_conflict_do_update(index_elements=["subject"], set_=same).returning(sign_in_attempts)
    return {row.subject: row for row in await connection.execute(statement)}


async def update_attempts(connection: AsyncConnection, subject: str, values: dict[str, Any]) -> None:
    """Change columns of a subject."""
    statement = update(sign_in_attempts).where(sign_in_attempts.c.subject == subject)
    await connection.execute(statement.values(values))


async def delete_attempts(connection: AsyncConnection, subject: str) -> None:
    """Forget what a subject did."""
    await connection.execute(delete(sign_in_attempts).where(sign_in_attempts.c.subject == subject))


async def forget_attempts(database: Database, now: datetime) -> int:
    """Delete up to 1,000 subjects whose time is over; returns how many, to be called again."""
    over = sign_in_attempts.c.forget_at < now
    some = select(sign_in_attempts.c.subject).where(over).limit(FORGOTTEN_AT_ONCE)
    async with database.write() as connection:
        gone = await connection.execute(delete(sign_in_attempts).where(sign_in_attempts.c.subject.in_(some), over))
        return gone.rowcount

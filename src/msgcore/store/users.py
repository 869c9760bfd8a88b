"""Queries on users."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.tables import users


async def find_user(connection: AsyncConnection, user_id: str) -> Row[Any] | None:
    """A user by id."""
    return (await connection.execute(select(users).where(users.c.id == user_id))).one_or_none()


async def find_user_by_subject(connection: AsyncConnection, subject: str) -> Row[Any] | None:
    """A user by what their identity provider calls them."""
    return (await connection.execute(select(users).where(users.c.auth0_id == subject))).one_or_none()


async def lock_user(connection: AsyncConnection, user_id: str) -> Row[Any] | None:
    """A user by id, whom nobody else changes until this transaction ends."""
    query = select(users).where(users.c.id == user_id).with_for_update(key_share=True)
    return (await connection.execute(query)).one_or_none()


async def find_user_by_email(connection: AsyncConnection, email: str) -> Row[Any] | None:
    """A user by e-mail address, written as it is stored (lower case)."""
    return (await connection.execute(select(users).where(users.c.email == email))).one_or_none()


async def has_local_user(connection: AsyncConnection) -> bool:
    """Whether anybody can sign in with a password."""
    query = select(users.c.id).where(users.c.password_hash.is_not(None)).limit(1)
    return (await connection.execute(query)).first() is not None


async def insert_user(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """Add a user. Raises IntegrityError when the address is taken."""
    await connection.execute(insert(users).values(row))


async def update_user(connection: AsyncConnection, user_id: str, values: dict[str, Any]) -> None:
    """Change columns of a user."""
    await connection.execute(update(users).where(users.c.id == user_id).values(values))


async def replace_hash(connection: AsyncConnection, user_id: str, old: str, new: str) -> None:
    """Write a better hash of the same password, unless the password was changed meanwhile."""
    same = (users.c.id == user_id) & (users.c.password_hash == old)
    await connection.execute(update(users).where(same).values(password_hash=new))

"""Queries on API keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.key_news import tell_key
from msgcore.store.projects import hold_project
from msgcore.store.tables import api_key_scopes, api_keys, users


async def find_key_by_digest(connection: AsyncConnection, digest: str) -> Row[Any] | None:
    """A key by the SHA-256 of its secret, whether it still works or not."""
    return (await connection.execute(select(api_keys).where(api_keys.c.key_hash == digest))).one_or_none()


async def find_key(connection: AsyncConnection, project_id: str, key_id: str) -> Row[Any] | None:
    """A key of a project."""
    return (await connection.execute(_of_project(project_id, key_id))).one_or_none()


async def lock_key(connection: AsyncConnection, project_id: str, key_id: str) -> Row[Any] | None:
    """A key of a project, which nobody else ends until this transaction does; nor deletes anybody the project."""
    await hold_project(connection, project_id)  # first, as who deletes the project does
    return (await connection.execute(_of_project(project_id, key_id).with_for_update(key_share=True))).one_or_none()


async def find_maker(connection: AsyncConnection, key_id: str) -> Row[Any] | None:
    """The user who made a key, or the first of the keys by which it was made."""
    query = select(users).join(api_keys, api_keys.c.created_by == users.c.id).where(api_keys.c.id == key_id)
    return (await connection.execute(query)).one_or_none()


def end_of(key: Row[Any]) -> datetime | None:
    """Until when a key works: it expires, was rolled or revoked. None: until it is revoked."""
    return min((at for at in (key.expires_at, key.revoked_at) if at is not None), default=None)


async def list_keys(connection: AsyncConnection, project_id: str, now: datetime) -> Sequence[Row[Any]]:
    """The keys of a project that are not revoked at this moment, oldest first."""
    query = (
        select(api_keys)
        .where(api_keys.c.project_id == project_id, or_(api_keys.c.revoked_at.is_(None), api_keys.c.revoked_at > now))
        .order_by(api_keys.c.id)
    )
    return (await connection.execute(query)).all()


async def scopes_of_keys(connection: AsyncConnection, key_ids: Sequence[str]) -> dict[str, list[str]]:
    """The scopes of these keys, sorted, by key id."""
    query = select(api_key_scopes).where(api_key_scopes.c.api_key_id.in_(key_ids)).order_by(api_key_scopes.c.scope)
    scopes: dict[str, list[str]] = defaultdict(list)
    for row in await connection.execute(query):
        scopes[row.api_key_id].append(row.scope)
    return scopes


async def count_unrevoked_keys(connection: AsyncConnection, project_id: str) -> int:
    """How many keys of a project nobody has revoked or rolled."""
    query = select(func.count()).where(api_keys.c.project_id == project_id, api_keys.c.revoked_at.is_(None))
    return (await connection.execute(query)).scalar_one()


async def insert_key(connection: AsyncConnection, row: dict[str, Any], scopes: Sequence[str]) -> None:
    """Add a key with its scopes."""
    await connection.execute(insert(api_keys).values(row))
    await connection.execute(insert(api_key_scopes), [{"api_key_id": row["id"], "scope": scope} for scope in scopes])


async def revoke_key(connection: AsyncConnection, key_id: str, at: datetime) -> None:
    """Let a key end at this moment; every process hears of it."""
    await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=at))
    await tell_key(connection, key_id)


async def touch_keys(connection: AsyncConnection, used: Mapping[str, datetime]) -> None:
    """Note when keys were last used."""
    statement = update(api_keys).where(api_keys.c.id == bindparam("key_id")).values(last_used_at=bindparam("moment"))
    await connection.execute(statement, [{"key_id": key, "moment": moment} for key, moment in sorted(used.items())])


def _of_project(project_id: str, key_id: str) -> Select[Any]:
    return select(api_keys).where(api_keys.c.id == key_id, api_keys.c.project_id == project_id)

"""Queries on configured platforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.tables import project_platforms


async def find_platform(connection: AsyncConnection, project_id: str, platform_id: str) -> Row[Any] | None:
    """A configured platform of a project."""
    query = select(project_platforms).where(
        project_platforms.c.id == platform_id, project_platforms.c.project_id == project_id
    )
    return (await connection.execute(query)).one_or_none()


async def list_platforms(connection: AsyncConnection, project_id: str) -> Sequence[Row[Any]]:
    """The configured platforms of a project, oldest first."""
    query = select(project_platforms).where(project_platforms.c.project_id == project_id)
    return (await connection.execute(query.order_by(project_platforms.c.id))).all()


async def insert_platform(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """Add a configured platform."""
    await connection.execute(insert(project_platforms).values(row))


async def update_platform(connection: AsyncConnection, platform_id: str, values: dict[str, Any]) -> None:
    """Change columns of a configured platform."""
    await connection.execute(update(project_platforms).where(project_platforms.c.id == platform_id).values(values))


async def delete_platform(connection: AsyncConnection, platform_id: str) -> None:
    """Remove a configured platform with what hangs on it."""
    await connection.execute(delete(project_platforms).where(project_platforms.c.id == platform_id))

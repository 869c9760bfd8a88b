"""Queries on configured platforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.tables import project_platforms, projects


def _with_project() -> Select[Any]:
    """Platforms with the pause of their project."""
    return select(
        project_platforms,
        projects.c.paused_at.label("project_paused_at"),
        projects.c.paused_reason.label("project_paused_reason"),
    ).join(projects, projects.c.id == project_platforms.c.project_id)


async def find_platform(connection: AsyncConnection, project_id: str, platform_id: str) -> Row[Any] | None:
    """A configured platform of a project, with `project_paused_at` and `project_paused_reason`."""
    query = _with_project().where(project_platforms.c.id == platform_id, project_platforms.c.project_id == project_id)
    return (await connection.execute(query)).one_or_none()


async def list_platforms(connection: AsyncConnection, project_id: str | None) -> Sequence[Row[Any]]:
    """The configured platforms of a project (None: of all), as `find_platform` gives them, oldest first."""
    query = _with_project().order_by(project_platforms.c.id)
    if project_id is not None:
        query = query.where(project_platforms.c.project_id == project_id)
    return (await connection.execute(query)).all()


async def find_project_of(connection: AsyncConnection, platform_id: str) -> str | None:
    """The project that a configured platform belongs to."""
    query = select(project_platforms.c.project_id).where(project_platforms.c.id == platform_id)
    return (await connection.execute(query)).scalar_one_or_none()


async def count_platforms(connection: AsyncConnection, project_id: str) -> int:
    """How many configured platforms a project has."""
    query = select(func.count()).where(project_platforms.c.project_id == project_id)
    return (await connection.execute(query)).scalar_one()


async def insert_platform(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """Add a configured platform."""
    await connection.execute(insert(project_platforms).values(row))


async def update_platform(connection: AsyncConnection, platform_id: str, values: dict[str, Any]) -> None:
    """Change columns of a configured platform."""
    await connection.execute(update(project_platforms).where(project_platforms.c.id == platform_id).values(values))


async def delete_platform(connection: AsyncConnection, platform_id: str) -> None:
    """Remove a configured platform with what hangs on it."""
    await connection.execute(delete(project_platforms).where(project_platforms.c.id == platform_id))

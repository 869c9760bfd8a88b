"""Pauses of platforms and projects, each written with the event and the log entries that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.events import EventType
from msgcore.core.ids import new_id
from msgcore.store.events import NewEvent, append
from msgcore.store.projects import keep_project
from msgcore.store.tables import platform_logs, project_platforms, projects


class PausedBy(StrEnum):
    """Why a platform is paused, which decides what ends it."""

    USER = "user"
    """Somebody asked for it; ends when somebody resumes it."""
    CREDENTIALS = "credentials"
    """The platform refused them; ends also when they are changed."""


async def lock_platform(connection: AsyncConnection, project_id: str, platform_id: str) -> Row[Any] | None:
    """A configured platform of a project, which nobody else changes until the transaction ends."""
    await keep_project(connection, project_id)
    query = select(project_platforms).where(
        project_platforms.c.id == platform_id, project_platforms.c.project_id == project_id
    )
    return (await connection.execute(query.with_for_update())).one_or_none()


async def lock_project(connection: AsyncConnection, project_id: str) -> Row[Any] | None:
    """A project, which nobody else changes until the transaction ends."""
    query = select(projects).where(projects.c.id == project_id)
    return (await connection.execute(query.with_for_update())).one_or_none()


async def pause_platform(connection: AsyncConnection, platform: Row[Any], reason: str | None, now: datetime) -> None:
    """Hold a platform's deliveries because a user asked for it."""
    await _set_platform(connection, platform, paused_at=now, paused_by=PausedBy.USER, paused_reason=reason)
    await _log(connection, [platform], "warn", _because("Paused on request", reason), now)
    told = {"by": PausedBy.USER, "reason": reason}
    await _tell_of_platform(connection, EventType.PLATFORM_PAUSED, platform, told, now)


async def resume_platform(connection: AsyncConnection, platform: Row[Any], now: datetime) -> None:
    """Let a platform's deliveries go on, whoever paused it."""
    await _set_platform(connection, platform, paused_at=None, paused_by=None, paused_reason=None)
    await _log(connection, [platform], "info", "Resumed", now)
    await _tell_of_platform(connection, EventType.PLATFORM_RESUMED, platform, {"by": platform.paused_by}, now)


async def pause_project(connection: AsyncConnection, project_id: str, reason: str | None, now: datetime) -> None:
    """Hold the deliveries of all platforms of a project, of later ones too."""
    await _set_project(connection, project_id, paused_at=now, paused_reason=reason)
    platforms = await _platforms_of(connection, project_id)
    await _log(connection, platforms, "warn", _because("Paused with its project", reason), now)
    await _tell(connection, EventType.PROJECT_PAUSED, project_id, None, {"reason": reason}, now)


async def resume_project(connection: AsyncConnection, project_id: str, now: datetime) -> None:
    """Let the deliveries of a project go on, except for those of platforms that are themselves paused."""
    await _set_project(connection, project_id, paused_at=None, paused_reason=None)
    await _log(connection, await _platforms_of(connection, project_id), "info", "Resumed with its project", now)
    await _tell(connection, EventType.PROJECT_RESUMED, project_id, None, {}, now)


async def _set_platform(connection: AsyncConnection, platform: Row[Any], **values: Any) -> None:
    # `updated_at` stays: it is the version of the credentials, which adapters keep connections by.
    same = project_platforms.c.id == platform.id
    await connection.execute(update(project_platforms).where(same).values(values))


async def _set_project(connection: AsyncConnection, project_id: str, **values: Any) -> None:
    await connection.execute(update(projects).where(projects.c.id == project_id).values(values))


async def _platforms_of(connection: AsyncConnection, project_id: str) -> Sequence[Any]:
    columns = (project_platforms.c.id, project_platforms.c.project_id, project_platforms.c.platform)
    return (await connection.execute(select(*columns).where(project_platforms.c.project_id == project_id))).all()


async def _log(connection: AsyncConnection, platforms: Sequence[Any], level: str, message: str, now: datetime) -> None:
    rows = [
        {
            "id": new_id(),
            "project_id": platform.project_id,
            "platform_id": platform.id,
            "platform": platform.platform,
            "level": level,
            "category": "general",
            "message": message,
            "timestamp": now,
        }
        for platform in platforms
    ]
    if rows:
        await connection.execute(insert(platform_logs), rows)


async def _tell_of_platform(
    connection: AsyncConnection, kind: EventType, platform: Row[Any], data: dict[str, Any], now: datetime
) -> None:
    about = {"platform_id": platform.id, "platform": platform.platform}
    await _tell(connection, kind, platform.project_id, platform.id, about | data, now)


async def _tell(
    connection: AsyncConnection,
    kind: EventType,
    project_id: str,
    platform_id: str | None,
    data: dict[str, Any],
    now: datetime,
) -> None:
    event = NewEvent(project_id, kind, data, now, platform_id)
    await connection.run_sync(append, [event])


def _because(what: str, reason: str | None) -> str:
    return what if reason is None else f"{what}: {reason}"

"""What `msgcore platforms` and `msgcore projects` do."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from msgcore.cli.operators import operator_database, plain, print_json, print_table, read_id, require_project
from msgcore.config import Settings
from msgcore.core.clock import SystemClock, to_iso
from msgcore.core.errors import NotFoundError
from msgcore.services.pausing import LONGEST_REASON, PauseService, PauseView, pause_of
from msgcore.store.database import Database
from msgcore.store.platforms import find_project_of
from msgcore.store.platforms import list_platforms as platforms_of
from msgcore.store.projects import list_projects as all_projects


async def list_platforms(settings: Settings, project: str | None, *, as_json: bool) -> None:
    """Print the configured platforms of a project, or of all."""
    async with operator_database(settings) as database:
        if project is not None:
            await require_project(database, project)
        async with database.read() as connection:
            rows = await platforms_of(connection, project)
    found = [
        {
            "id": row.id,
            "projectId": row.project_id,
            "platform": row.platform,
            "name": row.name,
            "isActive": row.is_active,
            **_shown(pause_of(row)),
        }
        for row in rows
    ]
    _print(found, as_json=as_json)


async def list_projects(settings: Settings, *, as_json: bool) -> None:
    """Print all projects."""
    async with operator_database(settings) as database, database.read() as connection:
        rows = await all_projects(connection, user_id=None)
    found = [
        {
            "id": row.id,
            "name": row.name,
            "environment": row.environment,
            "platforms": row.platform_count,
            "paused": row.paused_at is not None,
            "pausedAt": row.paused_at and to_iso(row.paused_at),
            "pausedReason": row.paused_reason,
        }
        for row in rows
    ]
    _print(found, as_json=as_json)


async def pause_platform(settings: Settings, platform_id: str, reason: str | None) -> None:
    """Pause a platform, and say so. Raises NotFoundError."""
    _check_reason(reason)
    async with operator_database(settings) as database:
        project, known_id = await _find(database, platform_id)
        changed = await _service(database).pause_platform(None, project, known_id, reason)
    print("paused; messages to it wait" if changed else "it was paused before")


async def resume_platform(settings: Settings, platform_id: str) -> None:
    """Resume a platform, and say so. Raises NotFoundError."""
    async with operator_database(settings) as database:
        project, known_id = await _find(database, platform_id)
        changed = await _service(database).resume_platform(None, project, known_id)
    print("resumed" if changed else "it was not paused")


async def pause_project(settings: Settings, project: str, reason: str | None) -> None:
    """Pause a project, and say so. Raises NotFoundError."""
    _check_reason(reason)
    async with operator_database(settings) as database:
        await require_project(database, project)
        changed = await _service(database).pause_project(None, project, reason)
    print("paused; messages to its platforms wait" if changed else "it was paused before")


async def resume_project(settings: Settings, project: str) -> None:
    """Resume a project, and say so. Raises NotFoundError."""
    async with operator_database(settings) as database:
        await require_project(database, project)
        changed = await _service(database).resume_project(None, project)
    print("resumed" if changed else "it was not paused")


async def _find(database: Database, platform_id: str) -> tuple[str, str]:
    known_id = read_id(platform_id)
    async with database.read() as connection:
        project = await find_project_of(connection, known_id)
    if project is None:
        raise NotFoundError(f"there is no platform {known_id}; msgcore platforms list shows them")
    return project, known_id


def _service(database: Database) -> PauseService:
    async def on_change(_platform_id: str) -> None:
        """A gateway that runs looks into the database by itself."""

    return PauseService(database=database, clock=SystemClock(), on_platform_change=on_change)


def _check_reason(reason: str | None) -> None:
    if reason is not None and not 1 <= len(reason) <= LONGEST_REASON:
        raise typer.BadParameter(f"--reason must have 1 to {LONGEST_REASON} characters")


def _shown(pause: PauseView | None) -> dict[str, Any]:
    at = None if pause is None else to_iso(pause.at)
    by, reason = (None, None) if pause is None else (pause.by, pause.reason)
    return {"paused": pause is not None, "pausedAt": at, "pausedBy": by, "pausedReason": reason}


def _print(found: list[dict[str, Any]], *, as_json: bool) -> None:
    """As JSON, or as a table with the same columns."""
    if as_json:
        for row in found:
            print_json(row)
    elif found:
        table = Table(*found[0])
        table.columns[0].no_wrap = True
        for row in found:
            table.add_row(*(plain(_word(value)) for value in row.values()))
        print_table(table)
    else:
        print("there are none")


def _word(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value

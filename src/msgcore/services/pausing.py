"""Pausing: a platform, or all platforms of a project, take messages but send none until they are resumed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import NotFoundError
from msgcore.core.ids import canonical_id
from msgcore.core.scopes import Principal
from msgcore.store import pauses
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.pauses import PausedBy
from msgcore.store.platforms import list_platforms

LONGEST_REASON = 500
"""Characters of the reason that somebody gives for a pause."""


@dataclass(frozen=True, slots=True)
class PauseView:
    """Why a platform's deliveries wait: `by` is user, credentials, or project when the whole project is paused."""

    at: datetime
    by: Literal["user", "credentials", "project"]
    reason: str | None


def pause_of(platform: Any) -> PauseView | None:
    """A platform's own pause, else that of its project; from a row of `store.platforms`."""
    if platform.paused_at is not None:
        return PauseView(platform.paused_at, platform.paused_by, platform.paused_reason)
    if platform.project_paused_at is not None:
        return PauseView(platform.project_paused_at, "project", platform.project_paused_reason)
    return None


class PauseService:
    """Pauses and resumes. What is done already is left as it is, so a request may be repeated.

    `actor` is who asks, None for the operator on the command line. Each call tells whether it changed anything.
    """

    def __init__(
        self, *, database: Database, clock: Clock, on_platform_change: Callable[[str], Awaitable[None]]
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_platform_change = on_platform_change

    async def pause_platform(
        self, actor: Principal | None, project_id: str, platform_id: str, reason: str | None
    ) -> bool:
        """Hold a platform's deliveries until somebody resumes it. Raises NotFoundError.

        On a platform that is paused because of its credentials this becomes the reason.
        """
        now = self._clock.now()
        async with self._database.write() as connection:
            row = await _platform(connection, project_id, platform_id)
            if row.paused_by == PausedBy.USER and reason in (None, row.paused_reason):
                return False
            await pauses.pause_platform(connection, row, reason, now)
            after = {"reason": reason}
            await record_audit(
                connection, actor, "platform.paused", row.id, project_id=project_id, now=now, after=after
            )
        await self._on_platform_change(row.id)
        return True

    async def resume_platform(self, actor: Principal | None, project_id: str, platform_id: str) -> bool:
        """Let a platform's deliveries go on, whether a user paused it or refused credentials did.

        Raises NotFoundError.
        """
        now = self._clock.now()
        async with self._database.write() as connection:
            row = await _platform(connection, project_id, platform_id)
            if row.paused_at is None:
                return False
            await pauses.resume_platform(connection, row, now)
            before = {"by": row.paused_by, "reason": row.paused_reason}
            await record_audit(
                connection, actor, "platform.resumed", row.id, project_id=project_id, now=now, before=before
            )
        await self._on_platform_change(row.id)
        return True

    async def pause_project(self, actor: Principal | None, project_id: str, reason: str | None) -> bool:
        """Hold the deliveries of all platforms of a project, of later ones too. Raises NotFoundError."""
        now = self._clock.now()
        async with self._database.write() as connection:
            row = await _project(connection, project_id)
            if row.paused_at is not None and reason in (None, row.paused_reason):
                return False
            await pauses.pause_project(connection, project_id, reason, now)
            after = {"reason": reason}
            await record_audit(
                connection, actor, "project.paused", project_id, project_id=project_id, now=now, after=after
            )
        await self._tell_platforms(project_id)
        return True

    async def resume_project(self, actor: Principal | None, project_id: str) -> bool:
        """Let a project's deliveries go on; platforms that are themselves paused stay so. Raises NotFoundError."""
        now = self._clock.now()
        async with self._database.write() as connection:
            row = await _project(connection, project_id)
            if row.paused_at is None:
                return False
            await pauses.resume_project(connection, project_id, now)
            before = {"reason": row.paused_reason}
            await record_audit(
                connection, actor, "project.resumed", project_id, project_id=project_id, now=now, before=before
            )
        await self._tell_platforms(project_id)
        return True

    async def _tell_platforms(self, project_id: str) -> None:
        async with self._database.read() as connection:
            rows = await list_platforms(connection, project_id)
        for row in rows:
            await self._on_platform_change(row.id)


async def _platform(connection: AsyncConnection, project_id: str, platform_id: str) -> Any:
    canonical = canonical_id(platform_id)
    row = None if canonical is None else await pauses.lock_platform(connection, project_id, canonical)
    if row is None:
        raise NotFoundError(f"Platform with id '{platform_id[:64]}' not found")
    return row


async def _project(connection: AsyncConnection, project_id: str) -> Any:
    row = await pauses.lock_project(connection, project_id)
    if row is None:
        raise NotFoundError(f"Project '{project_id[:64]}' not found")
    return row

"""Reading the audit log, page by page or all of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from msgcore.core.errors import NotFoundError
from msgcore.store.audit import AuditFilter, list_audit
from msgcore.store.database import Database
from msgcore.store.projects import find_project

EXPORTED_AT_ONCE = 500


class AuditService:
    """Lists and exports what was written; nothing changes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_project(self, chosen: AuditFilter, project_id: str) -> AuditFilter:
        """What is chosen of a project's own entries: ids are free again once a project is deleted, its entries stay.

        Raises NotFoundError.
        """
        async with self._database.read() as connection:
            project = await find_project(connection, project_id)
        if project is None:
            raise NotFoundError(f"Project '{project_id}' not found")
        since = project.created_at if chosen.since is None else max(chosen.since, project.created_at)
        return replace(chosen, project_id=project_id, since=since)

    async def list(self, chosen: AuditFilter, *, limit: int, before: str | None) -> Sequence[Any]:
        """A page, newest first."""
        async with self._database.read() as connection:
            return await list_audit(connection, chosen, limit=limit, before=before)

    async def export(self, chosen: AuditFilter) -> AsyncGenerator[Sequence[Any]]:
        """All of it, newest first, a page at a time; what comes in meanwhile is left out. No page is empty."""
        before: str | None = None
        while page := await self.list(chosen, limit=EXPORTED_AT_ONCE, before=before):
            yield page
            before = page[-1].id

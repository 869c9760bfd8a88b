"""What a pause leaves behind: events, log entries, audit rows; and that repeating it leaves nothing."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text

from msgcore.core.clock import SystemClock
from msgcore.core.errors import NotFoundError
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.services.pausing import PauseService
from msgcore.store.database import Database
from msgcore.store.ledger.feed import Feed
from msgcore.store.tables import audit_logs, events, platform_logs
from store.ledger_rows import ACCOUNT, CALLER, PROJECT, add_project

ANN = Principal("jwt", CALLER)


class Office:
    """The service, and whom it told of changes."""

    def __init__(self, database: Database) -> None:
        self.told: list[str] = []
        self.database = database
        self.service = PauseService(database=database, clock=SystemClock(), on_platform_change=self._changed)

    async def _changed(self, platform_id: str) -> None:
        self.told.append(platform_id)

    async def rows(self, table: Any, *columns: str) -> list[tuple[Any, ...]]:
        async with self.database.read() as connection:
            found = await connection.execute(select(*(table.c[name] for name in columns)).order_by(table.c.id))
        return [tuple(row) for row in found]

    async def held(self) -> set[str]:
        return await Feed(self.database).held_accounts()


@pytest.fixture
async def office(database: Database) -> Office:
    await add_project(database)
    return Office(database)


async def test_a_platform(office: Office) -> None:
    assert await office.service.pause_platform(ANN, PROJECT, ACCOUNT, "moving")
    assert await office.held() == {ACCOUNT}
    assert not await office.service.pause_platform(ANN, PROJECT, ACCOUNT, "moving")
    assert not await office.service.pause_platform(ANN, PROJECT, ACCOUNT, None)
    assert await office.service.pause_platform(None, PROJECT, ACCOUNT, "other reason")
    assert await office.service.resume_platform(ANN, PROJECT, ACCOUNT.upper())
    assert not await office.service.resume_platform(ANN, PROJECT, ACCOUNT)
    assert await office.held() == set()
    assert office.told == [ACCOUNT] * 3

    about = {"platform_id": ACCOUNT, "platform": "sandbox", "by": "user"}
    assert await office.rows(events, "type", "platform_id", "data") == [
        ("platform.paused", ACCOUNT, about | {"reason": "moving"}),
        ("platform.paused", ACCOUNT, about | {"reason": "other reason"}),
        ("platform.resumed", ACCOUNT, about),
    ]
    assert await office.rows(platform_logs, "level", "category", "message") == [
        ("warn", "general", "Paused on request: moving"),
        ("warn", "general", "Paused on request: other reason"),
        ("info", "general", "Resumed"),
    ]
    assert await office.rows(audit_logs, "actor_kind", "actor_id", "action", "subject_id") == [
        ("jwt", CALLER, "platform.paused", ACCOUNT),
        ("operator", None, "platform.paused", ACCOUNT),
        ("jwt", CALLER, "platform.resumed", ACCOUNT),
    ]


async def test_a_project(office: Office) -> None:
    other = new_id()
    await add_project(office.database, "other", other)
    assert await office.service.pause_project(ANN, PROJECT, None)
    assert not await office.service.pause_project(ANN, PROJECT, None)
    assert await office.held() == {ACCOUNT}
    assert await office.service.pause_platform(ANN, PROJECT, ACCOUNT, None)
    assert await office.service.resume_project(ANN, PROJECT)
    assert not await office.service.resume_project(ANN, PROJECT)
    assert await office.held() == {ACCOUNT}, "it is paused by itself"
    assert office.told == [ACCOUNT] * 3
    assert await office.rows(events, "type", "platform_id", "project_id") == [
        ("project.paused", None, PROJECT),
        ("platform.paused", ACCOUNT, PROJECT),
        ("project.resumed", None, PROJECT),
    ]
    assert [message for (message,) in await office.rows(platform_logs, "message")] == [
        "Paused with its project",
        "Paused on request",
        "Resumed with its project",
    ]
    assert await office.rows(audit_logs, "action", "subject_type", "subject_id", "project_id") == [
        ("project.paused", "project", PROJECT, PROJECT),
        ("platform.paused", "platform", ACCOUNT, PROJECT),
        ("project.resumed", "project", PROJECT, PROJECT),
    ]


async def test_what_is_not_there_or_anothers_is_not_found(office: Office) -> None:
    await add_project(office.database, "other", new_id())
    for project, platform_id in ((PROJECT, new_id()), (PROJECT, "x"), ("other", ACCOUNT), ("none", ACCOUNT)):
        with pytest.raises(NotFoundError, match="Platform with id"):
            await office.service.pause_platform(ANN, project, platform_id, None)
        with pytest.raises(NotFoundError, match="Platform with id"):
            await office.service.resume_platform(ANN, project, platform_id)
    with pytest.raises(NotFoundError, match="Project 'none'"):
        await office.service.pause_project(ANN, "none", None)
    with pytest.raises(NotFoundError, match="Project 'none'"):
        await office.service.resume_project(ANN, "none")
    assert (office.told, await office.held(), await office.rows(audit_logs, "id")) == ([], set(), [])


async def test_held_accounts_are_found_by_index(office: Office) -> None:
    """It is asked every other second, however many accounts there are."""
    query = (
        "SELECT id FROM project_platforms WHERE (paused_at IS NOT NULL OR is_active = false) "
        "UNION SELECT id FROM project_platforms WHERE project_id IN (SELECT id FROM projects WHERE paused_at IS NOT NULL)"
    )
    explain = "EXPLAIN QUERY PLAN " if office.database.kind == "sqlite" else "EXPLAIN "
    async with office.database.read() as connection:
        if office.database.kind == "postgresql":
            await connection.execute(text("SET enable_seqscan = off"))  # which it prefers for so few rows
        plan = str((await connection.execute(text(explain + query))).all())
    for index in ("ix_project_platforms_held", "ix_project_platforms_project_id_platform", "ix_projects_paused"):
        assert index in plan, plan

"""Projects that come and go at once; two services over one database stand for two processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import func, select

from msgcore.core.errors import ConflictError, ForbiddenError, NotFoundError
from msgcore.core.scopes import Principal
from msgcore.security.tokens import Tokens
from msgcore.services.api_keys import ApiKeyService
from msgcore.services.authenticator import Authenticator
from msgcore.services.projects import NewProject, ProjectService
from msgcore.store.database import Database
from msgcore.store.tables import projects
from servers.clock import FakeClock
from store.ledger_rows import PROJECT, add_project

TRIES = 5


@dataclass
class Office:
    """What manages projects and keys in one process."""

    projects: ProjectService
    keys: ApiKeyService

    @classmethod
    def open(cls, database: Database, clock: FakeClock) -> Office:
        async def nobody(platform_id: str) -> None:
            del platform_id

        authenticator = Authenticator(database, Tokens("s" * 32, clock), clock)
        common: dict[str, Any] = {"database": database, "authenticator": authenticator, "clock": clock}
        return cls(ProjectService(**common, on_platform_change=nobody), ApiKeyService(**common))


@pytest.fixture
async def offices(database: Database, database_url: str) -> AsyncIterator[tuple[Office, Office]]:
    clock, other = FakeClock(), Database.open(database_url)
    yield Office.open(database, clock), Office.open(other, clock)
    await other.close()


@pytest.fixture
async def owner(database: Database) -> Principal:
    await add_project(database)
    async with database.read() as connection:
        owner_id: Any = (await connection.execute(select(projects.c.owner_id))).scalar_one()
    return Principal("jwt", owner_id)


async def test_a_project_is_deleted_once_and_not_while_a_key_is_made(
    offices: tuple[Office, Office], owner: Principal
) -> None:
    here, there = offices
    for _ in range(TRIES):
        deletions = (office.projects.delete(owner, PROJECT) for office in offices)
        found = await asyncio.gather(*deletions, return_exceptions=True)
        assert {type(each) for each in found} <= {type(None), NotFoundError, ForbiddenError}
        assert found.count(None) == 1, found
        await here.projects.create(owner, NewProject("Shop", PROJECT))
        making = there.keys.create(owner, PROJECT, name="k", scopes=["messages:read"], expires_in=None)
        deleted, made = await asyncio.gather(here.projects.delete(owner, PROJECT), making, return_exceptions=True)
        if deleted is None:
            assert isinstance(made, NotFoundError)
            await here.projects.create(owner, NewProject("Shop", PROJECT))
        else:
            assert isinstance(deleted, ConflictError)
            await there.keys.revoke(owner, PROJECT, made.id)


async def test_an_owner_has_one_default_project(
    offices: tuple[Office, Office], owner: Principal, database: Database
) -> None:
    for number in range(TRIES):
        made = (
            office.projects.create(owner, NewProject("D", f"d{number}-{n}", is_default=True))
            for n, office in enumerate(offices)
        )
        await asyncio.gather(*made)
        async with database.read() as connection:
            count = select(func.count()).select_from(projects).where(projects.c.is_default)
            assert (await connection.execute(count)).scalar_one() == 1

"""Projects that come and go at once; two services over one database stand for two processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from msgcore.core.errors import ConflictError, ForbiddenError, NotFoundError
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.security.tokens import Tokens
from msgcore.services.api_keys import ApiKeyService
from msgcore.services.audit import AuditService
from msgcore.services.authenticator import Authenticator
from msgcore.services.most import MOST
from msgcore.services.projects import NewProject, ProjectService
from msgcore.store.audit import AuditFilter
from msgcore.store.database import Database
from msgcore.store.tables import projects
from msgcore.store.users import insert_user, update_user
from servers.clock import FakeClock
from store.ledger_rows import NOW, PROJECT, add_project

TRIES = 5


@dataclass
class Office:
    """What manages projects and keys in one process."""

    projects: ProjectService
    keys: ApiKeyService

    @classmethod
    def open(cls, database: Database, clock: FakeClock, **options: Any) -> Office:
        async def nobody(platform_id: str) -> None:
            del platform_id

        authenticator = Authenticator(database, Tokens("s" * 32, clock), clock)
        common: dict[str, Any] = {"database": database, "authenticator": authenticator, "clock": clock}
        return cls(ProjectService(**common, on_platform_change=nobody, **options), ApiKeyService(**common))


@pytest.fixture
async def offices(database: Database, database_url: str) -> AsyncIterator[tuple[Office, Office]]:
    # Its moments are before those of ids, which are real.
    clock, other = FakeClock(datetime.now(UTC) - timedelta(hours=1)), Database.open(database_url)
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


async def test_what_an_earlier_project_of_the_same_id_left_is_not_shown(
    offices: tuple[Office, Office], owner: Principal, database: Database
) -> None:
    """Even if all of it happens at one moment: the clock stands still here."""
    here, audit = offices[0], AuditService(database)
    for name in ("Mine", "Yours"):
        await here.projects.create(owner, NewProject(name, "reuse"))
        chosen = await audit.of_project(AuditFilter(), "reuse")
        [entry] = await audit.list(chosen, limit=10, before=None)
        assert (entry.action, entry.after["name"]) == ("project.created", name)
        await here.projects.delete(owner, "reuse")


async def test_another_default_project_is_written_down_for_the_one_before(
    offices: tuple[Office, Office], owner: Principal, database: Database
) -> None:
    projects_, audit = offices[0].projects, AuditService(database)
    for name in ("a", "b", "c"):
        await projects_.create(owner, NewProject(name, name, is_default=name != "c"))
    await projects_.update(owner, "c", {"is_default": True})
    for name in ("a", "b"):
        entry = (await audit.list(await audit.of_project(AuditFilter(), name), limit=1, before=None))[0]
        assert (entry.action, entry.before, entry.after) == (
            *("project.updated", {"isDefault": True}, {"isDefault": False}),
        )


async def test_nobody_makes_things_without_an_end(
    offices: tuple[Office, Office], owner: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {kind: most._replace(number=3) for kind, most in MOST.items()}
    monkeypatch.setattr("msgcore.services.most.MOST", few)
    made = [
        *(
            office.projects.create(owner, NewProject("P", f"p{n}-{m}"))
            for n, office in enumerate(offices)
            for m in "abc"
        ),
        *(
            office.keys.create(owner, PROJECT, name="k", scopes=["messages:read"], expires_in=None)
            for office in offices
            for _ in "abc"
        ),
    ]
    found = await asyncio.gather(*made, return_exceptions=True)
    refused = [each for each in found if isinstance(each, ConflictError)]
    assert len(found) - len(refused) == 2 + 3, "the project that was there counts"
    assert {each.message for each in refused} == {
        "A person owns at most 3 projects: delete one that is not used",
        "A project has at most 3 keys: revoke some that are not used, expired ones too",
    }


async def test_administrators_alone_make_projects_where_it_is_set_so(database: Database, owner: Principal) -> None:
    """With keys too: those of another admin, in a project that an administrator owns, do not."""
    office = Office.open(database, FakeClock(), creators="administrators")
    other = Principal("jwt", new_id())
    row = {"id": other.id, "email": "other@example.com", "is_admin": False, "created_at": NOW, "updated_at": NOW}
    async with database.write() as connection:
        await insert_user(connection, row)

    async def key_of(maker: Principal) -> Principal:
        scopes = frozenset(["projects:write", "keys:write"])
        made = await office.keys.create(maker, PROJECT, name="k", scopes=sorted(scopes), expires_in=None)
        return Principal("api-key", made.id, project_id=PROJECT, scopes=scopes)

    keys = [await key_of(owner), await key_of(other)]
    keys += [await key_of(key) for key in keys]
    own, foreign = keys[::2], keys[1::2]

    async def refused(*callers: Principal) -> None:
        for caller in callers:
            with pytest.raises(ForbiddenError, match=r"Only administrators .*MSGCORE_PROJECT_CREATION"):
                await office.projects.create(caller, NewProject("New", "new"))

    await refused(owner, other, *keys)
    async with database.write() as connection:
        await update_user(connection, owner.id, {"is_admin": True})
    await refused(other, *foreign)
    for number, caller in enumerate((owner, *own)):
        await office.projects.create(caller, NewProject("New", f"new{number}"))
    async with database.write() as connection:
        await update_user(connection, owner.id, {"is_admin": False})
    await refused(*own)

"""What is known about keys ends with them in every process.

The clock stands still, so what is kept would be kept for ever: that it goes is the news' doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from msgcore.core.errors import UnauthenticatedError
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.security.tokens import Tokens
from msgcore.services.api_keys import ApiKeyService
from msgcore.services.authenticator import Authenticator
from msgcore.store.database import Database
from msgcore.store.projects import delete_project
from msgcore.store.tables import projects
from servers.clock import FakeClock
from servers.patience import PATIENCE
from servers.postgres import PostgresServer
from store.ledger_rows import PROJECT, add_project

DEAFEN = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%msgcore_keys%'"


@dataclass
class Office:
    """Two authenticators as of two processes; keys are managed at the first."""

    keys: ApiKeyService
    here: Authenticator
    there: Authenticator
    owner: Principal

    async def known_key(self) -> tuple[str, str]:
        """A key that is answered for from memory at both; its id and itself."""
        made = await self.keys.create(self.owner, PROJECT, name="k", scopes=["messages:read"], expires_in=None)
        for authenticator in (self.here, self.there):
            await eventually(authenticator, made.secret, known=True)
        return made.id, made.secret


async def eventually(authenticator: Authenticator, key: str, *, known: bool) -> None:
    """Until a key is answered for from memory, or is not."""
    async with asyncio.timeout(PATIENCE):
        while (authenticator.recall(key) is not None) != known:
            if known:
                await authenticator.authenticate(key, None)
            await asyncio.sleep(0.01)


@pytest.fixture
async def office(postgres_url: str) -> AsyncIterator[Office]:
    clock, databases = FakeClock(), [Database.open(postgres_url) for _ in range(2)]
    here, there = (Authenticator(database, Tokens("s" * 32, clock), clock) for database in databases)
    await add_project(databases[0])
    async with databases[0].read() as connection:
        owner_id: Any = (await connection.execute(select(projects.c.owner_id))).scalar_one()
    keys = ApiKeyService(database=databases[0], authenticator=here, clock=clock)
    for authenticator in (here, there):
        authenticator.start()
    yield Office(keys, here, there, Principal("jwt", owner_id))
    for authenticator in (here, there):
        await authenticator.close()
    for database in databases:
        await database.close()


async def test_a_key_that_is_revoked(office: Office) -> None:
    key_id, key = await office.known_key()
    _, other = await office.known_key()
    await office.keys.revoke(office.owner, PROJECT, key_id)
    assert office.here.recall(key) is None
    await eventually(office.there, key, known=False)
    with pytest.raises(UnauthenticatedError, match="revoked"):
        await office.there.authenticate(key, None)
    assert office.there.recall(other) is not None


async def test_the_keys_of_a_project_that_is_deleted(office: Office) -> None:
    _, key = await office.known_key()
    async with office.keys._database.write() as connection:
        await delete_project(connection, PROJECT)
    for authenticator in (office.here, office.there):
        await eventually(authenticator, key, known=False)
        with pytest.raises(UnauthenticatedError, match="Invalid"):
            await authenticator.authenticate(key, None)


async def test_who_hears_nothing_keeps_nothing(office: Office, postgres_server: PostgresServer) -> None:
    key_id, key = await office.known_key()
    await asyncio.to_thread(postgres_server.execute, DEAFEN)
    await eventually(office.there, key, known=False)
    assert (await office.there.authenticate(key, None)).id == key_id
    await office.keys.revoke(office.owner, PROJECT, key_id)
    with pytest.raises(UnauthenticatedError, match="revoked"):
        await office.there.authenticate(key, None)
    await office.known_key()  # it hears again


async def test_a_database_of_one_process_needs_no_news(sqlite_url: str) -> None:
    clock, database = FakeClock(), Database.open(sqlite_url)
    authenticator = Authenticator(database, Tokens("s" * 32, clock), clock)
    await add_project(database)
    keys = ApiKeyService(database=database, authenticator=authenticator, clock=clock)
    authenticator.start()
    caller = Principal("api-key", new_id(), project_id=PROJECT, scopes=frozenset({"messages:read"}))
    made = await keys.create(caller, PROJECT, name="k", scopes=["messages:read"], expires_in=None)
    await eventually(authenticator, made.secret, known=True)
    await keys.revoke(caller, PROJECT, made.id)
    assert authenticator.recall(made.secret) is None
    await authenticator.close()
    await database.close()

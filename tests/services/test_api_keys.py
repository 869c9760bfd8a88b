"""API keys that end: two services over one database stand for two processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from msgcore.core.errors import NotFoundError, UnauthenticatedError
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.security.tokens import Tokens
from msgcore.services import key_usage
from msgcore.services.api_keys import ApiKeyService
from msgcore.services.authenticator import Authenticator
from msgcore.store.api_keys import lock_key
from msgcore.store.database import Database
from msgcore.store.tables import projects
from servers.clock import FakeClock
from store.ledger_rows import PROJECT, add_project

TRIES = 10


@pytest.fixture
async def offices(database: Database, database_url: str) -> AsyncIterator[tuple[ApiKeyService, ApiKeyService]]:
    clock, other = FakeClock(), Database.open(database_url)
    await add_project(database)

    def office(over: Database) -> ApiKeyService:
        authenticator = Authenticator(over, Tokens("s" * 32, clock), clock)
        return ApiKeyService(database=over, authenticator=authenticator, clock=clock)

    yield office(database), office(other)
    await other.close()


async def test_a_key_has_one_successor_and_does_not_outlive_being_revoked(
    offices: tuple[ApiKeyService, ApiKeyService],
) -> None:
    here, there = offices
    async with here._database.read() as connection:
        owner_id: Any = (await connection.execute(select(projects.c.owner_id))).scalar_one()
    owner = Principal("jwt", owner_id)
    for _ in range(TRIES):
        made = [
            await here.create(owner, PROJECT, name="k", scopes=["messages:read"], expires_in=None) for _ in range(2)
        ]
        rolls = (office.roll(owner, PROJECT, made[0].id) for office in offices)
        outcomes = await asyncio.gather(*rolls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(NotFoundError) == 1, outcomes
        ends = (here.roll(owner, PROJECT, made[1].id), there.revoke(owner, PROJECT, made[1].id))
        await asyncio.gather(*ends, return_exceptions=True)
        with pytest.raises(UnauthenticatedError, match="revoked"):
            await there._authenticator.authenticate(made[1].secret, None)


async def test_a_key_that_is_used_while_others_are_written_down_is_not_forgotten(
    offices: tuple[ApiKeyService, ApiKeyService], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = offices
    monkeypatch.setattr(key_usage, "_GATHER_SECONDS", 0.001)
    creator = Principal("api-key", new_id(), project_id=PROJECT, scopes=frozenset({"messages:read"}))
    made = [await here.create(creator, PROJECT, name="k", scopes=["messages:read"], expires_in=None) for _ in range(2)]
    async with here._database.write() as connection:
        await lock_key(connection, PROJECT, made[0].id)
        await there._authenticator.authenticate(made[0].secret, None)
        await asyncio.sleep(0.1)  # by now it is being written, and waits for us
        await there._authenticator.authenticate(made[1].secret, None)
    await there._authenticator.close()
    assert [listed.row.last_used_at for listed in await here.list(PROJECT)] == [here._clock.now()] * 2

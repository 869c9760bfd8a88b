"""Finding the platform of a webhook's address, while the database is there and while it is not."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from msgcore.dispatch.accounts import AccountDirectory
from msgcore.inbound.tokens import TokenDirectory
from msgcore.security.keyring import Keyring
from msgcore.store.database import Database
from msgcore.store.tables import project_platforms
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, add_project


class Gone(AccountDirectory):
    """Accounts whose database can be taken away."""

    away = False
    silent = False

    async def get(self, account_id: str) -> Any:
        if self.silent:
            await asyncio.sleep(PATIENCE)
        if self.away:
            raise OperationalError("SELECT", {}, Exception("gone"))
        self.forget(account_id)
        return await super().get(account_id)


@pytest.fixture
async def accounts(database: Database) -> Gone:
    await add_project(database)
    return Gone(database, Keyring(b"k" * 32))


async def token_of(database: Database) -> str:
    async with database.read() as connection:
        return str(await connection.scalar(select(project_platforms.c.webhook_token)))


async def test_a_token_leads_to_its_platform(database: Database, accounts: Gone) -> None:
    tokens, token = TokenDirectory(database, accounts), await token_of(database)
    for _ in range(2):
        found = await tokens.find(token)
        assert found is not None
        assert found.id == ACCOUNT
    for wrong in (str(uuid4()), token.upper(), f"{{{token}}}", token[:-1], "", "\x00", "é" * 36):
        assert await tokens.find(wrong) is None


async def test_guessing_does_not_cost_a_query_each(
    database: Database, accounts: Gone, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, queries = TokenDirectory(database, accounts), 0
    read = database.read

    def counted() -> Any:
        nonlocal queries
        queries += 1
        return read()

    monkeypatch.setattr(database, "read", counted)
    guess = str(uuid4())
    assert [await tokens.find(guess) for _ in range(5)] == [None] * 5
    assert queries == 1


async def test_while_the_database_is_away_known_ones_are_as_they_were(database: Database, accounts: Gone) -> None:
    tokens, token = TokenDirectory(database, accounts), await token_of(database)
    fresh = TokenDirectory(database, accounts)
    known = await tokens.find(token)
    accounts.away = True
    assert await tokens.find(token) == known
    with pytest.raises(OperationalError):
        await fresh.find(token)


async def test_a_database_that_says_nothing_is_not_waited_for(
    database: Database, accounts: Gone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would be taken until it does, and the spool would stay empty."""
    monkeypatch.setattr("msgcore.inbound.tokens.LOOK_SECONDS", 0.05)
    tokens, token = TokenDirectory(database, accounts), await token_of(database)
    known = await tokens.find(token)
    accounts.silent = True
    async with asyncio.timeout(PATIENCE / 2):
        assert await tokens.find(token) == known


async def test_a_deleted_platform_is_not_remembered(database: Database, accounts: Gone) -> None:
    tokens, token = TokenDirectory(database, accounts), await token_of(database)
    assert await tokens.find(token) is not None
    async with database.write() as connection:
        await connection.execute(project_platforms.delete())
    assert await tokens.find(token) is None
    accounts.away = True
    with pytest.raises(OperationalError):
        await tokens.find(token)

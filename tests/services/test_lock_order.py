"""Who deletes a project locks it, then what hangs on it; everybody else in the same order, so that nobody deadlocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Column, delete, insert, select, text

from msgcore.api.errors import explain
from msgcore.core.clock import SystemClock
from msgcore.core.events import realm_of
from msgcore.core.ids import new_id
from msgcore.core.scopes import ApiScope, Principal, Role
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.passwords import Passwords
from msgcore.security.tokens import Tokens
from msgcore.services.accounts import AccountService
from msgcore.services.api_keys import ApiKeyService
from msgcore.services.authenticator import Authenticator
from msgcore.services.identities import IdentityService, NewAlias, NewIdentity
from msgcore.services.invites import InviteService
from msgcore.services.members import MemberService
from msgcore.services.opt_outs import OptOutService
from msgcore.services.pausing import PauseService
from msgcore.services.platforms import PlatformService
from msgcore.services.sign_in_guard import PER_ACCOUNT, SignInGuard
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.work import WorkLog
from msgcore.store.pauses import lock_project
from msgcore.store.projects import delete_project, find_project
from msgcore.store.tables import api_keys, deliveries, projects, webhooks
from msgcore.store.webhook_deliveries import forget_webhook
from msgcore.store.webhooks import delete_webhook, lock_webhook
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project, new_message
from store.side_by_side import until_somebody_waits


async def nothing(*told: object) -> None:
    del told


class World:
    """A project with a key that was rolled and still works, a person, an opt-out and a delivery."""

    def __init__(self, database: Database) -> None:
        clock, registry = SystemClock(), PlatformRegistry()
        tokens, passwords = Tokens("s" * 32, clock), Passwords()
        common: dict[str, Any] = {"database": database, "clock": clock}
        guarded: dict[str, Any] = common | {"passwords": passwords, "guard": SignInGuard(database, clock, PER_ACCOUNT)}
        accounts, members = AccountService(tokens=tokens, **guarded), MemberService(**common)
        self.database = database
        self.keys = ApiKeyService(authenticator=Authenticator(database, tokens, clock), **common)
        self.invites = InviteService(accounts=accounts, members=members, base_url="https://x.example.com", **guarded)
        self.identities = IdentityService(registry=registry, **common)
        self.opt_outs = OptOutService(registry=registry, on_opt_out=lambda _: None, **common)
        none: Any = {}
        self.platforms = PlatformService(
            registry=registry, adapters=none, keyring=none, api_url="", on_change=nothing, **common
        )
        self.pausing = PauseService(on_platform_change=nothing, **common)
        self.work = WorkLog(database)

    async def build(self) -> None:
        await add_project(self.database)
        async with self.database.read() as connection:
            self.owner = Principal("jwt", str(await connection.scalar(select(projects.c.owner_id))))
        self.key_id = (
            await self.keys.create(self.owner, PROJECT, name="k", scopes=["messages:read"], expires_in=None)
        ).id
        await self.keys.roll(self.owner, PROJECT, self.key_id)
        self.key = Principal("api-key", self.key_id, project_id=PROJECT, scopes=frozenset(ApiScope))
        person = NewIdentity(aliases=[NewAlias(ACCOUNT, "ann")])
        self.person = (await self.identities.create(self.owner, PROJECT, person)).row.id
        self.opt_out = (await self.opt_outs.add(self.owner, PROJECT, ACCOUNT, "bob")).id
        await self._add_webhooks()
        new = new_message("ann", "bea")
        for message in (new, new_message("1", "2", project_id=realm_of(self.webhook))):
            await AcceptLog(self.database, nothing).accept(message)
        (self.item,) = await self.work.begin([new.deliveries[0]["id"]], NOW)
        for column, value in self.several().values():
            await self._move_behind(column, value)

    def several(self) -> dict[str, tuple[Column[Any], str]]:
        """What there is more than one of, by a column that has the same value in all."""
        columns = {table.name: (table.c.project_id, PROJECT) for table in (deliveries, api_keys, webhooks)}
        return columns | {"posted": (deliveries.c.project_id, realm_of(self.webhook))}

    async def delete(self, *, what: str) -> None:
        async with self.database.write() as connection:
            # With many rows it finds them like this, and not by an index that happens to be in order.
            await connection.execute(text("SET LOCAL enable_indexscan = off"))
            if what == "posted":
                await forget_webhook(connection, self.webhook)
            else:
                await delete_project(connection, PROJECT)

    async def _add_webhooks(self) -> None:
        row = {"project_id": PROJECT, "name": "h", "url": "https://x.example.com", "events": ["*"], "is_active": True}
        row |= {"secret_encrypted": "", "created_at": NOW, "updated_at": NOW}
        self.webhook = new_id()
        async with self.database.write() as connection:
            await connection.execute(insert(webhooks), [row | {"id": id_} for id_ in (self.webhook, new_id())])

    async def _move_behind(self, column: Column[Any], value: str) -> None:
        """Let the first row lie behind the others."""
        table: Any = column.table
        async with self.database.write() as connection:
            rows = select(table).where(column == value).order_by(table.c.id).limit(1)
            row = (await connection.execute(rows)).one()
            await connection.execute(delete(table).where(table.c.id == row.id))
            await connection.execute(insert(table), dict(row._mapping))


ACTIONS: dict[str, Callable[[World], Awaitable[Any]]] = {
    "invite with a key": lambda all_: all_.invites.invite(all_.key, PROJECT, "new@example.com", Role.VIEWER),
    "roll a key": lambda all_: all_.keys.roll(all_.owner, PROJECT, all_.key_id),
    "revoke a key": lambda all_: all_.keys.revoke(all_.owner, PROJECT, all_.key_id),
    "pause a platform": lambda all_: all_.pausing.pause_platform(all_.owner, PROJECT, ACCOUNT, None),
    "add a person": lambda all_: all_.identities.create(
        all_.owner, PROJECT, NewIdentity(aliases=[NewAlias(ACCOUNT, "cyd")])
    ),
    "add an alias": lambda all_: all_.identities.add_alias(all_.owner, PROJECT, all_.person, NewAlias(ACCOUNT, "ann2")),
    "remove a person": lambda all_: all_.identities.delete(all_.owner, PROJECT, all_.person),
    "remove a platform": lambda all_: all_.platforms.delete(all_.owner, PROJECT, ACCOUNT),
    "opt out": lambda all_: all_.opt_outs.add(all_.owner, PROJECT, ACCOUNT, "dan"),
    "lift an opt-out": lambda all_: all_.opt_outs.remove(all_.owner, PROJECT, all_.opt_out),
    "refused credentials": lambda all_: all_.work.pause_account(all_.item, "bad token", NOW, NOW),
}


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    opened = Database.open(postgres_url)
    world = World(opened)
    await world.build()
    yield world
    await opened.close()


@pytest.mark.parametrize("action", ACTIONS)
async def test_nothing_deadlocks_with_the_deletion_of_its_project(world: World, action: str) -> None:
    """It begins while the project goes: it holds nothing that the deletion still wants, and finds it gone."""
    async with asyncio.timeout(PATIENCE):
        async with world.database.write() as connection:
            await lock_project(connection, PROJECT)  # as deleting the row does
            task = asyncio.ensure_future(ACTIONS[action](world))
            await until_somebody_waits(world.database)
            await delete_project(connection, PROJECT)
        outcome: Any
        [outcome] = await asyncio.gather(task, return_exceptions=True)
    if action == "refused credentials":
        assert outcome == "changed"
    else:
        assert explain(outcome, "r-1").status in {400, 401, 404}, repr(outcome)
    async with world.database.read() as connection:
        assert await find_project(connection, PROJECT) is None


@pytest.mark.parametrize("what", ["deliveries", "api_keys", "webhooks", "posted"])
async def test_a_deletion_locks_rows_as_others_do_several(world: World, what: str) -> None:
    """By their ids, wherever they lie: here the second one lies before the first."""
    column, value = world.several()[what]
    ids = column.table.c.id
    chosen = select(ids).where(column == value).order_by(ids)
    async with asyncio.timeout(PATIENCE):
        async with world.database.write() as connection:
            first, second = (await connection.scalars(chosen)).all()
            await connection.execute(chosen.where(ids == first).with_for_update())
            task = asyncio.create_task(world.delete(what=what))
            await until_somebody_waits(world.database)
            await connection.execute(chosen.where(ids == second).with_for_update())
        await task


async def test_a_webhook_goes_while_its_project_does(world: World) -> None:
    async with asyncio.timeout(PATIENCE):
        async with world.database.write() as connection:
            assert await lock_webhook(connection, PROJECT, world.webhook)
            task = asyncio.create_task(world.delete(what="project"))
            await until_somebody_waits(world.database)
            await forget_webhook(connection, world.webhook)
            await delete_webhook(connection, world.webhook)
        await task

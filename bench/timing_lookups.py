"""Secrets that are looked up: API keys, webhook addresses, invitations."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select

from bench.timing_cases import (
    ADDRESS,
    ALMOST,
    CHEAP,
    CLOCK,
    OTHERS,
    PROJECT,
    SHOWN,
    UNKNOWN,
    UNLIMITED,
    Call,
    Group,
    at_once,
    urlsafe,
)
from msgcore.core.errors import NotFoundError, UnauthenticatedError
from msgcore.core.ids import new_id
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.inbound.tokens import TokenDirectory
from msgcore.security.api_keys import make_api_key
from msgcore.security.digests import digest
from msgcore.security.keyring import Keyring
from msgcore.security.passwords import Passwords
from msgcore.security.tokens import Tokens
from msgcore.services.accounts import AccountService
from msgcore.services.authenticator import Authenticator
from msgcore.services.invites import InviteService
from msgcore.services.members import MemberService
from msgcore.services.sign_in_guard import SignInGuard
from msgcore.store.api_keys import insert_key, scopes_of_keys
from msgcore.store.database import Database
from msgcore.store.tables import api_keys, invites, project_platforms, projects, users
from servers.clock import FakeClock
from servers.patience import PATIENCE


class World:
    """A database with what is looked up by a secret, and secrets of the same form that nobody has."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.keys = [make_api_key("development").secret for _ in range(OTHERS)]
        self.no_keys = [make_api_key("development").secret for _ in range(OTHERS)]
        self.revoked = make_api_key("development").secret
        self.hooks, self.no_hooks = ([new_id() for _ in range(OTHERS)] for _ in range(2))
        self.links, self.no_links = ([urlsafe(43) for _ in range(OTHERS)] for _ in range(2))
        self.expired = urlsafe(43)
        self.authenticator = Authenticator(database, Tokens(secrets.token_hex(32), CLOCK), CLOCK)
        frozen = FakeClock()  # what is kept for seconds stays
        self.remembering = Authenticator(database, Tokens(secrets.token_hex(32), frozen), frozen)
        accounts = AccountDirectory(database, Keyring(os.urandom(32)), api_url="https://gateway.example.com")
        self.webhooks = TokenDirectory(database, accounts)

    async def fill(self) -> None:
        """Put all that in, and have the keys remembered where they are looked up in memory."""
        now = CLOCK.now()
        stamps = {"created_at": now, "updated_at": now}
        owner = {"id": new_id(), "email": "owner@example.com", "is_admin": True}
        project = {"id": PROJECT, "name": "b", "environment": "development", "owner_id": owner["id"]}
        box = {"project_id": PROJECT, "platform": "sandbox", "is_active": True, "test_mode": False}
        box |= {"credentials_encrypted": "none"}
        async with self.database.write() as connection:
            await connection.execute(insert(users).values(owner | stamps))
            await connection.execute(insert(projects).values(project | stamps))
            for token in self.hooks:
                platform = {"id": new_id(), "name": token, "webhook_token": token}
                await connection.execute(insert(project_platforms).values(box | platform | stamps))
            for secret in (*self.keys, self.revoked):
                row = {"id": new_id(), "project_id": PROJECT, "name": "k", "key_hash": digest(secret)}
                row |= {"key_prefix": secret[: SHOWN[0]], "key_suffix": secret[-SHOWN[1] :], "created_at": now}
                ended = {"revoked_at": now if secret == self.revoked else None}
                await insert_key(connection, row | ended, ["messages:write"])
            for token in (*self.links, self.expired):
                invite = {"id": new_id(), "email": "eve@example.com", "project_id": PROJECT, "role": "member"}
                invite |= {"token_hash": digest(token), "created_at": now}
                ends = {"expires_at": now + timedelta(days=-1 if token == self.expired else 1)}
                await connection.execute(insert(invites).values(invite | ends))
        self.remembering.start()
        async with asyncio.timeout(PATIENCE):
            while any(self.remembering.recall(key) is None for key in self.keys):  # once it hears of changes
                for key in self.keys:
                    await self.remembering.authenticate(key, None)

    async def close(self) -> None:
        """Look nothing up any more."""
        await self.remembering.close()
        await self.authenticator.close()


def lookups(world: World) -> Iterator[Group]:
    """Keys, webhook addresses and invitations: almost those that there are, and almost those that there are not."""
    ask = lambda key: lambda: world.authenticator.authenticate(key, None)  # noqa: E731
    why = "who asks has the whole key, and is told that it is revoked"
    end, middle = _pairs(world.no_keys, world.keys, _other_end), _pairs(world.no_keys, world.keys, _other_middle)
    shown = {UNKNOWN: middle[UNKNOWN], "right where lists show it": middle[ALMOST]}
    revoked = {"a revoked one": lambda: "".join(world.revoked)}
    yield Group("API key, in the database", _calling(end | revoked, ask), by_design={"a revoked one": why})
    yield Group("API key, as lists show it", _calling(shown, ask))
    yield Group("API key, in memory", _calling(end, lambda key: _recall(world, key)))
    yield Group("planted: looked up by its prefix", _calling(end, lambda key: _by_prefix(world, key)), planted=True)
    hooks = _pairs(world.no_hooks, world.hooks, lambda token: token[:24] + secrets.token_hex(6))
    yield Group("webhook address", _calling(hooks, lambda token: _find(world, token)), NotFoundError)
    inviting = _invites(world)
    links = _pairs(world.no_links, world.links, _other_end) | {"one that has expired": lambda: "".join(world.expired)}
    accept = lambda token: lambda: inviting.accept(token, "Eve", "Passw0rd1", address=ADDRESS)  # noqa: E731
    yield Group("invitation", _calling(links, accept), share=0.4)


def _pairs(unknown: Sequence[str], known: Sequence[str], change: Callable[[str], str]) -> dict[str, Callable[[], str]]:
    """Made alike, so that nothing differs but whether there is one that is almost it."""

    def both() -> list[str]:
        # Both are made, in either order, whichever is wanted: what was touched last is quicker by nanoseconds.
        made = {
            kind: change(random.choice(secrets_)) for kind, secrets_ in random.sample([(0, unknown), (1, known)], 2)
        }
        return [made[0], made[1]]

    return {UNKNOWN: lambda: both()[0], ALMOST: lambda: both()[1]}


def _calling(guesses: Mapping[str, Callable[[], str]], ask: Callable[[str], Call]) -> Mapping[str, Callable[[], Call]]:
    return {name: lambda guess=guess: ask(guess()) for name, guess in guesses.items()}


def _other_end(text: str) -> str:
    return text[:-4] + urlsafe(4)


def _other_middle(text: str) -> str:
    return text[: SHOWN[0]] + urlsafe(len(text) - sum(SHOWN)) + text[-SHOWN[1] :]


def _recall(world: World, key: str) -> Call:
    def work() -> None:
        if world.remembering.recall(key) is None:
            raise UnauthenticatedError("unknown")

    return at_once(work)


def _find(world: World, token: str) -> Call:
    async def call() -> None:
        if await world.webhooks.find(token) is None:
            raise NotFoundError("unknown")

    return call


def _by_prefix(world: World, key: str) -> Call:
    """What must not be done: a key is found by what lists show of it, and only then the rest is looked at."""
    query = select(api_keys).where(api_keys.c.key_prefix == key[: SHOWN[0]])

    async def find() -> None:
        async with world.database.read() as connection:
            for row in await connection.execute(query):
                await scopes_of_keys(connection, [row.id])
        raise UnauthenticatedError("wrong")

    return find


def _invites(world: World) -> InviteService:
    guard = SignInGuard(world.database, CLOCK, UNLIMITED)
    shared: dict[str, Any] = {"database": world.database, "clock": CLOCK, "guard": guard, "passwords": Passwords(CHEAP)}
    accounts = AccountService(tokens=Tokens(secrets.token_hex(32), CLOCK), **shared)
    members = MemberService(database=world.database, clock=CLOCK)
    return InviteService(accounts=accounts, members=members, base_url="https://x.example.com", **shared)

"""Sign-ins with addresses that are somebody's, and nobody's."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import cycle

from argon2 import PasswordHasher
from sqlalchemy import insert

from bench.timing_cases import (
    ADDRESS,
    CHEAP,
    CLOCK,
    UNLIMITED,
    Call,
    Group,
    calls,
)
from msgcore.core.errors import QueueFullError
from msgcore.core.ids import new_id
from msgcore.security.passwords import Passwords, Verdict
from msgcore.security.tokens import Tokens
from msgcore.services.accounts import AccountService
from msgcore.services.sign_in_guard import PER_ACCOUNT, SignInGuard
from msgcore.store.database import Database
from msgcore.store.tables import sign_in_attempts, users

MODERATE = PasswordHasher(time_cost=1, memory_cost=4096, parallelism=1)
"""A sixteenth of the memory that installations take, and a third of the rounds: what it costs has to be seen."""


class Careless(Passwords):
    """What must not be done: where there is no hash, nothing is computed."""

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Check a password."""
        return Verdict(matches=False) if stored is None else await super().verify(password, stored)


KINDS = ("nobody's", "somebody's", "without a password", "with another software's hash")


class People:
    """Accounts of each kind, enough of them that none is locked for its failures."""

    def __init__(self, database: Database, samples: int) -> None:
        self.database = database
        self.number = samples // (PER_ACCOUNT.free - 1) + 1

    async def fill(self, name: str, hasher: PasswordHasher) -> Mapping[str, Iterator[str]]:
        """Make them; their addresses by kind, in turn."""
        stamps = {"created_at": CLOCK.now(), "updated_at": CLOCK.now(), "is_admin": False}
        hashes = {KINDS[1]: hasher.hash("Passw0rd1"), KINDS[2]: None, KINDS[3]: f"$2b$10${'x' * 53}"}
        emails = {kind: [f"{name}-{new_id()}@example.com" for _ in range(self.number)] for kind in KINDS}
        rows = [
            {"id": new_id(), "email": email, "password_hash": hash_} | stamps
            for kind, hash_ in hashes.items()
            for email in emails[kind]
        ]
        async with self.database.write() as connection:
            await connection.execute(insert(users), rows)
        return {kind: cycle(each) for kind, each in emails.items()}


async def sign_ins(database: Database, samples: int) -> list[Group]:
    """With a cheap hash many, to see what is around it; with that of installations some; and a careless one."""
    guard = SignInGuard(database, CLOCK, UNLIMITED)
    kinds = (
        ("sign-in, address", Passwords(CHEAP), CHEAP, 0.4),
        ("sign-in, address (argon2 as installed)", Passwords(), PasswordHasher(), 0.008),
        ("planted: no hash, no work", Careless(MODERATE), MODERATE, 0.4),
    )
    groups: list[Group] = []
    for name, passwords, hasher, share in kinds:
        accounts = _accounts(database, guard, passwords)
        people = await People(database, 2 * calls(int(samples * share))).fill(str(len(groups)), hasher)
        ways = {kind: lambda a=accounts, e=emails: _sign_in(a, next(e)) for kind, emails in people.items()}
        planted = name.startswith("planted")
        groups.append(Group(name, dict(list(ways.items())[: 2 if planted else 4]), planted=planted, share=share))
    groups.append(await _locked(database, guard))
    return groups


async def _locked(database: Database, guard: SignInGuard) -> Group:
    accounts = _accounts(database, guard, Passwords(CHEAP))
    people = await People(database, 1).fill("locked", CHEAP)
    emails = {kind: next(people[kind]) for kind in KINDS[:3]}
    later = CLOCK.now() + timedelta(days=1)
    rows = [
        {"subject": hashlib.sha256(f"account:{email}".encode()).hexdigest(), "failures": 20, "forget_at": later}
        for email in emails.values()
    ]
    async with database.write() as connection:
        await connection.execute(insert(sign_in_attempts), [row | {"blocked_until": later} for row in rows])
    ways = {kind: lambda email=email: _sign_in(accounts, "".join(email)) for kind, email in emails.items()}
    return Group("sign-in, address that is locked", ways, QueueFullError, share=0.4)


def _accounts(database: Database, guard: SignInGuard, passwords: Passwords) -> AccountService:
    tokens = Tokens(secrets.token_hex(32), CLOCK)
    return AccountService(database=database, passwords=passwords, tokens=tokens, guard=guard, clock=CLOCK)


def _sign_in(accounts: AccountService, email: str) -> Call:
    return lambda: accounts.sign_in(email, "Wr0ngPassword", address=ADDRESS)

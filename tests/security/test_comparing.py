"""What is secret is compared in constant time and looked up by its digest; `python -m bench timing` measures that."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine

from msgcore.api.metrics import MetricsAccess
from msgcore.config import load_settings
from msgcore.core.clock import SystemClock
from msgcore.core.errors import ProblemError
from msgcore.core.ids import new_id
from msgcore.core.scopes import ApiScope, Principal, Role
from msgcore.platforms.receiving import SignatureError
from msgcore.security.digests import digest
from msgcore.security.links import AttachmentLinks
from msgcore.security.passwords import Passwords
from msgcore.security.tokens import Tokens
from msgcore.services.accounts import AccountService
from msgcore.services.authenticator import Authenticator
from msgcore.services.invites import InviteService
from msgcore.services.members import MemberService
from msgcore.services.sign_in_guard import Rule, SignInGuard
from msgcore.store.database import Database
from msgcore.store.tables import invites, users
from servers.signatures import PUBLIC, proofs
from store.ledger_rows import NOW, PROJECT, add_project

SECRET = "s" * 40
CLOCK = SystemClock()
LINKS = AttachmentLinks(SECRET, base_url="https://gateway.example.com", seconds=900, clock=CLOCK)
METRICS = MetricsAccess(load_settings({"MSGCORE_METRICS_TOKEN": SECRET}))


def compared() -> dict[str, tuple[Callable[[str], object], str, str]]:
    """What is secret: its check, what is right, and what is wrong. Made when asked, as some of it is good for minutes."""
    signed = {p.name: (p.verify, p.right, p.wrong_at(1)) for p in proofs() if p.platform not in PUBLIC}
    token = Tokens(SECRET, CLOCK).issue(new_id(), email="a@example.com", is_admin=False, signed_in_at=CLOCK.now())
    expires, signature = LINKS.url_of("17").partition("?expires=")[2].split("&signature=")
    return signed | {
        "a login": (Tokens(SECRET, CLOCK).read, token, token[:-8] + "AAAAAAAA"),
        "a file's address": (
            lambda text: LINKS.check("17", int(expires), text),
            signature,
            signature[1:] + signature[:1],
        ),
        "metrics": (lambda text: METRICS.check(f"Bearer {text}"), SECRET, SECRET[:-1] + "t"),
    }


@pytest.mark.parametrize("name", compared())
def test_the_comparison_in_constant_time_decides_and_nothing_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, right, wrong = compared()[name]
    check(right)
    with pytest.raises((SignatureError, ProblemError)):
        check(wrong)
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: True)
    check(wrong)  # with an == beside it, or in its place, this would be refused
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)
    with pytest.raises((SignatureError, ProblemError)):
        check(right)


class Counted(PasswordHasher):
    """Counts what it computes."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.computed = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 - as the parent has it
        try:
            return super().verify(hash, password)
        finally:
            self.computed += str(hash).startswith(f"$argon2id$v=19$m={self.memory_cost},")


@dataclass
class Work:
    """What an attempt costs: statements to the database, with how many values, and passwords computed."""

    hasher: Counted
    statements: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    async def of(self, attempt: Callable[[], Awaitable[object]]) -> tuple[list[str], int]:
        self.statements.clear()
        computed = self.hasher.computed

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
            self.statements.append(statement)
            self.values.append(repr(parameters))

        event.listen(Engine, "before_cursor_execute", note)
        try:
            with suppress(ProblemError):
                await attempt()
                raise AssertionError("it was let in")
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        return list(self.statements), self.hasher.computed - computed


async def test_whoever_fails_costs_the_same(database: Database) -> None:
    """Whether the account, the key or the invitation exists is in no statement more or less, and in no hash less."""
    hasher = Counted()
    work, passwords, tokens = Work(hasher), Passwords(hasher), Tokens(SECRET, CLOCK)
    guard = SignInGuard(database, CLOCK, Rule(100, timedelta(minutes=1), timedelta(minutes=1)))
    accounts = AccountService(database=database, passwords=passwords, tokens=tokens, guard=guard, clock=CLOCK)
    members = MemberService(database=database, clock=CLOCK)
    about: dict[str, Any] = {"database": database, "passwords": passwords, "guard": guard, "clock": CLOCK}
    inviting = InviteService(accounts=accounts, members=members, base_url="https://x.example.com", **about)
    authenticator = Authenticator(database, tokens, CLOCK)
    await add_project(database)
    stored = {
        "known": hasher.hash("Passw0rd1"),
        "elsewhere": None,
        "imported": f"$2b$10${'x' * 53}",
        "damaged": "$argon2id$x",
    }
    rows = [{"id": new_id(), "email": f"{name}@example.com", "password_hash": hash_} for name, hash_ in stored.items()]
    stamps = {"created_at": NOW, "updated_at": NOW}
    token = base64.urlsafe_b64encode(os.urandom(32)).decode()
    invited = {"id": new_id(), "email": "new@example.com", "project_id": PROJECT, "role": "member"}
    invited |= {"token_hash": digest(token), "expires_at": CLOCK.now() + timedelta(days=1), "created_at": NOW}
    async with database.write() as connection:
        await connection.execute(insert(users), [row | {"is_admin": False} | stamps for row in rows])
        await connection.execute(insert(invites).values(invited))

    def sign_in(name: str) -> Callable[[], Awaitable[object]]:
        return lambda: accounts.sign_in(f"{name}@example.com", "Wr0ngPass", address="192.0.2.1")

    await work.of(sign_in("first"))  # which also makes the decoy
    costs = {name: await work.of(sign_in(name)) for name in ("nobody", *stored)}
    assert {cost[1] for cost in costs.values()} == {1}, costs
    assert len({tuple(cost[0]) for cost in costs.values()}) == 1, costs

    def accept(link: str) -> Callable[[], Awaitable[object]]:
        return lambda: inviting.accept(link, "Eve", "Passw0rd1", address="192.0.2.1")

    almost = token[:-2] + "AA"
    assert await work.of(accept("x" * 44)) == await work.of(accept(almost))

    def add(name: str) -> Callable[[], Awaitable[object]]:
        caller = Principal("api-key", new_id(), project_id=PROJECT, scopes=frozenset(ApiScope))
        return lambda: members.add(caller, PROJECT, f"{name}@example.com", Role.VIEWER)

    assert await work.of(add("nobody")) == await work.of(add("known"))

    key = f"msc_dev_{token[:43]}"
    assert await work.of(lambda: authenticator.authenticate(key, None)) != ([], 0)
    for secret in (almost, key, "Wr0ngPass", "Passw0rd1"):
        assert not [values for values in work.values if secret in values], "what is looked up is a digest"
    await authenticator.close()

"""Guessing passwords, and ending tokens; two services over one database stand for two processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from argon2 import PasswordHasher

from msgcore.core.errors import ConflictError, TooManyAttemptsError, UnauthenticatedError
from msgcore.core.scopes import Principal
from msgcore.security.passwords import Passwords
from msgcore.security.tokens import LIFETIME, Tokens
from msgcore.services.accounts import AccountService
from msgcore.services.authenticator import Authenticator
from msgcore.services.sessions import IDLE, MOST, NOTED_EVERY, Session, SessionService
from msgcore.services.sign_in_guard import PER_ACCOUNT, Rule, SignInGuard
from msgcore.store.database import Database
from msgcore.store.sessions import purge_sessions
from msgcore.store.sign_in_attempts import forget_attempts
from servers.clock import FakeClock

EMAIL, RIGHT, WRONG = "ann@example.com", "Passw0rd1", "Passw0rd2"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"
PER_ADDRESS = Rule(free=20, first=timedelta(seconds=60), memory=timedelta(seconds=60))
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Office:
    """What signs in, over one database, and its clock."""

    accounts: AccountService
    authenticator: Authenticator
    sessions: SessionService
    guard: SignInGuard
    clock: FakeClock

    @classmethod
    def open(cls, database: Database, clock: FakeClock) -> Office:
        guard, tokens = SignInGuard(database, clock, PER_ADDRESS), Tokens("s" * 32, clock)
        accounts = AccountService(
            database=database, passwords=Passwords(CHEAP), tokens=tokens, guard=guard, clock=clock
        )
        authenticator = Authenticator(database, tokens, clock)
        sessions = SessionService(
            database=database, accounts=accounts, authenticator=authenticator, secret="s" * 32, clock=clock
        )
        return cls(accounts, authenticator, sessions, guard, clock)

    async def sign_in(self, password: str, email: str = EMAIL, address: str = HOME) -> str:
        return (await self.accounts.sign_in(email, password, address=address)).access_token

    async def outcome(self, password: str, email: str = EMAIL, address: str = HOME) -> float | str:
        """In, wrong, or how many seconds to wait."""
        try:
            await self.sign_in(password, email, address)
        except UnauthenticatedError:
            return "wrong"
        except TooManyAttemptsError as error:
            return error.retry_after or 0.0
        return "in"

    async def who(self, token: str) -> Principal:
        return await self.authenticator.authenticate(None, token)

    async def works(self, session: Session) -> bool:
        try:
            return await self.sessions.check(session.token) == session
        except UnauthenticatedError:
            return False


@pytest.fixture
async def offices(database: Database, database_url: str) -> AsyncIterator[tuple[Office, Office]]:
    clock, other = FakeClock(), Database.open(database_url)
    here, there = Office.open(database, clock), Office.open(other, clock)
    await here.accounts.sign_up(EMAIL, RIGHT, "Ann", address=HOME)
    yield here, there
    await other.close()


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com", "no address"])
async def test_who_guesses_waits_longer_each_time_in_every_process(offices: tuple[Office, Office], email: str) -> None:
    here, there = offices
    found = [await office.outcome(WRONG, email) for office in offices for _ in range(PER_ACCOUNT.free // 2)]
    assert found == ["wrong"] * PER_ACCOUNT.free
    for wait in (30, 60, 120, 240, 480, 900, 900):
        assert {await office.outcome(RIGHT, email.upper(), ELSEWHERE) for office in offices} == {wait}
        here.clock.advance(wait)
        assert await there.outcome(WRONG, email, ELSEWHERE) == "wrong"
    assert await here.outcome(WRONG, "bob@example.com") == "wrong", "another account"
    here.clock.advance(PER_ACCOUNT.memory.total_seconds() + 900)
    assert await here.outcome(RIGHT) == "in"
    assert [await here.outcome(WRONG, email) for _ in range(PER_ACCOUNT.free)] == ["wrong"] * PER_ACCOUNT.free


async def test_success_lets_an_account_start_afresh(offices: tuple[Office, Office]) -> None:
    here, there = offices
    for _ in range(3):
        assert [await here.outcome(WRONG) for _ in range(PER_ACCOUNT.free - 1)] == ["wrong"] * (PER_ACCOUNT.free - 1)
        assert await there.outcome(RIGHT) == "in"
        here.clock.advance(61)


async def test_guesses_at_once_are_no_more_guesses(offices: tuple[Office, Office]) -> None:
    found = await asyncio.gather(*(offices[number % 2].outcome(WRONG) for number in range(3 * PER_ACCOUNT.free)))
    assert found.count("wrong") == PER_ACCOUNT.free


async def test_people_who_sign_in_at_once_all_get_in(offices: tuple[Office, Office]) -> None:
    """One's success forgets what the other one is just about to count."""
    for _ in range(5):
        together = PER_ACCOUNT.free // 2
        assert (
            await asyncio.gather(*(offices[number % 2].outcome(RIGHT) for number in range(together)))
            == ["in"] * together
        )


async def test_an_address_that_signs_in_itself_between_guesses_is_stopped(offices: tuple[Office, Office]) -> None:
    here, there = offices
    for number in range(PER_ADDRESS.free):
        assert await here.outcome(WRONG, f"n{number}@example.com") == "wrong"
        assert await there.outcome(RIGHT) == "in" or number == PER_ADDRESS.free - 1
    assert await here.outcome(RIGHT) == 60
    assert await here.outcome(RIGHT, address=ELSEWHERE) == "in"
    here.clock.advance(60)
    assert await here.outcome(RIGHT) == "in"
    assert await here.outcome(WRONG) == "wrong"
    assert await here.outcome(RIGHT) == 120


async def test_what_is_over_is_forgotten(offices: tuple[Office, Office], database: Database) -> None:
    here, _ = offices
    assert [await here.outcome(WRONG, f"n{number}@example.com") for number in range(3)] == ["wrong"] * 3
    here.clock.advance(PER_ACCOUNT.memory.total_seconds() + 1)
    assert await forget_attempts(database, here.clock.now()) == 4, "three accounts and an address"
    assert await forget_attempts(database, here.clock.now()) == 0


async def test_tokens_end_at_once_in_every_process(offices: tuple[Office, Office]) -> None:
    here, there = offices
    mine, others = [await office.sign_in(RIGHT) for office in offices]
    user_id = (await there.who(mine)).id
    with pytest.raises(UnauthenticatedError):
        await here.accounts.change_password(user_id, WRONG, "Passw0rd3", address=HOME, spared=mine)
    assert (await there.who(others)).id == user_id
    await here.accounts.change_password(user_id, RIGHT, "Passw0rd3", address=HOME, spared=mine)
    assert (await there.who(mine)).id == user_id
    with pytest.raises(UnauthenticatedError, match="signed out everywhere"):
        await there.who(others)
    newest = await there.sign_in("Passw0rd3")
    assert (await here.who(newest)).id == user_id
    await there.accounts.sign_out_everywhere(user_id)
    for token in (mine, newest):
        with pytest.raises(UnauthenticatedError, match="signed out everywhere"):
            await here.who(token)
    assert (await here.who(await there.sign_in("Passw0rd3"))).id == user_id


async def test_sessions_end_at_once_in_every_process(offices: tuple[Office, Office]) -> None:
    here, there = offices
    mine, others, third = [await here.sessions.sign_in(EMAIL, RIGHT, address=HOME) for _ in range(3)]
    token = await here.sign_in(RIGHT)
    assert [await there.works(each) for each in (mine, others, third)] == [True] * 3
    await there.sessions.end(third)
    assert [await here.works(each) for each in (mine, others, third)] == [True, True, False]
    user_id = mine.principal.id
    await here.accounts.change_password(user_id, RIGHT, "Passw0rd3", address=HOME, spared=mine.token)
    assert [await there.works(each) for each in (mine, others)] == [True, False]
    with pytest.raises(UnauthenticatedError):
        await there.sessions.exchange(token)
    newest = await there.sign_in("Passw0rd3")
    await here.accounts.change_password(user_id, "Passw0rd3", RIGHT, address=HOME, spared=newest)
    spared = await there.sessions.exchange(newest)
    assert [await here.works(each) for each in (mine, spared)] == [False, True]
    await there.accounts.sign_out_everywhere(user_id)
    assert not await here.works(spared)
    with pytest.raises(UnauthenticatedError):
        await here.sessions.exchange(newest)


async def test_sessions_end_by_themselves(offices: tuple[Office, Office], database: Database) -> None:
    here, there = offices
    token = await here.sign_in(RIGHT)
    here.clock.advance(3600)
    begun = here.clock.now()
    used, left = await here.sessions.exchange(token), await here.sessions.exchange(token)
    assert used.expires_at == (begun + LIFETIME - timedelta(hours=1)).replace(microsecond=0), "no later than the token"
    here.clock.advance((NOTED_EVERY / 2).total_seconds())
    await there.sessions.note_use(used)
    assert (await here.sessions.check(used.token)).idle_at == begun + IDLE, "not worth a write"
    while here.clock.now() < used.expires_at - IDLE:
        here.clock.advance((IDLE - NOTED_EVERY).total_seconds())
        await there.sessions.note_use(await there.sessions.check(used.token))
    assert not await here.works(left)
    assert await purge_sessions(database, here.clock.now()) == 1
    found = await here.sessions.check(used.token)
    assert used.expires_at - NOTED_EVERY < found.idle_at <= used.expires_at
    here.clock.advance((used.expires_at - here.clock.now()).total_seconds())
    assert not await there.works(used)
    assert await purge_sessions(database, here.clock.now() + timedelta(seconds=1)) == 1


async def test_guesses_at_sessions_are_counted_with_the_others(offices: tuple[Office, Office]) -> None:
    here, there = offices
    for _ in range(PER_ACCOUNT.free // 2):
        with pytest.raises(UnauthenticatedError):
            await here.sessions.sign_in(EMAIL, WRONG, address=HOME)
        assert await there.outcome(WRONG) == "wrong"
    with pytest.raises(TooManyAttemptsError):
        await here.sessions.sign_in(EMAIL, RIGHT, address=ELSEWHERE)


async def test_a_person_has_only_so_many_sessions(offices: tuple[Office, Office]) -> None:
    here, there = offices
    token = await here.sign_in(RIGHT)
    opened = [await here.sessions.exchange(token) for _ in range(MOST + 2)]
    assert [await there.works(each) for each in (*opened[:4], opened[-1])] == [False, False, True, True, True]
    assert len({each.csrf_token for each in opened}) == len(opened)


async def test_a_sign_in_with_the_old_password_does_not_outlive_it(
    offices: tuple[Office, Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the password before the change, and is done after it."""
    here, there = offices
    user_id = (await here.who(await here.sign_in(RIGHT))).id
    read, go_on = asyncio.Barrier(3), asyncio.Event()
    verify: Callable[..., Awaitable[object]] = there.accounts._passwords.verify

    async def slowly(*given: object) -> object:
        await read.wait()
        await go_on.wait()
        return await verify(*given)

    monkeypatch.setattr(there.accounts._passwords, "verify", slowly)
    signing_in = asyncio.create_task(there.sign_in(RIGHT))
    opening = asyncio.create_task(there.sessions.sign_in(EMAIL, RIGHT, address=HOME))
    await read.wait()
    await here.accounts.change_password(user_id, RIGHT, "Passw0rd3", address=HOME, spared="")
    here.clock.advance(1)
    go_on.set()
    with pytest.raises(UnauthenticatedError, match="signed out everywhere"):
        await here.who(await signing_in)
    assert not await here.works(await opening)


async def test_the_first_one_only_signs_up(offices: tuple[Office, Office]) -> None:
    with pytest.raises(ConflictError, match="closed"):
        await offices[1].accounts.sign_up("eve@example.com", RIGHT, None, address=HOME)

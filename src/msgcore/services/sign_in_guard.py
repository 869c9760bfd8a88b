"""The guard against guessing passwords: who fails too often waits, longer each time.

Counted in the database, so that many processes are no more guesses, for the account that is named, whether
there is one or not, and for the network address that asks.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import TooManyAttemptsError
from msgcore.services.account_rules import normal_email
from msgcore.store import sign_in_attempts as store
from msgcore.store.database import Database

LONGEST_BLOCK = timedelta(minutes=15)
"""Whoever guesses can keep the owner of an account out for so long at a time."""


@dataclass(frozen=True, slots=True)
class Rule:
    """After `free` failures within `memory`, each further one blocks: for `first`, then twice as long each time."""

    free: int
    first: timedelta
    memory: timedelta

    def block(self, failures: int) -> timedelta | None:
        """How long a subject with so many failures waits."""
        if failures < self.free:
            return None
        doublings = min(failures - self.free, 32)
        return max(self.first, min(self.first * 2**doublings, LONGEST_BLOCK))


PER_ACCOUNT = Rule(free=10, first=timedelta(seconds=30), memory=timedelta(hours=24))


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt under way. It counts as a failure until it succeeds: else many at once would all go through."""

    account: str | None
    address: str
    address_blocked_until: datetime | None


class SignInGuard:
    """Counts attempts to sign in, and refuses those that come too soon."""

    def __init__(self, database: Database, clock: Clock, per_address: Rule) -> None:
        self._database = database
        self._clock = clock
        self._per_address = per_address

    async def begin(self, address: str, email: str | None = None) -> Attempt:
        """Count an attempt for a client's address, and for the account with this e-mail address if it is about one.

        Raises TooManyAttemptsError (429) with the time to wait.
        """
        account = None if email is None else _subject("account", normal_email(email))
        origin = _subject("address", address)
        rules = {origin: self._per_address} | ({} if account is None else {account: PER_ACCOUNT})
        now = self._clock.now()
        async with self._database.write() as connection:
            rows = await store.lock_attempts(connection, list(rules), now)
            _refuse_blocked(rows, now)
            blocks = {subject: await _count(connection, rows[subject], rule, now) for subject, rule in rules.items()}
        return Attempt(account, origin, blocks[origin])

    async def succeeded(self, attempt: Attempt) -> None:
        """The account starts afresh. The address gets this attempt back, and no more.

        Otherwise whoever has an account of their own could sign in to it between guesses.
        """
        async with self._database.write() as connection:
            subjects = [attempt.address] + ([] if attempt.account is None else [attempt.account])
            row = (await store.lock_attempts(connection, subjects, self._clock.now()))[attempt.address]
            values: dict[str, Any] = {"failures": max(0, row.failures - 1)}
            if row.blocked_until == attempt.address_blocked_until:  # else a failure has blocked it meanwhile
                values["blocked_until"] = None
            await store.update_attempts(connection, attempt.address, values)
            if attempt.account is not None:
                await store.delete_attempts(connection, attempt.account)


def _refuse_blocked(rows: dict[str, Any], now: datetime) -> None:
    until = max((row.blocked_until for row in rows.values() if row.blocked_until is not None), default=now)
    if until > now:
        seconds = math.ceil((until - now).total_seconds())
        raise TooManyAttemptsError(
            f"Too many failed attempts to sign in: try again in {seconds} seconds", retry_after=seconds
        )


async def _count(connection: AsyncConnection, row: Any, rule: Rule, now: datetime) -> datetime | None:
    """Count a failure of a subject; until when it is blocked from now on."""
    starts_afresh = row.forget_at <= now
    failures = 1 if starts_afresh else row.failures + 1
    block = rule.block(failures)
    until = None if block is None else now + block
    values: dict[str, Any] = {"failures": failures, "blocked_until": until}
    if until is not None or starts_afresh:
        values["forget_at"] = (until or now) + rule.memory
    await store.update_attempts(connection, row.subject, values)
    return until


def _subject(kind: str, name: str) -> str:
    return hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()

"""Password hashes: argon2id, made off the event loop and few at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right; `better_hash` is set when its hash should be replaced."""

    matches: bool
    better_hash: str | None = None


class Passwords:
    """Hashes and checks passwords.

    Each hash takes tens of milliseconds and 64 MiB by design (argon2-cffi's defaults, RFC 9106's
    low-memory profile), so a flood of sign-ins waits in line instead of taking the machine.
    """

    def __init__(self, hasher: PasswordHasher | None = None, *, concurrency: int | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = asyncio.Semaphore(concurrency or max(1, (os.cpu_count() or 2) // 2))
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """An argon2id hash with its parameters, to be stored."""
        return await self._off_loop(lambda: self._hasher.hash(password))

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Check a password against its stored hash.

        `stored` is None for a user who does not exist or has no password: that takes the same time
        and never matches, so the time tells nobody which addresses are known. So it is with what is no
        hash of argon2, which other software may have left.
        """
        return await self._off_loop(lambda: self._verify(password, stored))

    def _verify(self, password: str, stored: str | None) -> Verdict:
        decoy = self._decoy_hash()  # for everybody: the first one to need it would take longer
        matches = self._compare(password, stored or decoy)
        if matches is None:
            self._compare(password, decoy)
        if stored is None or not matches:
            return Verdict(matches=False)
        outdated = self._hasher.check_needs_rehash(stored)
        return Verdict(matches=True, better_hash=self._hasher.hash(password) if outdated else None)

    def _compare(self, password: str, stored: str) -> bool | None:
        """None where nothing was computed."""
        try:
            return self._hasher.verify(stored, password)
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError):
            return None

    def _decoy_hash(self) -> str:
        if self._decoy is None:
            self._decoy = self._hasher.hash(os.urandom(16).hex())
        return self._decoy

    async def _off_loop(self, work: Callable[[], T]) -> T:
        async with self._turns:
            return await asyncio.to_thread(work)

"""What `python -m bench timing` compares: ways in which something is refused."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from argon2 import PasswordHasher

from msgcore.core.clock import SystemClock
from msgcore.core.errors import UnauthenticatedError
from msgcore.core.ids import new_id
from msgcore.services.sign_in_guard import Rule

Call = Callable[[], Awaitable[object]]
ADDRESS = "192.0.2.1"
CLOCK = SystemClock()
UNLIMITED = Rule(free=10**9, first=timedelta(minutes=1), memory=timedelta(minutes=1))
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""With it a sign-in takes about as long as all that is around the hash, so that the tests see that."""
PROJECT = "bench"
USER = new_id()
OTHERS = 8
"""Secrets of each kind, so that none of them is a special one."""
UNKNOWN, ALMOST = "almost nobody's", "almost somebody's"
SHOWN = 12, 4
"""Characters of a key that lists show."""


@dataclass(frozen=True)
class Group:
    """Ways to fail that take equally long, unless one is `planted`; each makes calls with fresh values.

    All of them are refused by `refusal`. The first is what others are compared with. `by_design` says of others why
    they may differ. `share` of the usual number of samples is taken.
    """

    name: str
    ways: Mapping[str, Callable[[], Call]]
    refusal: type[Exception] = UnauthenticatedError
    planted: bool = False
    by_design: Mapping[str, str] = field(default_factory=dict[str, str])
    share: float = 1.0


def calls(samples: int) -> int:
    """How often a way is taken for so many samples: the first ones do not count."""
    return samples + max(20, samples // 10)


def urlsafe(length: int) -> str:
    """Random characters such as those of keys and tokens."""
    return secrets.token_urlsafe(length)[:length]


def at_once(work: Callable[..., object], *arguments: Any) -> Call:
    """A call of what does not wait for anything."""

    async def call() -> object:
        return work(*arguments)

    return call

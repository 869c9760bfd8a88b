"""What the bench of limits sends: for each platform its targets, its declared budgets and its rows in the ledger.

Worked out from the published limits (`limit_rules.py`), which are ceilings over any window. A budget
spaces calls evenly, and an even spacing of exactly the published rate touches the ceiling with
every call. Each period is therefore declared longer by a share (`slack`), which is how much calls
may come too close together on their way without a refusal: 2 % of a second are 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import insert

from msgcore.core.clock import SystemClock
from msgcore.core.deliveries import Rank, Ticket
from msgcore.core.ids import new_id
from msgcore.core.limits import Budget, RateLimits
from msgcore.dispatch.scheduler import Scheduler
from msgcore.security.keyring import Keyring
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog, NewMessage
from msgcore.store.ledger.feed import NIL, Feed
from msgcore.store.migrate import upgrade
from msgcore.store.partitions import ensure_partitions
from msgcore.store.tables import project_platforms, projects, users

PROJECT = "limits"
MESSAGE_ROWS = 1000


@dataclass(frozen=True)
class Load:
    """One account of a platform with a full queue.

    `rate` is how many messages a second its published limits allow in all, to these targets.
    """

    platform: str
    targets: tuple[str, ...]
    rate: float

    def messages(self, seconds: float) -> Iterator[str]:
        """Lanes of the messages of a queue that stays full so long: every target in turn."""
        needed = int(self.rate * (seconds + 15)) + len(self.targets)
        rounds = -(-needed // len(self.targets))
        # Lanes that are allowed more than their share of the turns (none is allowed more than 1 a second).
        rounds = max(rounds, int(seconds) + 15 if len(self.targets) <= self.rate else 0)
        for _ in range(rounds):
            yield from self.targets
        for target in self.targets:
            if is_group(target):
                yield from [target] * int(20 * (1 + seconds // 60))


def is_group(lane: str) -> bool:
    """Whether a lane of Telegram is a group."""
    return lane.startswith("group:")


def loads() -> dict[str, Load]:
    """By platform."""
    chats = [f"user:{n}" for n in range(1, 501)]
    groups = [f"group:-{n}" for n in range(1, 4)]
    found = (
        Load("telegram", tuple(chats + groups), 30.0),
        Load("discord", tuple(f"channel:{n}" for n in range(1, 31)), 30.0),  # 30 channels, 1 a second each
        Load("slack", tuple(f"channel:C{n}" for n in range(1, 21)), 20.0),  # 20 channels, 1 a second each
        Load("whatsapp-cloud", tuple(f"user:4915{n}" for n in range(1, 2001)), 80.0),
    )
    return {load.platform: load for load in found}


def limits_of(platform: str, lane: str, slack: float) -> RateLimits:
    """The budgets that a platform's declaration would hold, for this target."""

    def budget(count: int, period: float, burst: int = 1) -> Budget:
        return Budget(count, period * (1 + slack), burst)

    match platform:
        case "telegram":
            per_chat = (budget(1, 1.0), budget(20, 60.0)) if is_group(lane) else (budget(1, 1.0),)
            return RateLimits(account=(budget(30, 1.0),), lane=per_chat)
        case "discord":
            return RateLimits(account=(budget(50, 1.0),), lane=(budget(5, 5.0),))
        case "slack":
            return RateLimits(lane=(budget(1, 1.0),))
        case "whatsapp-cloud":
            return RateLimits(account=(budget(80, 1.0),), lane=(budget(1, 6.0),))
        case _:
            raise ValueError(f"no load for {platform}")


async def fill_ledger(database: Database, key: bytes, server: str, chosen: Sequence[Load], seconds: float) -> int:
    """Make the tables, an account for each platform and its messages; how many deliveries that are."""
    await upgrade(database)
    now = datetime.now(UTC)
    await ensure_partitions(database, now)
    accounts = {load.platform: new_id() for load in chosen}
    await _add_accounts(database, Keyring(key), server, accounts, now)
    log = AcceptLog(database, _nobody)
    total = 0
    for load in chosen:
        lanes = list(load.messages(seconds))
        total += len(lanes)
        for at in range(0, len(lanes), MESSAGE_ROWS):
            await log.accept(_message(load.platform, accounts[load.platform], lanes[at : at + MESSAGE_ROWS], now))
    return total


async def feed(database: Database, scheduler: Scheduler, slack: float) -> int:
    """Hand every open delivery of the ledger to the scheduler; how many there were."""
    source, clock, last_id, total = Feed(database), SystemClock(), NIL, 0
    while page := await source.after(last_id, clock.now()):
        await scheduler.enqueue(
            [
                Ticket(
                    delivery_id=delivery.id,
                    account_id=delivery.platform_id,
                    lane=delivery.lane,
                    rank=Rank(delivery.rank),
                    limits=limits_of(delivery.platform, delivery.lane or "", slack),
                )
                for delivery in page
            ]
        )
        last_id, total = page[-1].id, total + len(page)
    return total


async def _nobody(_tickets: Sequence[Ticket]) -> None:
    """Nothing dispatches while the ledger is filled."""


async def _add_accounts(
    database: Database, keyring: Keyring, server: str, accounts: dict[str, str], now: datetime
) -> None:
    stamps = {"created_at": now, "updated_at": now}
    owner = new_id()
    async with database.write() as connection:
        await connection.execute(insert(users), {"id": owner, "email": "bench@example.com", "is_admin": True, **stamps})
        await connection.execute(
            insert(projects),
            {
                "id": PROJECT,
                "name": "Limits",
                "environment": "development",
                "is_default": False,
                "owner_id": owner,
                **stamps,
            },
        )
        for platform, account_id in accounts.items():
            credentials = msgspec.json.encode({"url": f"{server}/{platform}"})
            await connection.execute(
                insert(project_platforms),
                {
                    "id": account_id,
                    "project_id": PROJECT,
                    "platform": platform,
                    "name": platform,
                    "credentials_encrypted": keyring.encrypt(credentials, context=account_id),
                    "webhook_token": new_id(),
                    "is_active": True,
                    "test_mode": False,
                    **stamps,
                },
            )


def _message(platform: str, account_id: str, lanes: Sequence[str], now: datetime) -> NewMessage:
    """One message to many lanes, as rows."""
    message: dict[str, Any] = {
        "id": new_id(),
        "project_id": PROJECT,
        "content": {"text": "within limits"},
        "options": None,
        "metadata": None,
        "created_by": None,
        "created_at": now,
        "batch_id": None,
    }
    return NewMessage(message, [_delivery(message["id"], platform, account_id, lane, now) for lane in lanes], [])


def _delivery(message_id: str, platform: str, account_id: str, lane: str, now: datetime) -> dict[str, Any]:
    target_type, _, target_id = lane.partition(":")
    return {
        "id": new_id(),
        "message_id": message_id,
        "batch_id": None,
        "project_id": PROJECT,
        "platform_id": account_id,
        "platform": platform,
        "target_type": target_type,
        "target_id": target_id,
        "action": None,
        "lane": lane,
        # Of few groups among many chats, so that they use up what is theirs.
        "rank": (Rank.HIGH if is_group(lane) else Rank.NORMAL).value,
        "state": "queued",
        "attempts": 0,
        "throttles": 0,
        "uncertain": False,
        "on_uncertain": "resend",
        "due_at": now,
        "first_due_at": now,
        "expires_at": None,
        "created_at": now,
    }

"""The quota of open deliveries, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

import pytest

from msgcore.core.errors import InvalidInputError, QueueFullError
from msgcore.store.database import Database
from msgcore.store.ledger import quota as quota_module
from msgcore.store.ledger.quota import QueueQuota
from store.ledger_rows import NOW, PROJECT, add_project, new_message
from store.test_ledger import Ledger, result


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    await add_project(database)
    return Ledger(database)


async def send(ledger: Ledger, quota: QueueQuota, *targets: str) -> list[str]:
    new = new_message(*targets)
    with await quota.reserve(PROJECT, len(targets)):
        await ledger.accept_log.accept(new)
    return [row["id"] for row in new.deliveries]


async def test_many_senders_at_once_never_get_in_too_many(ledger: Ledger) -> None:
    quota = QueueQuota(ledger.database, Clock(), 100)
    answers = await asyncio.gather(*(send(ledger, quota, "a", "b", "c") for _ in range(200)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, QueueFullError)]
    assert (len(answers) - len(refused), len(refused)) == (33, 167)
    assert all(error.retry_after for error in refused)
    assert sum((await ledger.states()).values()) == 99


async def test_there_is_room_again_when_some_are_done(ledger: Ledger) -> None:
    clock = Clock()
    quota = QueueQuota(ledger.database, clock, 3)
    ids = await send(ledger, quota, "a", "b", "c")
    items = await ledger.start(*ids)
    await ledger.work.record([result(items[0], "sent", "sent"), result(items[1], "failed", "failed")])
    with pytest.raises(QueueFullError, match="MSGCORE_QUEUE_QUOTA"):
        await send(ledger, quota, "d")
    clock.seconds += 1.0
    await send(ledger, quota, "d", "e")
    with pytest.raises(QueueFullError):
        await send(ledger, quota, "f")


async def test_the_counts_are_read_once_a_second(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    count = quota_module.count_by_state

    async def counting(*args: object, **names: object) -> object:
        nonlocal reads
        reads += 1
        return await count(*args, **names)  # type: ignore[arg-type]

    monkeypatch.setattr(quota_module, "count_by_state", counting)
    clock = Clock()
    quota = QueueQuota(ledger.database, clock, 1000)
    for second in range(3):
        clock.seconds = float(second)
        await asyncio.gather(*(send(ledger, quota, "a") for _ in range(20)))
    assert reads == 3


async def test_what_is_being_stored_while_the_counts_are_read_counts(ledger: Ledger) -> None:
    clock = Clock()
    quota = QueueQuota(ledger.database, clock, 4)
    await send(ledger, quota, "a")
    with await quota.reserve(PROJECT, 2):  # taken, and not in the ledger yet
        clock.seconds += 5.0
        await send(ledger, quota, "b")
        with pytest.raises(QueueFullError):
            await send(ledger, quota, "c")
    clock.seconds += 5.0
    await send(ledger, quota, "c", "d")  # what was taken was not stored after all


async def test_projects_have_quotas_of_their_own(ledger: Ledger) -> None:
    quota = QueueQuota(ledger.database, Clock(), 2)
    await send(ledger, quota, "a", "b")
    with await quota.reserve("other", 2):
        pass


async def test_what_can_never_fit_is_told_so(ledger: Ledger) -> None:
    with pytest.raises(InvalidInputError, match="split it, or raise MSGCORE_QUEUE_QUOTA"):
        await QueueQuota(ledger.database, Clock(), 2).reserve(PROJECT, 3)


async def test_zero_is_no_limit(ledger: Ledger) -> None:
    quota = QueueQuota(ledger.database, Clock(), 0)
    for _ in range(5):
        await send(ledger, quota, *"abcdefgh")
    assert sum((await ledger.states()).values()) == 40

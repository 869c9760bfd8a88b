"""The processor while the ledger, the scheduler or a part of it fails or is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import IntegrityError

from dispatch.running_core import Core
from msgcore.core.deliveries import Lease
from msgcore.platforms.base import OutgoingDelivery, SentReceipt
from msgcore.store.ledger import reads
from msgcore.store.ledger.work import WorkLog
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT
from store.test_faults import wrapped


async def test_a_database_that_fails_for_a_while_loses_nothing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    real_begin, real_record = WorkLog.begin, WorkLog.record
    failures = {"begin": 2, "record": 2}

    async def begin(self, *rest):
        if failures["begin"]:
            failures["begin"] -= 1
            raise OSError("database away")
        return await real_begin(self, *rest)

    async def record(self, *rest):
        if failures["record"]:
            failures["record"] -= 1
            raise OSError("database away")
        return await real_record(self, *rest)

    monkeypatch.setattr(WorkLog, "begin", begin)
    monkeypatch.setattr(WorkLog, "record", record)
    await core.accept("ann", "bob")
    await core.until(sent=2)
    assert len(core.adapter.calls) == 2


@pytest.mark.parametrize("core", ["sqlite alone"], indirect=True)
async def test_a_fault_that_nobody_expects_ends_no_loop(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = {"claim", "renew", "enqueue"}

    def failing_once(name: str) -> Callable[..., Awaitable[Any]]:
        real = getattr(core.scheduler, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if name in faults:
                faults.remove(name)
                raise ValueError("a bug")
            return await real(*arguments, **named)

        return call

    await core.stop()
    core.settings["lease_seconds"] = 0.3
    core.build()
    for name in tuple(faults):
        monkeypatch.setattr(core.scheduler, name, failing_once(name))
    await core.start()
    await core.accept("ann")  # is committed, and so is the answer
    await core.until(sent=1)
    async with asyncio.timeout(PATIENCE):
        while faults:
            await asyncio.sleep(0.01)
    assert {"claim", "renew"} <= {task.get_name() for task in asyncio.all_tasks()}


@pytest.mark.parametrize("core", ["sqlite alone"], indirect=True)
async def test_an_outcome_that_gives_way_to_others_is_stored_after_them(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is: else the message is sent again when its lease runs out."""
    real, faults = WorkLog.record, [wrapped(asyncpg.DeadlockDetectedError("deadlock")) for _ in range(3)]

    async def record(self: WorkLog, results: Any) -> None:
        if faults:
            raise faults.pop()
        await real(self, results)

    monkeypatch.setattr(WorkLog, "record", record)
    new = await core.accept("ann")
    await core.until(sent=1)
    (row,) = await reads.deliveries_of(core.database, new.message["id"])
    assert (len(core.adapter.calls), row.provider_message_id) == (1, f"pm-{row.id}")


async def test_an_outcome_that_cannot_be_stored_does_not_hold_the_others_back(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = WorkLog.record

    async def record(self, results):
        if any(result.provider_message_id == "poison" for result in results):
            raise IntegrityError("insert", {}, ValueError("does not fit"))
        return await real(self, results)

    async def script(delivery: OutgoingDelivery) -> SentReceipt:
        return SentReceipt("poison" if delivery.target.id == "bad" else "pm")

    monkeypatch.setattr(WorkLog, "record", record)
    core.adapter.script = script
    await core.accept("bad", "good")
    await core.until(sent=2)


async def test_what_fails_between_beginning_and_sending_costs_nothing(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account cannot be read: what was begun is given back, sent once, and not taken for uncertain."""
    real, faults = core.accounts.get, iter([OSError("the database is away")])

    async def get(account_id: str) -> object:
        for fault in faults:
            raise fault
        return await real(account_id)

    monkeypatch.setattr(core.accounts, "get", get)
    new = await core.accept("ann", "bob", on_uncertain="fail")
    await core.until(sent=2)
    assert len(core.adapter.calls) == 2
    assert {call.attempt for call in core.adapter.calls} == {1}
    assert await core.timeline(new) == ["released", "sent"]


@pytest.mark.parametrize("core", ["sqlite alone"], indirect=True)
@pytest.mark.parametrize("step", ["begin", "load_messages"])
async def test_leases_are_kept_while_the_ledger_takes_its_time(
    core: Core, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """One that runs out is claimed again, and its delivery sent twice."""
    await core.stop()
    core.settings["lease_seconds"] = 0.06
    core.build()
    real, renew, is_renewed = getattr(WorkLog, step), core.scheduler.renew, asyncio.Event()

    async def late(self: WorkLog, *arguments: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            await is_renewed.wait()
        return await real(self, *arguments)

    async def noted(leases: Sequence[Lease]) -> list[Lease]:
        lost = await renew(leases)
        if leases and not lost:
            is_renewed.set()
        return lost

    monkeypatch.setattr(WorkLog, step, late)
    monkeypatch.setattr(core.scheduler, "renew", noted)
    await core.start()
    await core.accept("ann")
    await core.until(sent=1)
    assert is_renewed.is_set()


@pytest.mark.parametrize("core", ["sqlite alone"], indirect=True)
async def test_one_that_was_claimed_twice_before_it_was_begun_is_sent_once(core: Core) -> None:
    """The first lease ran out while its batch waited for its turn."""
    await core.stop()
    new = await core.accept("ann")
    first, second = (Lease(new.deliveries[0]["id"], ACCOUNT, token) for token in (1, 2))
    lost, begun = await core.processor._begin_groups([[first], [second]])
    assert (list(lost), list(begun)) == ([], [second.delivery_id])


async def test_a_stop_waits_for_outcomes_on_their_way(core: Core) -> None:
    entered = asyncio.Event()

    async def slow(delivery: OutgoingDelivery) -> SentReceipt:
        entered.set()
        await asyncio.sleep(0.05)
        return SentReceipt("pm")

    core.adapter.script = slow
    await core.accept("ann")
    await entered.wait()
    await core.stop()
    await core.until(sent=1)

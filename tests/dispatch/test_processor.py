"""The processor with the real ledger and scheduler; only the platform is scripted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update

from dispatch.running_core import Core, failing
from msgcore.core.content import Content, SendOptions
from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)
from msgcore.core.limits import PACING, Pacing
from msgcore.dispatch.messages import MessageBody
from msgcore.platforms.base import OutgoingDelivery, SentReceipt
from msgcore.security.keyring import Keyring
from msgcore.store.ledger import reads
from msgcore.store.ledger.work import WorkLog
from msgcore.store.tables import project_platforms
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT


async def test_an_accepted_message_is_sent(core: Core) -> None:
    new = await core.accept("ann")
    await core.until(sent=1)
    (row,) = await reads.deliveries_of(core.database, new.message["id"])
    assert row.provider_message_id == f"pm-{row.id}"
    (call,) = core.adapter.calls
    assert (call.target.id, call.content.text, call.attempt) == ("ann", "hello", 1)


@pytest.mark.parametrize(
    ("errors", "timeline", "final"),
    [
        ([TemporaryError("down", "later")], ["retry", "sent"], "sent"),
        ([PermanentError("refused", "no")], ["failed"], "failed"),
        ([ThrottledError("429", "", retry_after=0.05, scope=Scope.DELIVERY)], ["throttled", "sent"], "sent"),
        ([ThrottledError("429", "", retry_after=0.05, scope=Scope.ACCOUNT)], ["throttled", "sent"], "sent"),
        ([ValueError("a bug")], ["retry", "sent"], "sent"),
        ([TemporaryError("down", "")] * 3, ["retry", "retry", "failed"], "failed"),
        ([TimeoutError()], ["retry", "sent"], "sent"),
    ],
    ids=["temporary", "permanent", "throttled", "account throttled", "bug", "given up", "time-out"],
)
async def test_every_kind_of_failure(core: Core, errors: list[Exception], timeline: list[str], final: str) -> None:
    core.adapter.script = failing(*errors)
    new = await core.accept("ann")
    await core.until(**{final: 1})
    assert await core.timeline(new) == timeline


async def test_a_lane_keeps_its_order_through_failures(core: Core) -> None:
    seen: dict[str, int] = {}

    async def flaky(delivery: OutgoingDelivery) -> SentReceipt:
        seen[delivery.id] = seen.get(delivery.id, 0) + 1
        if seen[delivery.id] == 1 and len(seen) % 3 == 0:
            raise TemporaryError("down", "")
        return SentReceipt(None)

    core.adapter.script = flaky
    made = [(await core.accept("ann")).deliveries[0]["id"] for _ in range(30)]
    await core.until(sent=30)
    final = list(dict.fromkeys(call.id for call in reversed(core.adapter.calls)))[::-1]
    assert final == made


async def test_lanes_of_an_account_run_side_by_side_and_leave_places_free(core: Core) -> None:
    gate = asyncio.Event()

    async def slow(delivery: OutgoingDelivery) -> SentReceipt:
        await gate.wait()
        return SentReceipt(None)

    core.adapter.script = slow
    await core.accept(*(f"user-{n}" for n in range(50)))
    async with asyncio.timeout(PATIENCE):
        while core.adapter.running < 12:
            await asyncio.sleep(0.005)
    gate.set()
    await core.until(sent=50)
    assert core.adapter.most_running == 12, "three quarters of 16"


async def test_what_waits_for_its_moment_leaves_its_place_to_others(core: Core) -> None:
    await core.stop()
    core.pacing = Pacing(ahead=3.0)  # longer than a busy machine takes to accept a message
    core.settings["concurrency"] = 1
    core.build()
    await core.start()
    await core.accept("later", due_in=timedelta(seconds=2.5))
    await core.until(sending=1)  # claimed ahead of time
    await core.accept("now")
    await core.until(sent=2)
    assert [call.target.id for call in core.adapter.calls] == ["now", "later"]


async def test_planned_moments_that_come_at_once_take_no_more_places_than_there_are(core: Core) -> None:
    await core.stop()
    core.settings["concurrency"] = 2
    core.build()
    await core.start()

    async def slow(delivery: OutgoingDelivery) -> SentReceipt:
        await asyncio.sleep(0.01)
        return SentReceipt(None)

    core.adapter.script = slow
    await core.accept(*(f"user-{number}" for number in range(10)), due_in=timedelta(seconds=PACING.ahead * 0.9))
    await core.until(sent=10)
    assert core.adapter.most_running <= 2
    assert len(core.adapter.calls) == 10


async def test_a_stop_interrupts_what_waits_for_a_planned_moment_or_a_place(core: Core) -> None:
    await core.stop()
    core.settings["concurrency"] = 1
    core.build()
    await core.start()
    never = asyncio.Event()

    async def stuck(delivery: OutgoingDelivery) -> SentReceipt:
        await never.wait()
        return SentReceipt(None)

    core.adapter.script = stuck
    new = await core.accept(
        *(f"user-{number}" for number in range(4)),
        due_in=timedelta(seconds=PACING.ahead * 0.9),
        on_uncertain="fail",
    )
    async with asyncio.timeout(PATIENCE):
        while not (core.adapter.calls and core.processor._places._returning):
            await asyncio.sleep(0.01)
    (called,) = core.adapter.calls
    await core.stop(0.0)
    assert (core.processor._places.busy, core.processor._places.planned) == (0, 0)
    core.adapter.script = core.adapter.take
    core.build()
    await core.start()
    await core.until(sent=3, failed=1)
    failed = next(row for row in await reads.deliveries_of(core.database, new.message["id"]) if row.state == "failed")
    assert failed.id == called.id, "of the others nothing is uncertain"


async def test_what_is_in_memory_does_not_wait_for_what_must_be_read(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read = asyncio.Event()
    load = WorkLog.load_messages

    async def late(self: WorkLog, message_ids: Any) -> Any:
        await may_read.wait()
        return await load(self, message_ids)

    monkeypatch.setattr(WorkLog, "load_messages", late)
    await core.stop()
    core.build()
    await core.feeder.start()
    old, new = await core.accept("ann"), await core.accept("bob")
    core.messages.put(new.message["id"], MessageBody(Content(text="hello"), SendOptions()), 5)
    core.processor.start()  # claims both at once
    try:
        async with asyncio.timeout(PATIENCE):
            while not core.adapter.calls:
                await asyncio.sleep(0.01)
        assert [call.target.id for call in core.adapter.calls] == ["bob"]
    finally:
        may_read.set()
    await core.until(sent=2)
    assert await core.timeline(old) == ["sent"]


async def test_what_waits_for_the_ledger_leaves_places_to_others_but_not_without_end(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_record = asyncio.Event()
    record = WorkLog.record

    async def late(self: WorkLog, results: Any) -> None:
        await may_record.wait()
        await record(self, results)

    monkeypatch.setattr(WorkLog, "record", late)
    for first in range(0, 60, 10):
        await core.accept(*(f"user-{number}" for number in range(first, first + 10)))
    try:
        async with asyncio.timeout(PATIENCE):
            while len(core.adapter.calls) <= 16:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(core.adapter.calls) <= 32
    finally:
        may_record.set()
    await core.until(sent=60)


async def test_refused_credentials_pause_the_account_and_cost_no_attempt(core: Core) -> None:
    core.adapter.script = failing(AuthenticationError("401", "token revoked"))
    new = await core.accept("ann")
    async with asyncio.timeout(PATIENCE):
        while await core.timeline(new) != ["authentication"]:
            await asyncio.sleep(0.01)
    await core.until(queued=1)
    (row,) = await reads.deliveries_of(core.database, new.message["id"])
    assert row.attempts == 0
    await core.accept("bob")
    await core.until(queued=2)
    async with core.database.write() as connection:
        await connection.execute(update(project_platforms).values(paused_at=None))
    core.accounts.forget(ACCOUNT)
    await core.scheduler.resume(ACCOUNT)
    await core.until(sent=2)


async def test_a_platform_that_was_deleted_fails_its_deliveries(core: Core) -> None:
    async with core.database.write() as connection:
        await connection.execute(delete(project_platforms))
    new = await core.accept("ann")
    await core.until(failed=1)
    (row,) = await reads.deliveries_of(core.database, new.message["id"])
    assert row.error_code == "platform_deleted"


async def test_credentials_that_cannot_be_decrypted_pause_the_account(core: Core) -> None:
    async with core.database.write() as connection:
        await connection.execute(
            update(project_platforms).values(credentials_encrypted=Keyring(b"x" * 32).encrypt(b"{}", context=ACCOUNT))
        )
    new = await core.accept("ann")
    async with asyncio.timeout(PATIENCE):
        while await core.timeline(new) != ["authentication"]:
            await asyncio.sleep(0.01)
    assert core.adapter.calls == []


async def test_an_expired_message_is_not_sent(core: Core) -> None:
    await core.accept("ann", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await core.until(expired=1)
    assert core.adapter.calls == []


def test_delivery_errors_are_one_family() -> None:
    assert all(issubclass(e, DeliveryError) for e in (PermanentError, TemporaryError, ThrottledError))


async def test_a_pause_and_its_end_are_heard_from_other_processes(core: Core) -> None:
    """Another process, the API's, writes both to the ledger and nothing else."""

    async def note(**columns: object) -> None:
        async with core.database.write() as connection:
            await connection.execute(update(project_platforms).values(columns))

    await note(is_active=False)
    async with asyncio.timeout(PATIENCE):
        while ACCOUNT not in await core.scheduler.paused():
            await asyncio.sleep(0.01)
    await core.accept("ann")
    await core.until(queued=1)
    await note(is_active=True)
    await core.until(sent=1)
    assert len(core.adapter.calls) == 1

"""Fallbacks with the real ledger and scheduler, of one process and over Redis; only the platform is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from dispatch.running_core import KINDS, Core, running_core
from msgcore.core.errors import PermanentError, Scope, TemporaryError, ThrottledError
from msgcore.core.ids import new_id
from msgcore.platforms.base import OutgoingDelivery, SentReceipt
from msgcore.store.ledger import dead, ending, reads, receipts
from msgcore.store.ledger.accept import NewMessage
from msgcore.store.ledger.receipts import DeliveryReceipt
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, PROJECT, new_chain


@pytest.fixture(params=KINDS)
async def core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    async with running_core(request) as running:
        running.adapter.script = as_named
        yield running


async def as_named(delivery: OutgoingDelivery) -> SentReceipt:
    """What the recipient is called, he does."""
    match delivery.target.id.split("-")[0]:
        case "bad":
            raise PermanentError("refused", "no")
        case "busy":
            raise ThrottledError("429", "", retry_after=600, scope=Scope.DELIVERY)
        case "down":
            raise TemporaryError("down", "later")
        case _:
            return SentReceipt(f"pm-{delivery.id}")


async def send(core: Core, *targets: str, after: int | None = None, **columns: object) -> NewMessage:
    new = new_chain(*targets, after=after, now=datetime.now(UTC), **columns)
    await core.accept_log.accept(new)
    return new


async def states(core: Core, new: NewMessage) -> list[str]:
    return [row.state for row in await reads.deliveries_of(core.database, new.message["id"])]


def called(core: Core) -> list[str]:
    return [call.target.id for call in core.adapter.calls]


async def test_the_first_that_is_reached_wins(core: Core) -> None:
    first = await send(core, "ann", "bob", "eve")
    await core.until(sent=1, cancelled=2)
    second = await send(core, "bad-1", "down-2", "joe", "eve")
    await core.until(sent=2, failed=2, cancelled=3)
    assert await states(core, first) == ["sent", "cancelled", "cancelled"]
    assert await states(core, second) == ["failed", "failed", "sent", "cancelled"]
    assert called(core) == ["ann", "bad-1", "down-2", "down-2", "down-2", "joe"]


async def test_when_nobody_is_reached_all_are_dead_letters_that_can_be_requeued_in_their_order(core: Core) -> None:
    new = await send(core, "bad-1", "bad-2")
    await core.until(failed=2)
    core.adapter.script = core.adapter.take
    await dead.requeue(core.database, dead.DeadLetterFilter(PROJECT), datetime.now(UTC))
    await core.until(sent=1, cancelled=1)
    assert (await states(core, new), called(core)) == (["sent", "cancelled"], ["bad-1", "bad-2", "bad-1"])


async def test_one_that_waits_for_too_long_is_passed_over(core: Core) -> None:
    new = await send(core, "busy", "busy-too", "joe", after=1)
    await core.until(cancelled=2, sent=1)
    assert await states(core, new) == ["cancelled", "cancelled", "sent"]
    rows = await reads.deliveries_of(core.database, new.message["id"])
    assert [row.error_code for row in rows] == ["fallback_timeout", "fallback_timeout", None]


async def test_one_that_is_under_way_is_waited_for(core: Core) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def slow(delivery: OutgoingDelivery) -> SentReceipt:
        if delivery.target.id == "slow":
            begun.set()
            await over.wait()
            raise ThrottledError("429", "", retry_after=600, scope=Scope.DELIVERY)
        return SentReceipt(None)

    core.adapter.script = slow
    new = await send(core, "slow", "joe", after=1)
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    await asyncio.sleep(1.3)  # its second is over, and the sweep has come by
    assert await states(core, new) == ["sending", "standby"]
    over.set()
    await core.until(cancelled=1, sent=1)
    assert called(core) == ["slow", "joe"]


async def test_what_a_process_left_undone_is_done_after_the_next_start(core: Core) -> None:
    """As if it was killed between recording what became of an attempt and looking for fallbacks."""
    await core.fallbacks.stop()
    failed = await send(core, "bad-1", "joe")
    reached = await send(core, "ann", "eve")
    await core.until(failed=1, sent=1, standby=2)
    await core.stop()
    core.build()
    await core.start()
    await core.until(failed=1, sent=2, cancelled=1)
    assert await states(core, failed) == ["failed", "sent"]
    assert await states(core, reached) == ["sent", "cancelled"]


async def test_what_was_cancelled_does_not_go_to_a_fallback(core: Core) -> None:
    new = await send(core, "busy", "joe")
    await core.until(retrying=1, standby=1)
    await ending.cancel_message(core.database, new.message["id"], datetime.now(UTC))
    await asyncio.sleep(0.2)
    await core.until(cancelled=2)
    assert called(core) == ["busy"]


async def test_a_message_that_expired_is_not_sent_to_anybody(core: Core) -> None:
    new = await send(core, "bad-1", "joe", expires_at=datetime.now(UTC))
    await core.until(expired=2)
    assert (await states(core, new), called(core)) == (["expired", "expired"], [])


async def test_after_a_receipt_that_says_no_the_next_is_sent(core: Core) -> None:
    new = await send(core, "ann", "joe", "eve")
    await core.until(sent=1, cancelled=2)
    now, sent_as = datetime.now(UTC), f"pm-{new.deliveries[0]['id']}"
    no = DeliveryReceipt(new_id(), PROJECT, ACCOUNT, "ann", sent_as, "failed", "no such user", now, now, {})
    await core.database.transact(lambda connection: receipts.take(connection, ACCOUNT, [no], now))
    await core.until(failed=1, sent=1, cancelled=1)
    assert called(core) == ["ann", "joe"]


async def test_many_at_once(core: Core) -> None:
    await asyncio.gather(*(send(core, f"bad-{number}", f"joe-{number}", "eve") for number in range(300)))
    await core.until(failed=300, sent=300, cancelled=300)
    assert len(called(core)) == 600

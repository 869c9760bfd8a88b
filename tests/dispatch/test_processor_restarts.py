"""What a stop or a kill interrupts, and what the next process makes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from dispatch.running_core import Core, Script
from msgcore.core.errors import (
    PermanentError,
    TemporaryError,
)
from msgcore.platforms.base import OutgoingDelivery, SentReceipt
from msgcore.store.ledger import reads
from msgcore.store.ledger.accept import NewMessage
from msgcore.store.ledger.work import WorkLog


class TestRestart:
    async def test_what_was_queued_is_sent_by_the_next_process(self, core: Core) -> None:
        await core.stop()
        core.build()
        made = [(await core.accept("ann")).deliveries[0]["id"] for _ in range(5)]
        await core.accept(*(f"u{n}" for n in range(1100)))
        await core.start()
        await core.until(sent=1105)
        assert [call.id for call in core.adapter.calls if call.target.id == "ann"] == made

    async def test_an_interrupted_delivery_is_sent_again_and_says_so(self, core: Core) -> None:
        new, core = await self.interrupt(core)
        await core.start()
        await core.until(sent=1)
        assert await core.timeline(new) == ["uncertain", "sent"]
        assert core.adapter.calls[-1].attempt == 2

    async def test_a_platform_that_can_be_asked_is_asked_first(self, core: Core) -> None:
        new, core = await self.interrupt(core)
        calls = len(core.adapter.calls)
        core.adapter.already_sent = SentReceipt("found")
        await core.start()
        await core.until(sent=1)
        assert len(core.adapter.calls) == calls
        (row,) = await reads.deliveries_of(core.database, new.message["id"])
        assert row.provider_message_id == "found"

    @pytest.mark.parametrize(("core", "parts"), [("sqlite alone", 1), ("postgresql alone", 2)], indirect=["core"])
    async def test_one_with_the_same_text_is_not_taken_for_it(self, core: Core, parts: int) -> None:
        """Some platforms can only be asked what was said, and it may have been said before."""
        ids = [f"pm-{number}" for number in range(parts)]

        async def in_parts(delivery: OutgoingDelivery) -> SentReceipt:
            done = len(delivery.part_ids)
            return SentReceipt(ids[done], more=done + 1 < parts)

        core.adapter.script = in_parts
        await core.accept("ann")
        await core.until(sent=1)
        new, core = await self.interrupt(core)
        core.adapter.already_sent, core.adapter.script = SentReceipt(ids[-1]), core.adapter.take
        await core.start()
        await core.until(sent=2)
        assert core.adapter.calls[-1].id == new.deliveries[0]["id"]

    async def test_on_uncertain_fail_does_not_send_twice(self, core: Core) -> None:
        new, core = await self.interrupt(core, on_uncertain="fail")
        calls = len(core.adapter.calls)
        core.adapter.already_sent = PermanentError("missing_scope", "it does not let us look")
        await core.start()
        await core.until(failed=1)
        assert len(core.adapter.calls) == calls
        (row,) = await reads.deliveries_of(core.database, new.message["id"])
        assert row.error_code == "uncertain"

    async def test_a_stop_waits_for_what_is_running(self, core: Core) -> None:
        entered, gate = asyncio.Event(), asyncio.Event()

        async def slow(delivery: OutgoingDelivery) -> SentReceipt:
            entered.set()
            await gate.wait()
            return SentReceipt(None)

        core.adapter.script = slow
        await core.accept("ann")
        await entered.wait()
        stopping = asyncio.create_task(core.stop())
        await asyncio.sleep(0)
        gate.set()
        await stopping
        await core.until(sent=1)

    async def test_a_stop_interrupts_what_takes_too_long_and_leaves_it_retrying(self, core: Core) -> None:
        entered = asyncio.Event()

        async def endless(delivery: OutgoingDelivery) -> SentReceipt:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        core.adapter.script = endless
        new = await core.accept("ann")
        await entered.wait()
        await core.stop(0.05)
        await core.until(retrying=1)
        (entry,) = await reads.attempts_of(core.database, new.deliveries[0]["id"])
        assert (entry.outcome, entry.reached) == ("retry", "maybe")

    async def interrupt(self, core: Core, **columns) -> tuple[NewMessage, Core]:
        """Leave a delivery in `sending`, as a kill does."""
        await core.stop()
        core.build()
        new = await core.accept("ann", **columns)
        await WorkLog(core.database).begin([new.deliveries[0]["id"]], datetime.now(UTC))
        return new, core


class TestSeveralCalls:
    """A message that a platform takes in parts."""

    @staticmethod
    def three_parts(*errors: Exception) -> Script:
        queue = list(errors)

        async def script(delivery: OutgoingDelivery) -> SentReceipt:
            done = len(delivery.part_ids)
            if delivery.target.id != "ann" or delivery.content.text != "hello":
                return SentReceipt("other")
            if done == 1 and queue:
                raise queue.pop(0)
            return SentReceipt(f"part-{done}", more=done < 2)

        return script

    async def test_each_part_takes_its_turn_and_nobody_comes_between(self, core: Core) -> None:
        core.adapter.script = self.three_parts(TemporaryError("down", ""))
        new, after = await core.accept("ann"), await core.accept("ann")
        await core.until(sent=2)
        calls = [(call.id, call.part_ids, call.attempt) for call in core.adapter.calls]
        parts = [((), 1), (("part-0",), 1), (("part-0",), 2), (("part-0", "part-1"), 2)]
        first = new.deliveries[0]["id"]
        assert calls[:4] == [(first, *part) for part in parts]
        assert {call[0] for call in calls[4:]} == {after.deliveries[0]["id"]}
        assert await core.timeline(new) == ["part", "retry", "part", "sent"]
        row = next(iter(await reads.deliveries_of(core.database, new.message["id"])))
        assert (row.provider_message_id, row.attempts, row.error_code) == ("part-0", 2, None)

    async def test_what_was_sent_is_not_sent_again_by_the_next_process(self, core: Core) -> None:
        entered = asyncio.Event()

        async def stuck(delivery: OutgoingDelivery) -> SentReceipt:
            if delivery.part_ids:
                entered.set()
                await asyncio.Event().wait()
            return SentReceipt("part-0", more=True)

        core.adapter.script = stuck
        new = await core.accept("ann")
        await entered.wait()
        await core.stop(0.05)
        core.build()
        core.adapter.script = self.three_parts()
        await core.start()
        await core.until(sent=1)
        assert [call.part_ids for call in core.adapter.calls] == [
            (),
            ("part-0",),
            ("part-0",),
            ("part-0", "part-1"),
        ]
        assert (await core.timeline(new))[0] == "part"

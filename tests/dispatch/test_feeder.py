"""What the feeder brings to the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from msgcore.core.deliveries import Done, Ticket
from msgcore.core.limits import RateLimits
from msgcore.dispatch.feeder import Feeder
from msgcore.dispatch.handover import Handover
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.tickets import HORIZON
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.feed import Feed
from msgcore.store.ledger.rescheduling import reschedule
from msgcore.store.ledger.work import WorkLog
from servers.clock import FakeClock
from store.ledger_rows import add_project, new_message


class Fed:
    """A feeder over a database, its scheduler, and the way to both."""

    def __init__(self, database: Database) -> None:
        self.clock = FakeClock()
        self.scheduler = MemoryScheduler(self.clock)
        feed, limits = Feed(database), dict[str, RateLimits]()
        self.log = AcceptLog(database, self.committed)
        gate = self.log.gate
        self.handover = Handover(feed=feed, scheduler=self.scheduler, limits=limits, clock=self.clock, gate=gate)
        self.feeder = Feeder(
            feed=feed,
            scheduler=self.scheduler,
            limits=limits,
            clock=self.clock,
            gate=gate,
            handover=self.handover,
            on_resume=lambda _: None,
            on_found=lambda _: None,
            every=1.0,
        )

    async def committed(self, tickets: Sequence[Ticket]) -> None:
        await self.handover.committed(tickets)

    async def turn(self) -> int:
        """Two seconds later; gives how many deliveries wait for their time then."""
        self.clock.advance(2)
        await self.feeder._reconcile()
        return (await self.scheduler.counts()).delayed


@pytest.fixture
async def fed(database: Database) -> Fed:
    await add_project(database)
    return Fed(database)


async def test_what_is_committed_after_the_horizon_has_passed_it_is_not_left_out(fed: Fed) -> None:
    """It was too far ahead to be handed over when it came, and near when it was committed."""
    message = new_message("ann", now=fed.clock.now(), due_in=HORIZON + timedelta(seconds=1))
    assert await fed.turn() == 0
    await fed.log.accept(message)
    assert await fed.turn() == 1


async def test_what_is_put_off_while_a_worker_has_it_is_known_again(fed: Fed, database: Database) -> None:
    assert await fed.turn() == 0
    message = new_message("ann", now=fed.clock.now())
    await fed.log.accept(message)
    leases = await fed.scheduler.claim(1)
    now = fed.clock.now()
    await reschedule(database, message.message["id"], now + timedelta(minutes=9), now)
    assert not await WorkLog(database).begin([lease.delivery_id for lease in leases], now)
    await fed.scheduler.finish([Done(lease, answered=False) for lease in leases])
    assert await fed.turn() == 1

"""Handing events over to webhooks: each once, whoever does it and wherever it is interrupted; and letting go of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Table, func, insert, select, update

from msgcore.core.clock import SystemClock
from msgcore.core.deliveries import DeliveryState, Ticket
from msgcore.core.events import realm_of
from msgcore.core.ids import new_id
from msgcore.inbound import webhook_feed
from msgcore.inbound.bus import EventBus
from msgcore.inbound.webhook_feed import WebhookFeed
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append, purge
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.ledger.feed import NIL, Feed
from msgcore.store.tables import attempts, deliveries, messages, webhook_cursors, webhook_deliveries, webhooks
from msgcore.store.webhook_deliveries import purge_deliveries
from msgcore.store.webhooks import to_the_end
from servers.patience import PATIENCE
from store.ledger_rows import NOW, PROJECT, add_project


class Post:
    """A project with webhooks, and what is handed over to them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tickets: list[Ticket] = []
        self.buses: list[EventBus] = []

    async def committed(self, tickets: Sequence[Ticket]) -> None:
        self.tickets += tickets

    def feed(self, leads: Callable[[], bool] = lambda: True) -> WebhookFeed:
        """As a process of its own has it."""
        self.buses.append(EventBus())
        return WebhookFeed(
            database=self.database,
            accept_log=AcceptLog(self.database, self.committed),
            bus=self.buses[-1],
            clock=SystemClock(),
            leads=leads,
            every=0.05,
        )

    async def add_webhook(self, *events: str) -> str:
        webhook_id = new_id()
        row = {"id": webhook_id, "project_id": PROJECT, "name": "w", "url": "https://example.com/"}
        row |= {"events": list(events) or ["*"], "secret_encrypted": "x", "created_at": NOW, "updated_at": NOW}
        async with self.database.write() as connection:
            await connection.execute(insert(webhooks).values(row | {"is_active": True}))
            await to_the_end(connection, PROJECT, webhook_id)
        return webhook_id

    async def switch(self, *, on: bool) -> None:
        async with self.database.write() as connection:
            await connection.execute(update(webhooks).values(is_active=on))

    async def tell(self, number: int, kind: str = "message.received", size: int = 0) -> None:
        new = [NewEvent(PROJECT, kind, {"text": "x" * size}, NOW) for _ in range(number)]
        await self.database.transact(lambda connection: append(connection, new))
        for bus in self.buses:
            bus.announce([PROJECT])

    async def places(self, webhook_id: str) -> list[int]:
        """The places of the events that were handed over to a webhook, in the order of their deliveries."""
        query = select(webhook_deliveries.c.payload).where(webhook_deliveries.c.webhook_id == webhook_id)
        async with self.database.read() as connection:
            rows = await connection.execute(query.order_by(webhook_deliveries.c.id))
            return [row.payload["id"] for row in rows]

    async def arrive(self, webhook_id: str, last: int) -> None:
        """Wait until a webhook's place is this one."""
        query = select(webhook_cursors.c.sequence).where(webhook_cursors.c.webhook_id == webhook_id)
        async with asyncio.timeout(PATIENCE):
            while await self.scalar(query) != last:
                await asyncio.sleep(0.02)

    async def scalar(self, query: Any) -> Any:
        async with self.database.read() as connection:
            return await connection.scalar(query)

    async def count(self, table: Table) -> int:
        return int(await self.scalar(select(func.count()).select_from(table)))


@pytest.fixture
async def post(database: Database) -> Post:
    await add_project(database)
    return Post(database)


async def test_what_is_posted_takes_another_share_than_the_projects_messages(post: Post) -> None:
    webhook_id = await post.add_webhook()
    feed = post.feed()
    feed.start()
    await post.tell(2)
    await post.arrive(webhook_id, 2)
    await feed.stop()
    left = await Feed(post.database).after(NIL, NOW + timedelta(days=1))
    assert [ticket.tenant for ticket in post.tickets] == [delivery.tenant for delivery in left] == [f"@{PROJECT}"] * 2


async def test_several_who_feed_at_once_hand_each_event_over_once(post: Post) -> None:
    every, some = await post.add_webhook(), await post.add_webhook("reaction.added")
    feeds = [post.feed() for _ in range(3)]
    for feed in feeds:
        feed.start()
    for _ in range(10):
        await asyncio.gather(post.tell(17), post.tell(3, "reaction.added"))
    await post.arrive(every, 200)
    await post.arrive(some, 200)
    for feed in feeds:
        await feed.stop()
    assert sorted(await post.places(every)) == list(range(1, 201))
    assert len(set(await post.places(some))) == len(await post.places(some)) == 30
    assert len({ticket.delivery_id for ticket in post.tickets}) == len(post.tickets) == 230
    open_ones = await count_by_state(post.database, project_id=realm_of(every))
    assert open_ones[DeliveryState.QUEUED] == 200
    assert sum((await count_by_state(post.database, project_id=PROJECT)).values()) == 0


async def test_who_does_not_lead_hands_nothing_over(post: Post) -> None:
    webhook_id = await post.add_webhook()
    asked: list[bool] = []

    def leads() -> bool:
        asked.append(len(asked) >= 3)
        return asked[-1]

    feed = post.feed(leads)
    feed.start()
    await post.tell(2)
    async with asyncio.timeout(PATIENCE):
        while len(asked) < 2:
            await asyncio.sleep(0.01)
    assert await post.places(webhook_id) == [] or len(asked) > 3
    await post.arrive(webhook_id, 2)
    await feed.stop()
    assert len(asked) < 100, "it does not ask all the time"
    assert await post.places(webhook_id) == [1, 2]


async def test_what_is_interrupted_is_handed_over_later_and_once(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook_id = await post.add_webhook()
    failures = 3
    whole = webhook_feed.store.move_on

    def move_on(*arguments: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise ZeroDivisionError
        whole(*arguments)

    monkeypatch.setattr(webhook_feed.store, "move_on", move_on)
    feed = post.feed()
    feed.start()
    await post.tell(5)
    await post.arrive(webhook_id, 5)
    await feed.stop()
    assert failures == 0
    assert await post.places(webhook_id) == [1, 2, 3, 4, 5]
    assert await post.count(deliveries) == await post.count(messages) == len(post.tickets) == 5


async def test_a_new_webhook_does_not_get_what_another_is_still_to_get(post: Post) -> None:
    behind = await post.add_webhook()
    await post.tell(150)
    fresh = await post.add_webhook()
    await post.tell(150)
    feed = post.feed()
    feed.start()
    await post.arrive(behind, 300)
    await post.arrive(fresh, 300)
    await feed.stop()
    assert await post.places(behind) == list(range(1, 301))
    assert await post.places(fresh) == list(range(151, 301))


async def test_what_is_handed_over_at_once_is_bounded(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large events are, and however many webhooks want them."""
    monkeypatch.setattr(webhook_feed, "PAGE_BYTES", 10_000)
    hooks = [await post.add_webhook() for _ in range(4)] + [await post.add_webhook("reaction.added")]
    turns: list[int] = []
    whole = webhook_feed.store.add_deliveries

    def add_deliveries(connection: Any, rows: Sequence[dict[str, Any]]) -> None:
        turns.append(sum(len(row["payload"].data["text"]) for row in rows))
        whole(connection, rows)

    monkeypatch.setattr(webhook_feed.store, "add_deliveries", add_deliveries)
    for size in (10, 900, 9000, 30_000, 10):
        await post.tell(5, size=size)
    feed = post.feed()
    feed.start()
    for hook in hooks:
        await post.arrive(hook, 25)
    await feed.stop()
    assert max(turns) == 30_000, "one event for one webhook"
    assert sum(turns) == 4 * 5 * (10 + 900 + 9000 + 30_000 + 10)
    assert [await post.places(hook) for hook in hooks] == [list(range(1, 26))] * 4 + [[]]


async def test_events_stay_until_they_are_handed_over_and_those_that_went_are_passed_over(post: Post) -> None:
    """A process that was off for longer than events are kept lets go of them when it starts, and hands over as well."""
    webhook_id, later = await post.add_webhook(), SystemClock().now() + timedelta(hours=1)
    await post.tell(3)
    assert await purge(post.database, later) == 0
    feed = post.feed()
    feed.start()
    await post.arrive(webhook_id, 3)
    await feed.stop()
    assert await purge(post.database, later) == 3
    await post.switch(on=False)
    await post.tell(3)
    assert await purge(post.database, later) == 3
    await post.switch(on=True)
    await post.tell(1)
    feed = post.feed()
    feed.start()
    await post.arrive(webhook_id, 7)
    await feed.stop()
    assert await post.places(webhook_id) == [1, 2, 3, 7]


async def test_what_is_old_goes_with_all_that_the_ledger_has_of_it(post: Post) -> None:
    webhook_id = await post.add_webhook()
    feed = post.feed()
    feed.start()
    await post.tell(4)
    await post.arrive(webhook_id, 4)
    await feed.stop()
    waiting, *done = [ticket.delivery_id for ticket in post.tickets]
    async with post.database.write() as connection:
        over = webhook_deliveries.c.id.in_(done)
        await connection.execute(update(webhook_deliveries).where(over).values(status="success"))
        for delivery_id in (waiting, *done):
            row = {"id": new_id(), "delivery_id": delivery_id, "number": 1, "outcome": "retry"}
            await connection.execute(insert(attempts).values(row | {"started_at": NOW, "finished_at": NOW}))
    now = SystemClock().now()
    assert await purge_deliveries(post.database, now - timedelta(hours=1)) == 0
    assert await purge_deliveries(post.database, now + timedelta(hours=1)) == 3
    assert await purge_deliveries(post.database, now + timedelta(hours=1)) == 0
    for table in (webhook_deliveries, deliveries, messages, attempts):
        assert await post.count(table) == 1
    counts = await count_by_state(post.database, project_id=realm_of(webhook_id))
    assert {state: number for state, number in counts.items() if number} == {DeliveryState.QUEUED: 1}

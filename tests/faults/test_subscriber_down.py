"""A subscriber that is down for hours, or for days, while events keep coming; the clock is the test's.

Promise: once it is back it gets everything at least once, in order where its webhook says so; attempts come when
the retry policy says; and one to which nothing got through for three days is switched off, and can be replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import func, select

from msgcore.config import Settings
from msgcore.core.ids import new_id
from msgcore.core.limits import PACING
from msgcore.platforms.event_webhook import DECLARATION
from msgcore.store.ledger import reads
from msgcore.store.tables import event_sequences, webhook_deliveries
from servers.clock import FakeClock
from servers.in_process import InProcess, in_this_process
from servers.passing_time import pass_time
from servers.patience import PATIENCE
from servers.webhook_sink import Posted, WebhookSink

HOUR = 3600.0
DAY = 24 * HOUR
POLICY = DECLARATION.retry


class Place:
    """A gateway on the test's clock, a project with a sandbox, and its key."""

    def __init__(self, served: InProcess, clock: FakeClock, hook: str) -> None:
        self.gateway, self.ask, self.clock = served.gateway, served.ask, clock
        self._hook = hook

    async def subscribe(self, sink: WebhookSink, path: str, *events: str, ordered: bool = False) -> str:
        body = {"name": path[1:], "url": sink.url(path), "events": list(events), "isOrdered": ordered}
        return str((await self.ask("POST", "projects/shop/webhooks", body))["id"])

    async def say(self, number: int) -> None:
        """So many messages on the platform, each an event of the log."""
        last = await self.scalar(select(event_sequences.c.last)) or 0
        await asyncio.gather(*(self.ask("POST", self._hook, report()) for _ in range(number)))
        await self.until(select(event_sequences.c.last), last + number)

    async def handed_over(self, number: int) -> None:
        """Until so many deliveries were made for webhooks."""
        await self.until(select(func.count()).select_from(webhook_deliveries), number)

    async def until(self, query: Any, value: int) -> None:
        """Until a query finds this."""
        async with asyncio.timeout(PATIENCE):
            while await self.scalar(query) != value:
                await asyncio.sleep(0.01)

    async def held(self, webhook_id: str) -> None:
        """Until dispatch knows that the webhook is off."""
        async with asyncio.timeout(PATIENCE):
            scheduler = self.gateway._scheduling.scheduler
            assert scheduler is not None
            while webhook_id not in await scheduler.paused():
                await asyncio.sleep(0.01)

    async def attempts_of_first(self, webhook_id: str) -> Sequence[Any]:
        """All attempts of the first delivery to a webhook."""
        ids = select(webhook_deliveries.c.id).where(webhook_deliveries.c.webhook_id == webhook_id)
        first = await self.scalar(ids.order_by(webhook_deliveries.c.id).limit(1))
        return await reads.attempts_of(self.gateway.database, first)

    async def scalar(self, query: Any) -> Any:
        async with self.gateway.database.read() as connection:
            return await connection.scalar(query)

    # --- time

    async def pass_time(self, seconds: float) -> None:
        await pass_time(self.gateway, self.clock, seconds)


def report() -> dict[str, Any]:
    """Somebody writes."""
    content = {"kind": "message", "id": new_id(), "text": "hello"}
    return {"chat": {"id": "room", "type": "group"}, "author": {"id": "ann"}, "content": content}


@asynccontextmanager
async def opened(folder: Path, database_url: str) -> AsyncIterator[Place]:
    settings = Settings(
        data_dir=folder,
        database_url=SecretStr(database_url),
        egress_allow=["127.0.0.0/8"],
        reconcile_seconds=0.1,
        shutdown_seconds=1.0,
    )
    clock = FakeClock(datetime.now(UTC))
    async with in_this_process(settings, clock=clock) as served:
        await served.set_up()
        yield Place(served, clock, await served.add_sandbox())


def places(posted: Sequence[Posted]) -> list[int]:
    """The log's places of these, each where it came first."""
    return list(dict.fromkeys(each.body["id"] for each in posted))


async def test_everything_arrives_after_six_hours(tmp_path: Path, database_url: str) -> None:
    async with opened(tmp_path / "data", database_url) as place:
        await down_for_six_hours(place)


async def down_for_six_hours(place: Place) -> None:
    sink, clock = WebhookSink(), place.clock
    came: list[datetime] = []

    def refuse(posted: Posted) -> int:
        if posted.path == "/ordered":
            came.append(clock.now())
        return 503

    sink.answer = refuse
    ordered = await place.subscribe(sink, "/ordered", "message.received", ordered=True)
    plain = await place.subscribe(sink, "/plain", "message.received")
    for quarter in range(24):
        if quarter == 4:
            sink.start()  # until then nobody listens
        if quarter == 8:
            sink.answer_headers = {"Retry-After": "600"}
        await place.say(10)
        await place.handed_over(2 * 10 * (quarter + 1))
        await place.pass_time(HOUR / 4)
    assert sink.taken == []
    sink.answer = lambda _: 200
    await place.pass_time(POLICY.cap + 60.0)
    sink.stop()
    assert places(sink.at("/ordered")) == list(range(1, 241))
    assert sorted(places(sink.at("/plain"))) == list(range(1, 241))
    for webhook_id in (ordered, plain):
        shown = await place.ask("GET", f"projects/shop/webhooks/{webhook_id}")
        assert (shown["isActive"], shown["failingSince"]) == (True, None)
        assert (shown["stats"]["successful"], shown["stats"]["pending"]) == (240, 0)
    tried = await place.attempts_of_first(ordered)
    assert follows_the_policy(tried)
    refused = [attempt.finished_at for attempt in tried if attempt.started_at > came[0] - timedelta(seconds=1)]
    assert came == refused[:-1], "each came at the moment that was promised for it"
    waits = [attempt.retry_at - attempt.finished_at for attempt in tried if attempt.outcome == "throttled"]
    assert set(waits) == {timedelta(seconds=600)}
    assert len(waits) >= 20


async def test_after_three_days_it_is_switched_off_and_can_be_replayed(tmp_path: Path, sqlite_url: str) -> None:
    async with opened(tmp_path / "data", sqlite_url) as place:
        await down_for_three_days(place)


async def down_for_three_days(place: Place) -> None:
    sink, clock = WebhookSink(), place.clock
    with WebhookSink() as other:
        await place.subscribe(other, "/told", "webhook.disabled")
        hook = await place.subscribe(sink, "/hook", "message.received", ordered=True)
        path = f"projects/shop/webhooks/{hook}"
        began = clock.now()
        for day in range(3):
            await place.say(30)
            await place.handed_over(30 * (day + 1))
            await place.pass_time(DAY)
        shown = await place.ask("GET", path)
        assert (shown["isActive"], datetime.fromisoformat(shown["failingSince"])) == (True, milliseconds(began))
        while shown["isActive"]:
            await place.pass_time(60.0)
            shown = await place.ask("GET", path)
        tried = await place.attempts_of_first(hook)
        assert follows_the_policy(tried)
        assert tried[-1].finished_at - began >= timedelta(days=3)
        assert tried[-2].finished_at - began < timedelta(days=3)
        assert shown["disabledReason"].startswith("Nothing got through since ")
        await place.handed_over(91)  # and the news of it to the other one
        await place.pass_time(0.0)
        (told,) = other.taken
        assert (told.body["event"], told.body["data"]["webhook_id"]) == ("webhook.disabled", hook)
        logged = (await place.ask("GET", "projects/shop/platforms/logs"))["logs"]
        assert [entry["message"] for entry in logged] == ["Webhook 'hook' was switched off"]

    with sink:
        await place.held(hook)
        await place.say(30)
        await place.pass_time(DAY)
        assert sink.taken == []
        await place.ask("PATCH", path, {"isActive": True})
        await place.pass_time(POLICY.cap)
        assert places(sink.taken) == list(range(2, 91)), "the first was given up, the others waited"
        newest = (await place.ask("GET", "projects/shop/events"))["next"]
        assert newest == 121
        replayed = await place.ask("POST", f"{path}/replay", {"after": 0, "until": newest})
        assert replayed == {"queued": 120, "next": newest, "done": True}
        await place.pass_time(POLICY.cap)
        said = [number for number in range(1, 122) if number != told.body["id"]]
        assert [posted.body["id"] for posted in sink.taken[-120:]] == said
    shown = await place.ask("GET", path)
    assert (shown["isActive"], shown["failingSince"], shown["stats"]["failed"]) == (True, None, 1)


def milliseconds(moment: datetime) -> datetime:
    """As answers tell it."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def follows_the_policy(tried: Sequence[Any]) -> bool:
    """Whether each attempt began when the one before it said, after as long as the policy says."""
    number = 0
    for before, after in pairwise(tried):
        number += before.outcome == "retry"
        waited = (before.retry_at - before.finished_at).total_seconds()
        ceiling = min(POLICY.cap, POLICY.base * 2.0 ** min(number - 1, 30))
        assert before.outcome == "throttled" or ceiling / 10 <= waited <= ceiling, (number, waited)
        early = (before.retry_at - after.started_at).total_seconds()
        assert 0 <= early <= PACING.ahead + 0.001, (number, early)
        assert before.outcome in {"retry", "throttled"}
        assert abs((after.finished_at - before.retry_at).total_seconds()) < 0.001
    return number > 10

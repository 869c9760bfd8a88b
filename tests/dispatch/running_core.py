"""A dispatch core for tests: the real ledger and scheduler over a real database; only the platform is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from sqlalchemy import update

from contract.scheduler_harness import valkey
from msgcore.core.clock import SystemClock
from msgcore.core.errors import (
    DeliveryError,
)
from msgcore.core.limits import PACING
from msgcore.core.retry import RetryPolicy
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.dispatch.fallbacks import Fallbacks
from msgcore.dispatch.feeder import Feeder
from msgcore.dispatch.handover import Handover
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.messages import MessageCache
from msgcore.dispatch.opt_outs import OptOutDirectory
from msgcore.dispatch.processor import Processor
from msgcore.dispatch.redis import RedisConnection, RedisScheduler
from msgcore.dispatch.redis.loader import ShardLoader
from msgcore.dispatch.scheduler import Scheduler
from msgcore.dispatch.verdict import Judge
from msgcore.platforms.base import Account, OutgoingDelivery, PlatformAdapter, PlatformDeclaration, SentReceipt
from msgcore.security.keyring import Keyring
from msgcore.store.database import Database
from msgcore.store.ledger import reads
from msgcore.store.ledger.accept import AcceptLog, NewMessage
from msgcore.store.ledger.counts import count_by_state
from msgcore.store.ledger.feed import Feed
from msgcore.store.ledger.work import WorkLog
from msgcore.store.lock import Leadership
from msgcore.store.tables import project_platforms
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, PROJECT, add_project, new_message

KEYRING = Keyring(b"k" * 32)
FAST = RetryPolicy(max_attempts=3, max_age=0.0, base=0.01, cap=0.02)

Script = Callable[[OutgoingDelivery], Awaitable[SentReceipt]]


class ScriptedAdapter(PlatformAdapter):
    """A platform that does what the test says, at the edge of the machine."""

    declaration: ClassVar[PlatformDeclaration] = PlatformDeclaration(
        name="sandbox", display_name="Scripted", capabilities=(), credentials=(), retry=FAST
    )

    def __init__(self) -> None:
        self.calls: list[OutgoingDelivery] = []
        self.script: Script = self.take
        self.already_sent: SentReceipt | DeliveryError | None = None
        self.running = 0
        self.most_running = 0

    async def take(self, delivery: OutgoingDelivery) -> SentReceipt:
        return SentReceipt(f"pm-{delivery.id}")

    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        assert account.credentials == {"token": "t"}
        self.calls.append(delivery)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.script(delivery)
        finally:
            self.running -= 1

    async def find_sent(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt | None:
        if isinstance(self.already_sent, DeliveryError):
            raise self.already_sent
        return self.already_sent


class Core:
    """A dispatch core over one database; can be stopped and started again like a process."""

    def __init__(self, database: Database, redis_url: str | None = None) -> None:
        self.database = database
        self.redis_url = redis_url
        self.prefix = f"core-{uuid4().hex[:8]}"
        self.adapter = ScriptedAdapter()
        self.pacing = PACING
        self.settings = {"concurrency": 16, "lease_seconds": 30.0, "send_timeout": 5.0}
        self.build()

    def build(self) -> None:
        clock = SystemClock()
        work = WorkLog(self.database)
        self.messages = MessageCache(work)
        self.scheduler: Scheduler = MemoryScheduler(clock, pacing=self.pacing)
        self.accept_log = AcceptLog(self.database, self._committed)
        self.accounts = AccountDirectory(self.database, KEYRING)
        shared: dict[str, Any] = {}
        if self.redis_url is not None:
            connection = RedisConnection.open(self.redis_url, prefix=self.prefix, pacing=self.pacing)
            self.scheduler = RedisScheduler(connection, clock)
            self.leadership = Leadership(self.database)
            shared["leadership"] = self.leadership
        parts = {"feed": Feed(self.database), "scheduler": self.scheduler, "limits": {}, "clock": clock}
        if self.redis_url is not None:
            shared["loader"] = ShardLoader(**parts)  # type: ignore[arg-type]
        self.handover = Handover(**parts, gate=self.accept_log.gate)  # type: ignore[arg-type]
        self.feeder = Feeder(
            **parts,  # type: ignore[arg-type]
            gate=self.accept_log.gate,
            handover=self.handover,
            on_resume=self.accounts.forget,
            on_found=lambda _: None,
            every=0.05,
            **shared,
        )
        self.fallbacks = Fallbacks(
            database=self.database,
            scheduler=self.scheduler,
            limits={},
            clock=clock,
            leads=lambda: self.feeder.leads,
            every=0.05,
        )
        self.processor = Processor(
            scheduler=self.scheduler,
            work=work,
            accounts=self.accounts,
            messages=self.messages,
            adapters={"sandbox": self.adapter},
            clock=clock,
            judge=Judge(),
            opt_outs=OptOutDirectory(self.database, lambda platform, user_id: user_id),
            on_fallible=self.fallbacks.look,
            **self.settings,  # type: ignore[arg-type]
        )

    async def _committed(self, tickets) -> None:
        await self.handover.committed(tickets)

    async def start(self) -> None:
        await self.feeder.start()
        self.fallbacks.start()
        self.processor.start()

    async def stop(self, seconds: float = 5.0) -> None:
        await self.fallbacks.stop()
        await self.feeder.stop()
        await self.handover.stop()
        await self.processor.stop(seconds)
        if isinstance(self.scheduler, RedisScheduler):
            await self.leadership.release()
            await self.scheduler.close()

    async def accept(self, *targets: str, **columns) -> NewMessage:
        new = new_message(*targets, now=datetime.now(UTC), **columns)
        await self.accept_log.accept(new)
        return new

    async def until(self, **wanted: int) -> None:
        """Until the ledger has exactly these open and final deliveries."""
        async with asyncio.timeout(PATIENCE):
            while True:
                counts = await count_by_state(self.database, project_id=PROJECT)
                found = {state.value: number for state, number in counts.items() if number}
                if found == wanted:
                    return
                await asyncio.sleep(0.01)

    async def timeline(self, new: NewMessage, index: int = 0) -> list[str]:
        return [row.outcome for row in await reads.attempts_of(self.database, new.deliveries[index]["id"])]


KINDS = ("sqlite alone", "postgresql alone", "postgresql and redis")


@asynccontextmanager
async def running_core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    """A dispatch core of the kind that the fixture's parameter names, started."""
    kind = request.param.split()[0]
    database = Database.open(request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url"))
    await add_project(database)
    async with database.write() as connection:
        await connection.execute(
            update(project_platforms).values(credentials_encrypted=KEYRING.encrypt(b'{"token":"t"}', context=ACCOUNT))
        )
    made = Core(database, valkey().url if request.param.endswith("redis") else None)
    await made.start()
    yield made
    await made.stop()
    await database.close()


def failing(*errors: Exception) -> Script:
    """Raises these, one a call, then takes everything."""
    queue = list(errors)

    async def script(delivery: OutgoingDelivery) -> SentReceipt:
        if queue:
            raise queue.pop(0)
        return SentReceipt("pm")

    return script

"""A worker process of `limits.py`: the dispatch core with everything real but the adapters.

`python -m bench.limit_worker JOB`, with a `Job` as JSON; runs until SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import msgspec
import structlog
import uvloop

from bench.limit_adapters import ADAPTERS
from bench.limit_load import feed
from bench.schedulers import open_scheduler
from msgcore.core.clock import SystemClock
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.dispatch.messages import MessageCache
from msgcore.dispatch.opt_outs import OptOutDirectory
from msgcore.dispatch.processor import Processor
from msgcore.dispatch.verdict import Judge
from msgcore.observability.metrics import Metrics
from msgcore.outbound.services import AdapterServices
from msgcore.security.keyring import Keyring
from msgcore.store.database import Database
from msgcore.store.ledger.feed import NIL
from msgcore.store.ledger.work import WorkLog
from servers.adapters import adapter_services

CONCURRENCY = 128
LEASE_SECONDS = 30.0
STOP_SECONDS = 5.0


class Job(msgspec.Struct, frozen=True):
    """What a worker works on. Without `redis_url` it feeds a scheduler of its own from the ledger."""

    database_url: str
    redis_url: str | None
    server: str
    key: str
    slack: float


async def warm_up(ledger: WorkLog, services: AdapterServices, server: str) -> None:
    """Open connections and compile statements, as a worker has that is up for a while.

    The first transaction of a process takes some 100 ms, by which its first calls would come late.
    """
    await ledger.begin([NIL], datetime.now(UTC))
    await ledger.load_messages([NIL])
    await services.http.request("GET", f"{server}/report")


async def work(job: Job) -> None:
    """Send what is due until SIGTERM."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with AsyncExitStack() as stack:
        database = Database.open(job.database_url)
        stack.push_async_callback(database.close)
        services = await stack.enter_async_context(adapter_services(database))
        scheduler = await stack.enter_async_context(open_scheduler(job.redis_url, LEASE_SECONDS))
        ledger = WorkLog(database)
        processor = Processor(
            scheduler=scheduler,
            work=ledger,
            accounts=AccountDirectory(database, Keyring(bytes.fromhex(job.key))),
            messages=MessageCache(ledger),
            adapters={adapter.declaration.name: adapter(services) for adapter in ADAPTERS},
            clock=SystemClock(),
            judge=Judge(),
            opt_outs=OptOutDirectory(database, lambda _, user_id: user_id),
            concurrency=CONCURRENCY,
            lease_seconds=LEASE_SECONDS,
            send_timeout=30.0,
            metrics=Metrics(adapter.declaration.name for adapter in ADAPTERS),
        )
        if job.redis_url is None:
            await feed(database, scheduler, job.slack)
        await warm_up(ledger, services, job.server)
        # As `msgcore serve` does.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        processor.start()
        await stopped.wait()
        await processor.stop(STOP_SECONDS)


if __name__ == "__main__":
    uvloop.run(work(msgspec.json.decode(sys.argv[1], type=Job)))

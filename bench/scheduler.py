"""The scheduler alone, in memory or over Redis: enqueue, claim and finish, with little and with much queued.

    python -m bench scheduler [--redis URL|local] [--deliveries 50000] [--queued 10000 1000000]

Prints deliveries/s of each step and of the whole way while so many others wait, the ratio to a bare
reference in the same run, the cost of a delivery at the last size beside that at the first, and the
memory of a queued delivery. The reference: the same batches through a deque and a dict, or over Redis as
many plain commands (RPUSH, LPOP, HDEL) in a pipeline for each batch. The Redis must be an empty one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast
from uuid import UUID

import psutil
import redis.asyncio
import uvloop

from bench.places import benchmark_parser, redis_url
from bench.schedulers import begin, open_scheduler
from msgcore.core.deliveries import Done, Ticket
from msgcore.dispatch.scheduler import Scheduler

BATCH = 100
ACCOUNTS = [str(UUID(int=n)) for n in range(20)]
STEPS = ("enqueue", "claim", "finish")


@dataclass
class Times:
    """Seconds that each step took for so many deliveries."""

    deliveries: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))

    def rate(self, *steps: str) -> float:
        """Deliveries a second through these steps, or through all."""
        return self.deliveries / sum(self.seconds[step] for step in steps or STEPS)

    async def time(self, step: str, work: Callable[[], Awaitable[object]]) -> None:
        """Add what some work took."""
        started = time.perf_counter()
        await work()
        self.seconds[step] += time.perf_counter() - started


def tickets(number: int, first: int = 0) -> list[Ticket]:
    """Deliveries of 20 accounts with 500 lanes each."""
    return [Ticket(str(UUID(int=n)), ACCOUNTS[n % 20], f"user:{n % 10_000}") for n in range(first, first + number)]


async def fill(scheduler: Scheduler, number: int, first: int) -> None:
    """Queue so many others."""
    for at in range(first, first + number, 1000):
        await scheduler.enqueue(tickets(min(1000, first + number - at), at))


async def through(scheduler: Scheduler, number: int, first: int) -> Times:
    """So many new deliveries in batches through every step; as many as before stay queued."""
    times = Times(number)
    made = iter(tickets(number, first))
    for _ in range(0, number, BATCH):
        batch = list(islice(made, BATCH))
        await times.time("enqueue", lambda batch=batch: scheduler.enqueue(batch))
        started = time.perf_counter()
        leases = await scheduler.claim(len(batch))
        times.seconds["claim"] += time.perf_counter() - started
        if len(leases) != len(batch):
            raise SystemExit(f"claimed {len(leases)} of {len(batch)}: is the Redis empty, and nobody else's?")
        await times.time("finish", lambda leases=leases: scheduler.finish([Done(lease) for lease in leases]))
    return times


async def bare_memory(number: int) -> Times:
    """The same batches through a deque and a dict."""
    times, queue, held = Times(number), deque[Ticket](), dict[str, Ticket]()
    made = tickets(number)

    async def enqueue(batch: Sequence[Ticket]) -> None:
        queue.extend(batch)

    async def claim() -> None:
        for _ in range(BATCH):
            ticket = queue.popleft()
            held[ticket.delivery_id] = ticket

    async def finish() -> None:
        held.clear()

    for at in range(0, number, BATCH):
        await times.time("enqueue", lambda at=at: enqueue(made[at : at + BATCH]))
        await times.time("claim", claim)
        await times.time("finish", finish)
    return times


def plain_client(url: str) -> Any:
    """A client of that Redis; an asynchronous context."""
    return cast("Any", redis.asyncio.Redis).from_url(url)  # its types are only half known


async def bare_redis(url: str, number: int) -> Times:
    """A plain command a delivery and step, pipelined by batches."""
    times, made = Times(number), tickets(number)
    async with plain_client(url) as client:
        for at in range(0, number, BATCH):
            steps = {step: client.pipeline(transaction=False) for step in STEPS}
            for ticket in made[at : at + BATCH]:
                steps["enqueue"].rpush("bench:queue", ticket.delivery_id)
                steps["claim"].lpop("bench:queue")
                steps["finish"].hdel("bench:held", ticket.delivery_id)
            for step, pipeline in steps.items():
                await times.time(step, pipeline.execute)
        await client.delete("bench:queue", "bench:held")
    return times


async def used_memory(url: str | None) -> int:
    """Bytes that the scheduler's state takes, with what else the process or Redis holds."""
    if url is None:
        return psutil.Process().memory_info().rss
    async with plain_client(url) as client:
        return int((await client.info("memory"))["used_memory"])


async def measure(url: str | None, number: int, sizes: Sequence[int]) -> None:
    """Measure and print."""
    bare = await (bare_memory(number) if url is None else bare_redis(url, number))
    _print("bare deque and dict" if url is None else "bare pipelined commands", bare)
    shortest: Times | None = None
    queued = made = 0
    async with open_scheduler(url) as scheduler:
        await begin(scheduler)
        empty = await used_memory(url)
        for size in sorted(sizes):
            await fill(scheduler, size - queued, made)
            made += size - queued
            queued = size
            memory = (await used_memory(url) - empty) / size
            times = await through(scheduler, number, made)
            made += number
            shortest = shortest or times
            _print(f"scheduler, {size:,} queued", times)
            print(
                f"{'':32} ratio {times.rate() / bare.rate():.3f}   "
                f"cost x {shortest.rate() / times.rate():.2f}   {memory:.0f} bytes a queued delivery"
            )


def _print(name: str, times: Times) -> None:
    steps = "   ".join(f"{step} {times.rate(step):9.0f}/s" for step in STEPS)
    print(f"{name:32} {times.rate():9.0f} deliveries/s   {steps}")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("scheduler", __doc__)
    parser.add_argument("--redis", metavar="URL|local", help="the scheduler over this Redis, or one of the run's own")
    parser.add_argument("--deliveries", type=int, default=50_000, help="a multiple of 100 (50000)")
    parser.add_argument("--queued", type=int, nargs="+", default=[10_000, 1_000_000], help="(10000 1000000)")
    options = parser.parse_args(arguments)
    if options.deliveries < BATCH or options.deliveries % BATCH:
        parser.error(f"--deliveries must be a multiple of {BATCH}")
    with ExitStack() as stack:
        uvloop.run(measure(redis_url(options.redis, stack), options.deliveries, options.queued))

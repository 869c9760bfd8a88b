"""The in-process scheduler alone: enqueue, claim and finish, beside a bare deque.

    python -m bench scheduler [--deliveries 200000]

Prints deliveries/s, the ratio to moving the same ids through a deque, and the cost of a delivery
with a long queue beside that with a short one.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque

from msgcore.core.clock import SystemClock
from msgcore.core.deliveries import Done, Ticket
from msgcore.dispatch.memory import MemoryScheduler

BATCH = 100


def tickets(number: int, first: int = 0) -> list[Ticket]:
    """Deliveries of 20 accounts with 500 lanes each."""
    return [Ticket(f"{n:036}", f"account-{n % 20}", f"user:{n % 10_000}") for n in range(first, first + number)]


def bare(number: int) -> float:
    """The same number through a deque and a dict, in the same batches: deliveries/s."""
    made = tickets(number)
    started = time.perf_counter()
    queue: deque[Ticket] = deque()
    held: dict[str, Ticket] = {}
    for at in range(0, number, BATCH):
        queue.extend(made[at : at + BATCH])
    while queue:
        batch = [queue.popleft() for _ in range(min(BATCH, len(queue)))]
        for ticket in batch:
            held[ticket.delivery_id] = ticket
        for ticket in batch:
            del held[ticket.delivery_id]
    return number / (time.perf_counter() - started)


async def through(number: int, *, queued: int = 0) -> float:
    """Deliveries/s through the scheduler while `queued` others wait in it."""
    scheduler = MemoryScheduler(SystemClock())
    await scheduler.enqueue(tickets(queued, first=10_000_000))
    made = tickets(number)
    started = time.perf_counter()
    for at in range(0, number, BATCH):
        await scheduler.enqueue(made[at : at + BATCH])
        leases = await scheduler.claim(BATCH)
        await scheduler.finish([Done(lease) for lease in leases])
    return number / (time.perf_counter() - started)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench scheduler", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deliveries", type=int, default=200_000)
    number = parser.parse_args(arguments).deliveries
    reference = bare(number)
    short = asyncio.run(through(number, queued=10_000))
    long = asyncio.run(through(number, queued=1_000_000))
    print(f"bare deque                     {reference:10.0f} deliveries/s")
    print(f"scheduler, 10,000 queued       {short:10.0f} deliveries/s   ratio {short / reference:.3f}")
    print(f"scheduler, 1,000,000 queued    {long:10.0f} deliveries/s   cost x {short / long:.2f}")

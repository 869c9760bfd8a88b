"""How soon events reach many who follow them, what each of these costs, and what one that reads nothing does.

    python -m bench streams [--database sqlite|postgresql] [--redis URL|local] [--clients 500] [--rate 10]
        [--seconds 10]

For streams (SSE) and for WebSockets: connects so many clients to one gateway process, posts messages to a
sandbox's webhook, and measures from the beginning of each POST to its arrival at every client: received,
stored, read, put into the event log and handed to all. The reference is one client alone, in the same run.
Then the same again beside a client that asked for a long backlog and reads nothing of it. Memory is how much
the process grew by, a client.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
import uvloop

from bench.latency import percentile
from bench.places import Place, add_place, benchmark_parser
from bench.subscribers import Arrivals, Kind, Subscriber, marked, stalled
from servers.gateway import GatewayProcess

BACKLOG = 300
BACKLOG_SIZE = 20_000
"""More in all than the kernel takes for a connection that nobody reads (some 3 MB on loopback)."""
SETTLE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
OLD = 90_000_000
"""The numbers of the backlog, beyond all that are measured."""


@dataclass
class Field:
    """A gateway with a sandbox, and somebody who posts to it."""

    gateway: GatewayProcess
    key: str
    hook: str
    session: aiohttp.ClientSession
    next: int = 0

    async def post(self, number: int, size: int = 100) -> None:
        """One message on the platform."""
        content = {"kind": "message", "id": f"m-{number}", "text": marked(number, size)}
        body: dict[str, Any] = {"chat": {"id": "room", "type": "group"}, "author": {"id": "ann", "name": "Ann"}}
        async with self.session.post(self.hook, json=body | {"content": content}) as answer:
            if not answer.ok:
                raise SystemExit(f"{self.hook} answered {answer.status}: {await answer.text()}")

    async def measure(self, arrivals: Arrivals, clients: int, rate: float, seconds: float) -> list[float]:
        """Post for so long; milliseconds until each message was at each client."""
        arrivals.posted.clear()
        arrivals.seconds.clear()
        number = max(1, round(rate * seconds))
        began = time.perf_counter()
        posting: list[asyncio.Task[None]] = []
        for turn in range(number):
            await asyncio.sleep(max(0.0, began + turn / rate - time.perf_counter()))
            self.next += 1
            arrivals.posted[self.next] = time.perf_counter()
            posting.append(asyncio.create_task(self.post(self.next)))
        await asyncio.gather(*posting)
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while len(arrivals.seconds) < number * clients:
            if arrivals.lost or time.perf_counter() > deadline:
                came = f"{len(arrivals.seconds)} of {number * clients} arrived"
                raise SystemExit(f"{came}, {arrivals.lost} connections were lost: {self.gateway.tail()}")
            await asyncio.sleep(0.01)
        return [1000 * each for each in arrivals.seconds]

    def memory(self) -> int:
        """KiB that the gateway's process holds."""
        assert self.gateway.process is not None
        return psutil.Process(self.gateway.process.pid).memory_info().rss // 1024


@asynccontextmanager
async def posting_to(gateway: GatewayProcess) -> AsyncGenerator[Field]:
    """Sign up, add a sandbox, and warm up."""
    key = await asyncio.to_thread(gateway.set_up)
    box = await asyncio.to_thread(gateway.add_platform, key, "sandbox", {})
    path = f"/api/v1/projects/bench/platforms/{box}"
    found = await asyncio.to_thread(gateway.call, "GET", path, x_api_key=key)
    hook = gateway.url + urlsplit(found["webhookUrl"]).path
    async with aiohttp.ClientSession() as session:
        yield Field(gateway, key, hook, session)


async def connect(field: Field, kind: Kind, clients: int, arrivals: Arrivals) -> list[Subscriber]:
    """So many clients, each of whom is served."""
    loop = asyncio.get_running_loop()
    subscribers: list[Subscriber] = []
    for _ in range(clients):
        _, subscriber = await loop.create_connection(
            lambda: Subscriber(kind, field.key, arrivals), "127.0.0.1", field.gateway.port
        )
        await subscriber.opened
        subscribers.append(subscriber)
    return subscribers


async def run(field: Field, kind: Kind, options: argparse.Namespace) -> None:
    """All of one kind, and its lines."""
    await asyncio.gather(*(field.post(OLD + number, BACKLOG_SIZE) for number in range(BACKLOG)))
    alone = Arrivals()
    subscribers = await connect(field, kind, 1, alone)
    one = await field.measure(alone, 1, options.rate, options.seconds)
    for subscriber in subscribers:
        subscriber.close()
    before = field.memory()
    arrivals = Arrivals()
    subscribers = await connect(field, kind, options.clients, arrivals)
    await asyncio.sleep(SETTLE_SECONDS)
    idle = field.memory()
    many = await field.measure(arrivals, options.clients, options.rate, options.seconds)
    busy = field.memory()
    with stalled(kind, "127.0.0.1", field.gateway.port, field.key):
        await asyncio.sleep(SETTLE_SECONDS)
        beside = await field.measure(arrivals, options.clients, options.rate, options.seconds)
        held = field.memory()
    for subscriber in subscribers:
        subscriber.close()
    print(f"{kind}: 1 client          {line(one)}")
    print(f"{kind}: {options.clients} clients        {line(many)}   {len(many) / options.seconds:.0f} arrivals/s")
    print(f"{kind}: and one that reads nothing  {line(beside)}   {held - busy} KiB more")
    grown = [(after - before) / options.clients for after in (idle, busy)]
    print(f"{kind}: a client costs {grown[0]:.1f} KiB idle, {grown[1]:.1f} KiB after {len(many)} arrivals")


def line(milliseconds: list[float]) -> str:
    """Median and 99th percentile."""
    return f"p50 {statistics.median(milliseconds):6.1f} ms   p99 {percentile(milliseconds, 0.99):6.1f} ms"


async def measure(gateway: GatewayProcess, kind: Kind, options: argparse.Namespace) -> None:
    """On a gateway that was started for it, whose memory nothing else used before."""
    async with posting_to(gateway) as field:
        await run(field, kind, options)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("streams", __doc__)
    add_place(parser)
    parser.add_argument("--clients", type=int, default=500, help="of each kind, one kind after the other (500)")
    parser.add_argument("--rate", type=float, default=10.0, help="messages posted a second (10)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (10)")
    options = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the gateway inherits it
    kinds: tuple[Kind, ...] = ("stream", "websocket")
    for kind in kinds:
        with ExitStack() as stack:
            place = Place.of(options, stack)
            gateway = stack.enter_context(place.gateway())
            print(f"{place.name}, {options.rate:g} messages a second for {options.seconds:g} seconds")
            uvloop.run(measure(gateway, kind, options))

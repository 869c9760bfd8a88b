"""How fast requests leave: the transport of adapters beside a bare session of the same HTTP client.

    python -m bench transport [--requests 20000] [--concurrency 64] [--hosts 1000] [--repeat 1]

Posts the same body to a local sink by 1 host name and by many, each case in a process of its own: a
bare aiohttp session, and the transport with the egress guard in it. Names are resolved within the
process. Prints posts a second, microseconds of processor time a post (of the event loop's thread, and
of the whole process), and what the process grew by for each host.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from urllib.parse import urlsplit

import aiohttp
import psutil
import uvloop
from aiohttp.abc import AbstractResolver, ResolveResult

from bench.accept import message
from bench.delivery import start_sink
from bench.places import benchmark_parser
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.security.egress import AddrInfo, EgressGuard

BODY = message("p" * 36, 1)
HEADERS = {
    "Content-Type": "application/json",
    "webhook-id": "i" * 36,
    "webhook-timestamp": "1700000000",
    "webhook-signature": "v1," + "s" * 44,
}
Post = Callable[[str], Awaitable[int]]


@dataclass(frozen=True)
class Case:
    """What one process measures."""

    client: str
    hosts: int
    requests: int
    concurrency: int
    port: int


@dataclass(frozen=True)
class Figures:
    """What came out."""

    rate: float
    loop_seconds: float
    process_seconds: float
    grown: int

    def line(self, case: Case) -> str:
        """For people."""
        return (
            f"{case.client:10} {case.hosts:6} hosts  {self.rate:7.0f} posts/s"
            f"   loop {self.loop_seconds / case.requests * 1e6:6.1f} us"
            f"   process {self.process_seconds / case.requests * 1e6:6.1f} us"
            f"   {self.grown / case.hosts / 1024:7.1f} KiB a host"
        )


class LocalNames(AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """One address."""
        del family
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is kept."""


async def local_names(_host: str, port: int) -> list[AddrInfo]:
    """The same for the guard."""
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]


@asynccontextmanager
async def bare(concurrency: int) -> AsyncIterator[Post]:
    """A session and nothing around it."""
    connector = aiohttp.TCPConnector(limit=concurrency, resolver=LocalNames())
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(url: str) -> int:
            async with session.post(url, data=BODY, headers=HEADERS) as answer:
                await answer.read()
                return answer.status

        yield post


@asynccontextmanager
async def guarded(concurrency: int) -> AsyncIterator[Post]:
    """What adapters use."""
    guard = EgressGuard(["127.0.0.0/8"], resolve=local_names)
    async with open_transport(guard, limit=concurrency) as transport:

        async def post(url: str) -> int:
            return (await transport.request("POST", url, headers=HEADERS, body=BODY)).status

        yield post


CLIENTS = {"bare": bare, "transport": guarded}


async def run(case: Case) -> Figures:
    """Post to the hosts in turn."""
    numbers = count()
    async with CLIENTS[case.client](case.concurrency) as post:

        async def worker() -> None:
            while (number := next(numbers)) < case.requests:
                status = await post(f"http://host{number % case.hosts}.example:{case.port}/hook")
                if status != 200:
                    raise SystemExit(f"the sink answered {status}")

        await post(f"http://warm.example:{case.port}/hook")
        gc.collect()
        memory = psutil.Process(os.getpid()).memory_info
        before, started = memory().rss, time.perf_counter()
        loop, process = time.thread_time(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(case.concurrency)))
        seconds = time.perf_counter() - started
        loop, process = time.thread_time() - loop, time.process_time() - process
        return Figures(case.requests / seconds, loop, process, memory().rss - before)


def measure(case: Case) -> Figures:
    """In this process, on the event loop that gateways use."""
    return uvloop.run(run(case))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("transport", __doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        port = urlsplit(start_sink(stack)).port or 0
        processes = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1))
        for _ in range(options.repeat):
            for hosts in (1, options.hosts):
                rates: list[float] = []
                for client in CLIENTS:
                    case = Case(client, hosts, options.requests, options.concurrency, port)
                    figures = processes.submit(measure, case).result()
                    print(figures.line(case))
                    rates.append(figures.rate)
                print(f"ratio to the bare session: {rates[1] / rates[0]:.2f}")

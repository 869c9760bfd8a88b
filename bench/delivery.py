"""How fast a backlog is delivered to the `webhook` platform, beside a bare loop of the same client.

    python -m bench delivery [--database sqlite|postgresql] [--redis URL|local] [--messages 20000]
        [--concurrency 128]

Accepts the backlog with nobody delivering, then starts the gateway and measures from the first to
the last request that a local sink sees. The bare loop posts the same body with the same number of
requests in flight, in the same run. Prints both rates and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import urllib.request
from contextlib import ExitStack
from itertools import count

import aiohttp
import psutil
import uvloop

from bench.accept import Sending, message
from bench.places import Place, add_place, benchmark_parser, start_server

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def bare_loop(url: str, messages: int, concurrency: int) -> float:
    """POSTs a second of an aiohttp session and nothing around it."""
    numbers = count()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

        async def post() -> None:
            while (number := next(numbers)) < messages:
                headers = {"content-type": "application/json"}
                async with session.post(url, data=message("p" * 36, number), headers=headers) as answer:
                    await answer.read()

        started = time.perf_counter()
        await asyncio.gather(*(post() for _ in range(concurrency)))
        return messages / (time.perf_counter() - started)


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process has used so far. Hardly depends on what else the machine does, as a rate does."""
    times = process.cpu_times()
    return times.user + times.system


def sink_state(url: str) -> tuple[int, float, float]:
    """Requests that came, and the moments of the first and the last."""
    with urllib.request.urlopen(f"{url}/count") as answer:
        number, first, last = answer.read().split()
    return int(number), float(first), float(last)


def drain_rate(sink: str, messages: int, seconds: float = 120.0) -> float:
    """Wait until all have come; deliveries a second between the first and the last."""
    deadline = time.monotonic() + seconds
    while (state := sink_state(sink))[0] < messages:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {state[0]} of {messages} came within {seconds:.0f} s")
        time.sleep(0.1)
    number, first, last = state
    print(f"  {number} requests at the sink for {messages} messages")
    return messages / (last - first)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("delivery", __doc__)
    add_place(parser)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=128)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        sink = start_sink(stack)
        bare = uvloop.run(bare_loop(f"{sink}/bare", options.messages, options.concurrency))
        print(f"bare aiohttp loop  {bare:8.0f} posts/s")
        urllib.request.urlopen(f"{sink}/reset").read()
        place = Place.of(options, stack)
        rate = measure(place, options, sink)
        print(f"delivered ({place.name})  {rate:8.0f} messages/s")
        print(f"ratio to the bare loop: {rate / bare:.2f}")


def start_sink(stack: ExitStack) -> str:
    """A sink process; its URL."""
    return start_server("bench.sink", "/count", stack)


def measure(place: Place, options: argparse.Namespace, sink: str) -> float:
    """Accept the backlog, then deliver it."""
    with place.gateway() as first:
        key = first.set_up()
        platform_id = first.add_platform(key, "webhook", {"url": f"{sink}/hook", "secret": SECRET})
    with place.gateway("api") as accepting:
        print(f"  backlog: {Sending(accepting.url, key, platform_id).send(options.messages).line()}")
    with place.gateway(MSGCORE_CONCURRENCY=str(options.concurrency)) as delivering:
        process = psutil.Process(delivering.process.pid)
        before = cpu_seconds(process)
        rate = drain_rate(sink, options.messages)
        each = (cpu_seconds(process) - before) / options.messages
        print(f"  CPU time of the gateway: {1e6 * each:.0f} microseconds a message")
        print(f"  queue: {delivering.metrics(key)}")
    return rate

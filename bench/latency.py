"""How soon a message leaves an idle gateway, and what the gateway costs while nothing happens.

    python -m bench latency [--database sqlite|postgresql] [--redis URL|local] [--messages 200]
        [--idle-seconds 10]

Sends one message at a time to the `webhook` platform at a receiver in this process, and measures from
writing the request to the arrival of the delivery: accepting, committing, scheduling and sending. The
reference is the same POST made straight to the receiver.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

import aiohttp
import psutil
import uvloop
from aiohttp import web

from bench.accept import message
from bench.delivery import SECRET
from bench.places import Place, add_place, benchmark_parser
from servers.gateway import GatewayProcess

PAUSE_SECONDS = 0.02
"""Between two messages, so that each finds an idle gateway."""


class Receiver:
    """Notes when the newest request arrived."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.moment = 0.0
        self.url = ""

    async def handle(self, _request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        self.moment = time.perf_counter()
        self.arrived.set()
        return web.Response(status=204)


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    """A receiver in this process."""
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    await runner.cleanup()


async def measure(gateway: GatewayProcess, messages: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each POST straight to the receiver, and of each message through the gateway."""
    async with receiving() as receiver:
        key = await asyncio.to_thread(gateway.set_up)
        account = {"url": receiver.url, "secret": SECRET}
        platform_id = await asyncio.to_thread(gateway.add_platform, key, "webhook", account)
        bare = await one_by_one(receiver, receiver.url, key, platform_id, messages)
        send = f"{gateway.url}/api/v1/projects/bench/messages/send"
        through = await one_by_one(receiver, send, key, platform_id, messages)
    return bare, through


async def one_by_one(receiver: Receiver, url: str, key: str, platform_id: str, messages: int) -> list[float]:
    """Milliseconds from each POST to the arrival of what it sends; the next waits for both."""
    taken: list[float] = []
    headers = {"content-type": "application/json", "x-api-key": key}
    async with aiohttp.ClientSession(headers=headers) as session:
        for number in range(messages):
            await asyncio.sleep(PAUSE_SECONDS)
            receiver.arrived.clear()
            started = time.perf_counter()
            async with session.post(url, data=message(platform_id, number)) as answer:
                if not answer.ok:
                    raise SystemExit(f"{url} answered {answer.status}: {await answer.text()}")
                await answer.read()
            await receiver.arrived.wait()
            taken.append(1000 * (receiver.moment - started))
    return taken


def idle_share(gateway: GatewayProcess, seconds: float) -> float:
    """Which share of one processor the gateway uses while nobody asks anything of it."""
    assert gateway.process is not None
    process = psutil.Process(gateway.process.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds


def percentile(figures: list[float], share: float) -> float:
    """What this share of the figures does not exceed."""
    return sorted(figures)[max(0, math.ceil(share * len(figures)) - 1)]


def line(milliseconds: list[float]) -> str:
    """Median and 99th percentile."""
    return f"p50 {statistics.median(milliseconds):6.2f} ms   p99 {percentile(milliseconds, 0.99):6.2f} ms"


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("latency", __doc__)
    add_place(parser)
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--idle-seconds", type=float, default=10.0)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        place = Place.of(options, stack)
        gateway = stack.enter_context(place.gateway())
        bare, through = uvloop.run(measure(gateway, options.messages))
        print(f"straight to the receiver  {line(bare)}")
        print(f"through the gateway ({place.name})  {line(through)}")
        print(f"ratio of the medians: {statistics.median(through) / statistics.median(bare):.1f}")
        print(f"idle: {100 * idle_share(gateway, options.idle_seconds):.2f} % of one processor")

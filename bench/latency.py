"""How soon a message leaves an idle gateway, and what the gateway costs while nothing happens.

    python -m bench latency [--database sqlite|postgresql] [--messages 200] [--idle-seconds 10]

Sends one message at a time to the `webhook` platform at a receiver in this process, and measures from
writing the request to the arrival of the delivery: accepting, committing, scheduling and sending. The
reference is the same POST made straight to the receiver.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import psutil
import uvloop
from aiohttp import web

from bench.accept import message
from bench.delivery import SECRET
from servers.gateway import GatewayProcess
from servers.postgres import PostgresServer

PAUSE_SECONDS = 0.02
"""Between two messages, so that each finds an idle gateway."""


class Receiver:
    """Notes when the newest request arrived."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.moment = 0.0

    async def handle(self, _request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        self.moment = time.perf_counter()
        self.arrived.set()
        return web.Response(status=204)


async def measure(gateway: GatewayProcess, messages: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each POST straight to the receiver, and of each message through the gateway."""
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sink = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    loop = asyncio.get_running_loop()
    key = await loop.run_in_executor(None, gateway.set_up)
    account = {"url": sink, "secret": SECRET}
    platform_id = await loop.run_in_executor(None, gateway.add_platform, key, "webhook", account)
    headers = {"content-type": "application/json", "x-api-key": key}
    send = f"{gateway.url}/api/v1/projects/bench/messages/send"
    async with aiohttp.ClientSession(headers=headers) as session:
        bare = [await _one(session, receiver, sink, platform_id, number) for number in range(messages)]
        through = [await _one(session, receiver, send, platform_id, number) for number in range(messages)]
    await runner.cleanup()
    return bare, through


async def _one(session: aiohttp.ClientSession, receiver: Receiver, url: str, platform_id: str, number: int) -> float:
    await asyncio.sleep(PAUSE_SECONDS)
    receiver.arrived.clear()
    started = time.perf_counter()
    async with session.post(url, data=message(platform_id, number)) as answer:
        await answer.read()
    await receiver.arrived.wait()
    return 1000 * (receiver.moment - started)


def idle_share(gateway: GatewayProcess, seconds: float) -> float:
    """Which share of one processor the gateway uses while nobody asks anything of it."""
    assert gateway.process is not None
    process = psutil.Process(gateway.process.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds


def line(milliseconds: list[float]) -> str:
    """Median and 99th percentile."""
    ordered = sorted(milliseconds)
    return f"p50 {statistics.median(ordered):6.2f} ms   p99 {ordered[int(0.99 * len(ordered)) - 1]:6.2f} ms"


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--idle-seconds", type=float, default=10.0)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        database_url = None
        if options.database == "postgresql":
            database_url = stack.enter_context(PostgresServer()).create_database("bench")
        data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="msgcore-bench-")))
        gateway = stack.enter_context(GatewayProcess(data_dir=data_dir, database_url=database_url))
        bare, through = uvloop.run(measure(gateway, options.messages))
        print(f"straight to the receiver  {line(bare)}")
        print(f"through the gateway ({options.database})  {line(through)}")
        print(f"ratio of the medians: {statistics.median(through) / statistics.median(bare):.1f}")
        print(f"idle: {100 * idle_share(gateway, options.idle_seconds):.2f} % of one processor")

"""What configured accounts cost while nothing happens, and how soon the first message of one goes out.

    python -m bench accounts [--database sqlite|postgresql] [--redis URL|local] [--accounts 500] [--messages 50]
        [--idle-seconds 10]

Configures so many accounts, spread over all platforms whose other end can be played here (those with an HTTP API,
e-mail with a mailbox that is watched over TLS), and starts the gateway anew. Memory is what its process holds then,
beside one without accounts. Then sends one message from each of up to `--messages` accounts of each platform, one
at a time, in turn: cold, as nothing of the account is known yet. The reference is the next message of the same
account, in the same run. Times are from the beginning of the request to the arrival at the platform: accepting,
committing, reading the account, decrypting its credentials, and sending.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain, zip_longest
from pathlib import Path

import aiohttp
import psutil
import uvloop

from bench.account_servers import Kind, Servers, serving
from bench.latency import PAUSE_SECONDS, line
from bench.places import Place, add_place, benchmark_parser
from servers.gateway import GatewayProcess

PATIENCE_SECONDS = 60.0
LATER = 40
"""The next message of an account goes out after the first ones of so many others: budgets space calls by up to 1 s."""

Account = tuple[Kind, str]
"""A platform, and the id of one of its accounts."""


def configure(gateway: GatewayProcess, servers: Servers, number: int) -> tuple[str, list[Account]]:
    """Sign up, and configure so many accounts, the platforms in turn; a key, and the accounts."""
    with gateway:
        key = gateway.set_up()
        kinds = [servers.kinds[index % len(servers.kinds)] for index in range(number)]
        return key, [(kind, gateway.add_platform(key, kind.name, kind.credentials)) for kind in kinds]


def memory(gateway: GatewayProcess, seconds: float) -> float:
    """MiB that a process holds after so many seconds in which nothing happens."""
    assert gateway.process is not None
    time.sleep(seconds)
    return float(psutil.Process(gateway.process.pid).memory_info().rss / 2**20)


async def connected(servers: Servers, accounts: Sequence[Account]) -> int:
    """Wait until each mailbox is watched; their number."""
    watched = sum("imapHost" in kind.credentials for kind, _ in accounts)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while servers.mailboxes.waiting < watched:
            servers.mailboxes.news.clear()
            await servers.mailboxes.news.wait()
    return watched


async def first_and_next(
    gateway: GatewayProcess, key: str, servers: Servers, accounts: Sequence[Account]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds until the first message of each account came, and the next one, by platform."""
    url = f"{gateway.url}/api/v1/projects/bench/messages/send"
    taken: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
    async with aiohttp.ClientSession(headers={"content-type": "application/json", "x-api-key": key}) as session:
        for index in range(len(accounts) + LATER):
            for turn, place in ((0, index), (1, index - LATER)):
                if not 0 <= place < len(accounts):
                    continue
                await asyncio.sleep(PAUSE_SECONDS)
                kind, platform_id = accounts[place]
                target = {"platformId": platform_id, **kind.targets[turn]}
                body = json.dumps({"targets": [target], "content": kind.content}).encode()
                taken[turn].setdefault(kind.name, []).append(await one(session, url, body, servers))
    return taken


async def one(session: aiohttp.ClientSession, url: str, body: bytes, servers: Servers) -> float:
    """Milliseconds from sending a request to the arrival of its message; both are waited for."""
    arrival = servers.arrival
    arrival.came.clear()
    started = time.perf_counter()
    async with session.post(url, data=body) as answer:
        if not answer.ok:
            raise SystemExit(f"{url} answered {answer.status}: {await answer.text()}")
        await answer.read()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await arrival.came.wait()
    return 1000 * (arrival.moment - started)


def in_turn(accounts: Sequence[Account], most: int) -> list[Account]:
    """At most so many accounts of each platform, the platforms in turn."""
    by_platform: dict[str, list[Account]] = {}
    for account in accounts:
        by_platform.setdefault(account[0].name, []).append(account)
    rounds = zip_longest(*(each[:most] for each in by_platform.values()))
    return [account for account in chain.from_iterable(rounds) if account is not None]


def show(name: str, cold: list[float], warm: list[float]) -> None:
    """One line of the table."""
    ratio = statistics.median(cold) / statistics.median(warm)
    print(f"{name:15} cold {line(cold)}   warm {line(warm)}   ratio of the medians {ratio:.2f}")


async def run(options: argparse.Namespace, stack: ExitStack) -> None:
    """Measure and print."""
    place, bare_place = Place.of(options, stack), Place.of(options, stack)
    with bare_place.gateway() as bare:
        without = memory(bare, options.idle_seconds)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    async with serving(folder) as servers:
        gateway = place.gateway(**servers.environment)
        key, accounts = await asyncio.to_thread(configure, gateway, servers, options.accounts)
        started = time.perf_counter()
        await asyncio.to_thread(gateway.start)
        watched = await connected(servers, accounts)
        up = time.perf_counter() - started
        idle = await asyncio.to_thread(memory, gateway, options.idle_seconds)
        cold, warm = await first_and_next(gateway, key, servers, in_turn(accounts, options.messages))
        used = await asyncio.to_thread(memory, gateway, 0.0)
        assert gateway.process is not None
        threads = psutil.Process(gateway.process.pid).num_threads()
        await asyncio.to_thread(gateway.kill)
    print(f"{place.name}, {len(accounts)} accounts of {len(servers.kinds)} platforms, {watched} mailboxes watched")
    print(f"start to all connected: {up:.1f} s; {threads} threads")
    print(f"memory without accounts:             {without:6.1f} MiB")
    print(
        f"with idle ones:                      {idle:6.1f} MiB, {1024 * (idle - without) / len(accounts):.1f} KiB each"
    )
    sent = sum(map(len, cold.values()))
    print(f"after {2 * sent:5} messages of {sent:4} of them: {used:6.1f} MiB")
    for name in cold:
        show(name, cold[name], warm[name])
    show("all", list(chain(*cold.values())), list(chain(*warm.values())))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("accounts", __doc__)
    add_place(parser)
    parser.add_argument("--accounts", type=int, default=500, help="in all (500)")
    parser.add_argument("--messages", type=int, default=50, help="accounts of each platform that send (50)")
    parser.add_argument("--idle-seconds", type=float, default=10.0, help="before memory is measured (10)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        uvloop.run(run(options, stack))

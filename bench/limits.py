"""Whether a full queue keeps the published limits of platforms, and how much of them it uses.

    python -m bench limits [--seconds 60] [--database sqlite|postgresql] [--workers 1] [--redis URL|local]

A server of its own process enforces what Telegram, Discord, Slack and WhatsApp publish (see
`limit_rules.py` for sources and readings) and answers 429 as they do. Worker processes send full
queues of one account a platform through the whole dispatch core: ledger, scheduler, processor,
adapters. Prints a line a platform: requests, refusals, the share of the allowed messages that was
sent in the first `--seconds`, and how many milliseconds the closest call was from a refusal.

Several workers share their budgets through Redis (`--redis local` starts one for the run).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgspec

from bench.limit_load import Load, feed, fill_ledger, loads
from bench.limit_worker import Job
from bench.places import ROOT, Place, add_place, benchmark_parser, start_server
from bench.schedulers import begin, open_scheduler
from msgcore.store.database import Database

GOAL = 0.97
START_SECONDS = 60.0


def report(server: str, seconds: float) -> dict[str, dict[str, Any]]:
    """What each platform saw."""
    with urllib.request.urlopen(f"{server}/report?{seconds}") as answer:
        found: dict[str, dict[str, Any]] = json.loads(answer.read())
    return found


async def prepare(job: Job, server: str, chosen: Sequence[Load], seconds: float) -> None:
    """Fill the ledger, and Redis where it schedules."""
    database = Database.open(job.database_url)
    try:
        total = await fill_ledger(database, bytes.fromhex(job.key), server, chosen, seconds)
        print(f"  {total} deliveries queued")
        if job.redis_url is not None:
            async with open_scheduler(job.redis_url) as scheduler:
                await begin(scheduler)
                await feed(database, scheduler, job.slack)
    finally:
        await database.close()


def start_workers(job: Job, number: int, stack: ExitStack) -> list[subprocess.Popen[bytes]]:
    """So many worker processes on the same job; ended with the stack."""
    command = [sys.executable, "-m", "bench.limit_worker", msgspec.json.encode(job).decode()]
    workers = [subprocess.Popen(command, cwd=ROOT) for _ in range(number)]
    for worker in workers:
        stack.callback(worker.wait)
        stack.callback(worker.terminate)
    return workers


def watch(server: str, chosen: Sequence[Load], seconds: float, workers: list[subprocess.Popen[bytes]]) -> None:
    """Until every platform was sent to for so long."""
    deadline = time.monotonic() + START_SECONDS + seconds
    while True:
        seen = report(server, seconds)
        if all(seen[load.platform]["age"] > seconds for load in chosen):
            return
        if time.monotonic() > deadline or any(worker.poll() is not None for worker in workers):
            raise SystemExit("a worker ended, or sends nothing; its log is above")
        time.sleep(0.5)


def line(load: Load, seen: dict[str, Any], seconds: float) -> str:
    """One platform for people."""
    share = seen["used"] / (load.rate * seconds)
    margins = ", ".join(f"{scope} {margin:+.0f} ms" for scope, margin in sorted(seen["margin_ms"].items()))
    kinds = ", ".join(f"{number} to {kind}s" for kind, number in seen["kinds"].items())
    reached = "reached" if share >= GOAL and not seen["refused"] else "NOT REACHED"
    return (
        f"{load.platform:15} {seen['requests']:6} requests  {seen['refused']:4} refused  "
        f"{100 * share:6.2f} % of {load.rate:.0f}/s used ({kinds})  closest: {margins}  goal {reached}"
    )


def main(arguments: list[str]) -> None:
    """Measure and print."""
    known = loads()
    parser = benchmark_parser("limits", __doc__)
    add_place(parser)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure (60)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (1)")
    parser.add_argument("--slack", type=float, default=0.02, help="share by which budgets stay below the limits (0.02)")
    parser.add_argument("--platforms", nargs="+", choices=list(known), default=list(known))
    options = parser.parse_args(arguments)
    if options.workers > 1 and (options.redis is None or options.database == "sqlite"):
        raise SystemExit("several workers share a PostgreSQL and a Redis: add --database postgresql --redis local")
    chosen = [known[name] for name in options.platforms]
    with ExitStack() as stack:
        place = Place.of(options, stack)
        server = start_server("bench.limit_server", "/report", stack)
        job = Job(
            database_url=place.sql_url,
            redis_url=place.redis_url,
            server=server,
            key=secrets.token_hex(32),
            slack=options.slack,
        )
        asyncio.run(prepare(job, server, chosen, options.seconds))
        workers = start_workers(job, options.workers, stack)
        watch(server, chosen, options.seconds, workers)
        seen = report(server, options.seconds)
    print(f"{options.workers} worker(s), {place.name}, slack {100 * options.slack:.1f} %, {options.seconds:.0f} s")
    for load in chosen:
        print(line(load, seen[load.platform], options.seconds))

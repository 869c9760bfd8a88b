"""kill -9 of workers and a Redis that is emptied, while messages fall back: each goes to the target that takes it.

Half of the messages are to a recipient who refuses, and go to their second fallback; the others never leave their
target. `make test` runs a short form, `make test-faults` the long one (MSGCORE_FAULT_FALLBACKS=3000 and
MSGCORE_FAULT_WORKER_KILLS=10). The seed is printed; MSGCORE_FAULT_SEED repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from servers.gateway import GatewayProcess
from servers.patience import PATIENCE
from servers.postgres import PostgresServer
from servers.valkey import ValkeyServer

MESSAGES = int(os.environ.get("MSGCORE_FAULT_FALLBACKS", "200"))
SEED = int(os.environ.get("MSGCORE_FAULT_SEED", str(random.SystemRandom().randrange(10**9))))
KILLS = int(os.environ.get("MSGCORE_FAULT_WORKER_KILLS", "2"))
SETTINGS = {"MSGCORE_LEASE_SECONDS": "2", "MSGCORE_RECONCILE_SECONDS": "0.5", "MSGCORE_RATE_LIMIT_MAX": "1000000"}

CHAINS = "SELECT message_id, array_agg(state ORDER BY fallback_rank) AS states FROM deliveries GROUP BY message_id"
UNCERTAIN = "SELECT count(*) FROM attempts WHERE reached = 'maybe'"


def chain(platform_id: str, number: int) -> dict[str, Any]:
    first = f"fail-permanent:{number}" if number % 2 else f"slow-5ms:{number}"
    names = (first, f"fail-permanent:again-{number}", f"slow-5ms:other-{number}", "nobody")
    target, *others = ({"platformId": platform_id, "type": "user", "id": name} for name in names)
    return {"targets": [target], "content": {"text": "hi"}, "options": {"fallback": {"targets": others}}}


def test_workers_and_redis_die_between_failure_and_fallback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(SEED)
    with PostgresServer(fsync=False) as postgres, ValkeyServer() as valkey:
        url = postgres.create_database("fallbacks")
        settings = {**SETTINGS, "MSGCORE_REDIS_URL": valkey.url}
        with GatewayProcess("serve", data_dir=tmp_path, database_url=url, **settings) as first:
            key = first.set_up()
            platform_id = first.add_platform(key, "sandbox", {})
        workers = [GatewayProcess("worker", data_dir=tmp_path, database_url=url, **settings) for _ in range(2)]
        with GatewayProcess("api", data_dir=tmp_path, database_url=url, **settings) as gateway:
            for worker in workers:
                worker.start()
            messages = [chain(platform_id, number) for number in range(MESSAGES)]
            gateway.call("POST", "/api/v1/projects/bench/messages/batch", messages, x_api_key=key)
            for kill in range(KILLS):
                wait_until(gateway, key, lambda left, kill=kill: left <= MESSAGES * 4 * (KILLS - kill) / (KILLS + 1))
                worker = rng.choice(workers)
                worker.kill()
                if kill == 1:
                    with valkey.client() as client:
                        client.flushall()
                worker.start()
            wait_until(gateway, key, lambda left: not left)
            chains, uncertain = asyncio.run(read(url))
            for worker in workers:
                worker.__exit__(None, None, None)
    with capsys.disabled():
        print(f"\n{MESSAGES} messages with fallbacks, seed {SEED}: {KILLS} kills, {uncertain} uncertain attempts")
    reached, fallen_back = ["sent"] + ["cancelled"] * 3, ["failed", "failed", "sent", "cancelled"]
    assert sorted(map(json.dumps, chains)) == sorted(
        json.dumps(fallen_back if number % 2 else reached) for number in range(MESSAGES)
    )


def wait_until(gateway: GatewayProcess, key: str, is_enough: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_enough(left := gateway.metrics(key)["total"]):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


async def read(url: str) -> tuple[list[list[str]], int]:
    """The states of each message's deliveries in the order of its targets, and how many attempts were cut off."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(CHAINS)
        return [row["states"] for row in rows], int(await connection.fetchval(UNCERTAIN))
    finally:
        await connection.close()

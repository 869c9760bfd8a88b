"""kill -9 of workers, a Redis that is emptied and one that is restarted empty, while messages flow.

Promise: whatever was answered with 201 arrives, and in order within its lane. A message may arrive twice
only when an attempt was under way at a kill, or at a Redis that forgot who worked on what; each such
attempt is in the ledger as one that may have reached the receiver.

`make test` runs a short form; `make test-faults` the long one (MSGCORE_FAULT_WORKER_KILLS=10,
MSGCORE_FAULT_WORKER_MESSAGES=20000). The seed is printed; MSGCORE_FAULT_SEED repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from servers.gateway import GatewayProcess
from servers.ordered_sink import OrderedSink
from servers.patience import PATIENCE
from servers.postgres import PostgresServer
from servers.valkey import ValkeyServer

KILLS = int(os.environ.get("MSGCORE_FAULT_WORKER_KILLS", "3"))
MESSAGES = int(os.environ.get("MSGCORE_FAULT_WORKER_MESSAGES", "1200"))
SEED = int(os.environ.get("MSGCORE_FAULT_SEED", str(random.SystemRandom().randrange(10**9))))
WORKERS = 3
SENDERS = 4
LANES_OF_SENDER = 10
SINK_SECONDS = 0.02
"""How long the receiver takes, so that some deliveries are always under way."""

SETTINGS = {"MSGCORE_LEASE_SECONDS": "3", "MSGCORE_RECONCILE_SECONDS": "0.5"}


class Senders:
    """Clients that send numbered messages in lanes of their own, and remember what was answered with 201."""

    def __init__(self, gateway: GatewayProcess, key: str, platform_id: str) -> None:
        self._gateway = gateway
        self._headers = {"content-type": "application/json", "x-api-key": key}
        self._platform_id = platform_id
        self.accepted: list[str] = []
        self.threads = [threading.Thread(target=self._send_all, args=(n,), daemon=True) for n in range(SENDERS)]

    def _send_all(self, sender: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=PATIENCE)
        for number in range(MESSAGES // SENDERS):
            lane = f"lane-{sender}-{number % LANES_OF_SENDER}"
            text = f"{lane}:{number:06}"
            body = {
                "targets": [{"platformId": self._platform_id, "type": "user", "id": lane}],
                "content": {"text": text},
                "options": {"ordering": "strict"},
            }
            connection.request(
                "POST", "/api/v1/projects/bench/messages/send", body=json.dumps(body), headers=self._headers
            )
            answer = connection.getresponse()
            assert answer.status == 201, answer.read()
            answer.read()
            self.accepted.append(text)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, ValkeyServer, OrderedSink]]:
    with PostgresServer(fsync=False) as postgres, ValkeyServer() as valkey, OrderedSink(seconds=SINK_SECONDS) as sink:
        yield postgres.create_database("faults"), valkey, sink


def test_workers_and_redis_die(
    place: tuple[str, ValkeyServer, OrderedSink], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database_url, valkey, sink = place
    rng = random.Random(SEED)
    settings = {**SETTINGS, "MSGCORE_REDIS_URL": valkey.url}
    with GatewayProcess("serve", data_dir=tmp_path, database_url=database_url, **settings) as first:
        key = first.set_up()
        platform_id = first.add_platform(key, "webhook", {"url": sink.url, "secret": "whsec_" + "a" * 44})
    workers = [
        GatewayProcess("worker", data_dir=tmp_path, database_url=database_url, **settings) for _ in range(WORKERS)
    ]
    with GatewayProcess("api", data_dir=tmp_path, database_url=database_url, **settings) as gateway:
        for worker in workers:
            worker.start()
        senders = Senders(gateway, key, platform_id)
        for thread in senders.threads:
            thread.start()
        faults = ["kill"] * KILLS
        faults.insert(KILLS // 3, "flush")
        faults.insert(2 * KILLS // 3 + 1, "restart")
        # Random moments, told by how far the sending is, so that a slow machine meets the same ones.
        moments = sorted(rng.uniform(0.05, 0.95) * MESSAGES for _ in faults)
        for moment, fault in zip(moments, faults, strict=True):
            while len(senders.accepted) < moment and any(thread.is_alive() for thread in senders.threads):
                time.sleep(0.005)
            inject(fault, rng.choice(workers), valkey, rng)
        for thread in senders.threads:
            thread.join(300)
        left = wait_until_idle(gateway, key)
        uncertain = asyncio.run(uncertain_attempts(database_url))
        for worker in workers:
            worker.__exit__(None, None, None)
    duplicates = sum(number - 1 for number in sink.received.values())
    missing = set(senders.accepted) - set(sink.received)
    with capsys.disabled():
        print(
            f"\n{KILLS} worker kills, a flush and a restart of Redis, seed {SEED}: {len(senders.accepted)} accepted, "
            f"{len(missing)} missing, {duplicates} duplicates, {uncertain} uncertain attempts"
        )
    assert len(senders.accepted) == MESSAGES // SENDERS * SENDERS
    assert not missing
    assert left == 0
    # What comes a second time may be a dead worker's request, which waited at the receiver meanwhile.
    first_arrivals = {lane: list(dict.fromkeys(texts)) for lane, texts in sink.lanes.items()}
    assert [lane for lane, texts in first_arrivals.items() if texts != sorted(texts)] == [], "order within a lane"
    assert duplicates <= uncertain, "a duplicate that no interrupted attempt explains"


def inject(fault: str, worker: GatewayProcess, valkey: ValkeyServer, rng: random.Random) -> None:
    if fault == "kill":
        worker.kill()
        worker.start()
    elif fault == "flush":
        with valkey.client() as client:
            client.flushall()
    else:
        valkey.kill()
        time.sleep(rng.uniform(0.2, 1.0))  # it is away for a moment
        valkey.start()


def wait_until_idle(gateway: GatewayProcess, key: str, seconds: float = PATIENCE) -> int:
    deadline = time.monotonic() + seconds
    while True:
        left = gateway.metrics(key)["total"]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


async def uncertain_attempts(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM attempts WHERE reached = 'maybe'"))
    finally:
        await connection.close()

"""One lane, and a platform that fails a fifth of the calls at random: everything arrives, in exactly its order.

`make test` runs a short form, `make test-faults` the long one (MSGCORE_FAULT_LANE_MESSAGES=1000). The seed is
printed; MSGCORE_FAULT_SEED repeats a run's choices.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from servers.gateway import GatewayProcess
from servers.ordered_sink import OrderedSink
from servers.postgres import PostgresServer
from servers.valkey import ValkeyServer

MESSAGES = int(os.environ.get("MSGCORE_FAULT_LANE_MESSAGES", "40"))
SEED = int(os.environ.get("MSGCORE_FAULT_SEED", str(random.SystemRandom().randrange(10**9))))
FAILING = 0.2


def test_a_lane_keeps_its_order_though_a_fifth_of_the_calls_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    with (
        PostgresServer(fsync=False) as postgres,
        ValkeyServer() as valkey,
        OrderedSink(fails=lambda: rng.random() < FAILING) as sink,
        GatewayProcess(
            data_dir=tmp_path,
            database_url=postgres.create_database("lane"),
            MSGCORE_REDIS_URL=valkey.url,
            MSGCORE_RATE_LIMIT_MAX="1000000",
        ) as gateway,
    ):
        key = gateway.set_up()
        platform_id = gateway.add_platform(key, "webhook", {"url": sink.url, "secret": "whsec_" + "a" * 44})
        sent = [f"{number:06}" for number in range(MESSAGES)]
        for text in sent:
            body = {
                "targets": [{"platformId": platform_id, "type": "user", "id": "lane"}],
                "content": {"text": text},
                "options": {"ordering": "strict"},
            }
            gateway.call("POST", "/api/v1/projects/bench/messages/send", body, x_api_key=key)
        deadline = time.monotonic() + 60 + 3 * MESSAGES
        while gateway.metrics(key)["total"]:
            assert time.monotonic() < deadline, gateway.metrics(key)
            time.sleep(0.1)
    with capsys.disabled():
        print(f"\none lane, seed {SEED}: {MESSAGES} messages, {sink.refused} calls refused")
    assert sink.lanes["lane"] == sent
    assert sink.refused

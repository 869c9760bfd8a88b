"""What an API process changes, a worker in another process respects; they share a PostgreSQL database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from servers.gateway import GatewayProcess
from servers.patience import PATIENCE
from servers.postgres import PostgresServer

MESSAGES = "/api/v1/projects/bench/messages"


class Apart:
    """An API process, a worker process, and a sandbox platform."""

    def __init__(self, api: GatewayProcess) -> None:
        self.api = api
        self.key = api.set_up()
        self.platform_id = api.add_platform(self.key, "sandbox", {})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.api.call(method, f"{MESSAGES}/{path}", body, x_api_key=self.key)

    def send(self, to: str, seconds: float) -> str:
        target = {"platformId": self.platform_id, "type": "user", "id": to}
        scheduled = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        body = {"targets": [target], "content": {"text": "hi"}, "options": {"scheduled": scheduled}}
        return str(self.ask("POST", "send", body)["jobId"])

    def state(self, job_id: str) -> str:
        return str(self.ask("GET", f"status/{job_id}")["delivery"]["results"][0]["state"])

    def wait_until_sent(self, job_id: str) -> None:
        wait_for(lambda: self.state(job_id), "sent")


def wait_for(found: Callable[[], Any], expected: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while (last := found()) != expected:
        assert time.monotonic() < deadline, last
        time.sleep(0.05)


@pytest.fixture(scope="module")
def apart(
    postgres_server: PostgresServer, migrated_postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Apart]:
    settings = {"MSGCORE_RECONCILE_SECONDS": "0.2", "MSGCORE_SHUTDOWN_SECONDS": "0.5"}
    url = postgres_server.create_database("api_apart", template=migrated_postgres)
    folder: Path = tmp_path_factory.mktemp("gateway")
    with (
        GatewayProcess("api", data_dir=folder, database_url=url, **settings) as api,
        GatewayProcess("worker", data_dir=folder, database_url=url, **settings),
    ):
        found = Apart(api)
        found.wait_until_sent(found.send("ready", 0))
        yield found


def test_what_was_cancelled_is_not_sent(apart: Apart) -> None:
    first, second = apart.send("ann", 1.5), apart.send("bob", 1.5)
    assert apart.ask("POST", f"{first}/cancel")["cancelled"] == 1
    apart.wait_until_sent(second)
    assert apart.state(first) == "cancelled"


def test_what_was_put_off_is_not_sent_before_its_time(apart: Apart) -> None:
    """The worker holds it with its old time: it claims it then, and the ledger says no."""
    first, second = apart.send("ann", 1.5), apart.send("bob", 1.5)
    moment = datetime.now(UTC) + timedelta(seconds=3.5)
    assert apart.ask("POST", f"{first}/reschedule", {"scheduled": moment.isoformat()})["rescheduled"] == 1
    apart.wait_until_sent(second)
    assert apart.state(first) == "scheduled"
    apart.wait_until_sent(first)
    sent_at = apart.ask("GET", f"status/{first}")["delivery"]["results"][0]["sentAt"]
    assert datetime.fromisoformat(sent_at) >= moment - timedelta(milliseconds=1)


def test_what_is_far_away_can_be_sent_at_once(apart: Apart) -> None:
    job_id = apart.send("ann", 90_000)
    assert apart.ask("POST", f"{job_id}/reschedule", {"scheduled": None})["rescheduled"] == 1
    apart.wait_until_sent(job_id)

"""The metrics port: for a worker, for an API that shows no metrics itself, and while the process goes away."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msgcore.config import Settings
from servers.gateway import GatewayProcess, free_port
from servers.metrics import Exposition, scrape
from servers.patience import PATIENCE
from servers.postgres import PostgresServer

MESSAGES = "/api/v1/projects/bench/messages"


def until(check: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask(url: str) -> tuple[int, dict[str, Any]]:
    """Status and body; status 0 when nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
    except OSError:
        return 0, {}


def ready(url: str) -> tuple[int, str | None]:
    status, body = ask(f"{url}/api/v1/health/ready")
    return status, body.get("status")


def send(gateway: GatewayProcess, key: str, platform_id: str, *to: str) -> None:
    targets = [{"platformId": platform_id, "type": "user", "id": target} for target in to]
    gateway.call("POST", f"{MESSAGES}/send", {"targets": targets, "content": {"text": "hi"}}, x_api_key=key)


def test_without_a_token_and_a_port_nobody_gets_metrics(tmp_path: Path) -> None:
    with GatewayProcess(data_dir=tmp_path) as gateway:
        status, body = ask(f"{gateway.url}/metrics")
    assert status == 403
    assert "MSGCORE_METRICS_TOKEN" in body["message"]
    assert "MSGCORE_METRICS_PORT" in body["message"]


def test_the_port_takes_metrics_off_the_api_and_tells_of_a_stop(tmp_path: Path) -> None:
    port = free_port()
    monitoring = f"http://127.0.0.1:{port}"
    with GatewayProcess(data_dir=tmp_path, MSGCORE_METRICS_PORT=str(port)) as gateway:
        assert ask(f"{gateway.url}/metrics")[0] == 404
        assert ready(monitoring) == ready(gateway.url) == (200, "ready")
        assert ask(f"{monitoring}/api/v1/auth/whoami")[0] == 404
        key = gateway.set_up()
        box = gateway.add_platform(key, "sandbox", {})
        send(gateway, key, box, "slow-5s")
        until(lambda: scrape(monitoring).value("msgcore_deliveries", state="sending") == 1)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: ready(monitoring) == (503, "stopping"))
        assert ask(f"{monitoring}/api/v1/health/live")[0] == 200
        assert gateway.process.wait(30) == 0
        assert ready(monitoring) == (0, None)


def test_a_token_is_asked_for_on_the_port_too(tmp_path: Path) -> None:
    port, token = free_port(), "x" * 16
    with GatewayProcess(data_dir=tmp_path, MSGCORE_METRICS_PORT=str(port), MSGCORE_METRICS_TOKEN=token):
        assert ask(f"http://127.0.0.1:{port}/metrics")[0] == 401
        assert scrape(f"http://127.0.0.1:{port}", token).value("msgcore_database_up") == 1


def test_an_api_and_a_worker_count_their_own_and_see_the_same_ledger(
    postgres_server: PostgresServer, migrated_postgres: str, tmp_path: Path
) -> None:
    url = postgres_server.create_database("metrics_of_two", template=migrated_postgres)
    secrets = {"MSGCORE_ENCRYPTION_KEY": "0a" * 32, "MSGCORE_JWT_SECRET": "j" * 32, "MSGCORE_RECONCILE_SECONDS": "0.1"}
    ports = {command: free_port() for command in ("api", "worker")}

    def process(command: str) -> GatewayProcess:
        (tmp_path / command).mkdir()
        settings = secrets | {"MSGCORE_METRICS_PORT": str(ports[command])}
        return GatewayProcess(command, data_dir=tmp_path / command, database_url=url, **settings)

    def look(command: str) -> Exposition:
        return scrape(f"http://127.0.0.1:{ports[command]}")

    with process("api") as api, process("worker"):
        until(lambda: ready(f"http://127.0.0.1:{ports['worker']}") == (200, "ready"))
        key = api.set_up()
        send(api, key, api.add_platform(key, "sandbox", {}), "ann", "bob", "fail-permanent")
        until(lambda: look("worker").value("msgcore_deliveries", state="sent") == 2)
        until(lambda: look("api").value("msgcore_deliveries", state="sent") == 2)
        own = {
            command: [
                look(command).value("msgcore_deliveries_accepted_total", platform="sandbox"),
                look(command).value("msgcore_attempts_total", outcome="sent"),
                look(command).value("msgcore_attempts_total", outcome="failed"),
                look(command).value("msgcore_dispatching"),
            ]
            for command in ports
        }
        assert own == {"api": [3, 0, 0, 0], "worker": [0, 2, 1, 1]}


def test_a_database_that_is_away_is_told_and_not_fatal(tmp_path: Path) -> None:
    port = free_port()
    monitoring = f"http://127.0.0.1:{port}"
    with PostgresServer(fsync=False) as server:
        url = server.create_database("away")
        with GatewayProcess(data_dir=tmp_path, database_url=url, MSGCORE_METRICS_PORT=str(port)) as gateway:
            assert scrape(monitoring).value("msgcore_database_up") == 1
            server.stop()
            until(lambda: ready(monitoring) == (503, "database unreachable"))
            until(lambda: "msgcore_database_up 0.0" in scrape(monitoring).text)
            assert "msgcore_deliveries{" not in scrape(monitoring).text, "old numbers look like new ones"
            status, body = ask(f"{gateway.url}/api/v1/health")
            assert (status, body["status"], body["database"]) == (503, "unhealthy", "unreachable")
            assert (body["setupRequired"], body["dispatch"]["lagSeconds"]) == (None, None)
            assert ask(f"{gateway.url}/api/v1/health/live")[0] == 200
            server.start()
            until(lambda: ready(monitoring) == (200, "ready"))


@pytest.mark.parametrize("token", ["short", "with a blank in it", "caf\u00e9-caf\u00e9-caf\u00e9-caf\u00e9"])
def test_a_token_that_fits_no_header_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="metrics_token"):
        Settings(metrics_token=token)

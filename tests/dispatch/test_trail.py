"""The log lines of a delivery's way, from the request to the outcome; and that a smooth way costs none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from msgcore.core.deliveries import DeliveryState, Done, Finished, Lease, Retry
from msgcore.dispatch.trail import Trail
from msgcore.dispatch.verdict import Verdict
from msgcore.observability.metrics import Metrics
from msgcore.observability.snapshot import Snapshot
from msgcore.store.ledger.beginning import WorkItem
from msgcore.store.ledger.recording import WorkResult
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess
from servers.metrics import Exposition
from servers.patience import PATIENCE
from store.ledger_rows import NOW

SEND = "projects/bench/messages/send"
WAYS = {
    "ann": ["attempt_started", "delivery_sent"],
    "fail-permanent": ["attempt_started", "delivery_dead"],
    "fail-times-1": ["attempt_started", "delivery_retrying", "attempt_started", "delivery_sent"],
    "throttle-50ms": ["attempt_started", "delivery_throttled", "attempt_started", "delivery_sent"],
}


def lines(gateway: GatewayProcess) -> list[dict[str, Any]]:
    """What it logged so far, without a line that is being written."""
    text = (gateway.data_dir / "server.log").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["fast", "long"])
def test_every_line_of_a_deliverys_way_leads_to_its_request(tmp_path: Path, way: str) -> None:
    with GatewayProcess(data_dir=tmp_path, MSGCORE_LOG_LEVEL="debug") as gateway:
        key = gateway.set_up()
        box = gateway.add_platform(key, "sandbox", {})
        client = ApiClient(gateway.url, {"X-API-Key": key})
        client.ask("GET", "auth/whoami")  # the key is known from here on
        origin = {"Origin": "https://app.example.com"} if way == "long" else {}
        jobs: dict[str, str] = {}
        for target in WAYS:
            body = {"targets": [{"platformId": box, "type": "user", "id": target}], "content": {"text": "hi"}}
            jobs[target] = client.ask("POST", SEND, body, X_Request_ID=f"request-{target}", **origin).body["jobId"]

        def of(target: str) -> list[dict[str, Any]]:
            return [line for line in lines(gateway) if line.get("message_id") == jobs[target]]

        for target, events in WAYS.items():
            until(lambda target=target, events=events: len(of(target)) == len(events) + 1)
            accepted, *rest = sorted(of(target), key=lambda line: line["event"] != "message_accepted")
            assert (accepted["request_id"], accepted["deliveries"]) == (f"request-{target}", 1)
            assert [line["event"] for line in rest] == events
            assert len({line["delivery_id"] for line in rest}) == 1
            assert {line["platform"] for line in rest} == {"sandbox"}
        retrying = next(line for line in of("fail-times-1") if line["event"] == "delivery_retrying")
        assert (retrying["level"], retrying["code"], retrying["state"]) == ("info", "sandbox_failed", "retrying")
        assert retrying["due_in"] >= 0


def test_what_goes_well_is_not_logged_at_info(tmp_path: Path) -> None:
    with GatewayProcess(data_dir=tmp_path, MSGCORE_LOG_LEVEL="info") as gateway:
        key = gateway.set_up()
        box = gateway.add_platform(key, "sandbox", {})
        for target in ("ann", "bob", "fail-permanent"):
            body = {"targets": [{"platformId": box, "type": "user", "id": target}], "content": {"text": "hi"}}
            gateway.call("POST", f"/api/v1/{SEND}", body, x_api_key=key)
        until(lambda: gateway.metrics(key)["completed"] == 2)
        until(lambda: any(line["event"] == "delivery_dead" for line in lines(gateway)))
        told = [line["event"] for line in lines(gateway) if "delivery_id" in line]
    assert told == ["delivery_dead"]


def work_item(delivery_id: str = "d1", platform_id: str = "a1") -> WorkItem:
    return WorkItem(
        id=delivery_id,
        message_id="m1",
        project_id="shop",
        platform_id=platform_id,
        platform="sandbox",
        target_type="user",
        target_id="ann",
        attempt=2,
        throttles=0,
        on_uncertain="resend",
        uncertain=False,
        first_due_at=NOW,
        expires_at=None,
        created_at=NOW,
        started_at=NOW,
    )


def test_lost_leases_and_breakers_are_told_and_counted() -> None:
    metrics = Metrics(["sandbox"])
    lost, opened = Lease("d1", "a1", 1), Lease("d2", "a2", 2)
    verdicts = [
        Verdict(WorkResult(work_item(), DeliveryState.SENT, "sent", NOW), Done(lost)),
        Verdict(WorkResult(work_item("d2", "a2"), DeliveryState.RETRYING, "retry", NOW, due_at=NOW), Retry(opened, 1)),
    ]
    with capture_logs() as logged:
        Trail(metrics).finished(Finished(lost=[lost], opened=["a2"], closed=["a1"]), verdicts)
    assert [(line["event"], line["log_level"]) for line in logged] == [
        ("lease_lost", "warning"),
        ("breaker_opened", "warning"),
        ("breaker_closed", "info"),
    ]
    assert (logged[0]["delivery_id"], logged[0]["message_id"]) == ("d1", "m1")
    assert [line["platform_id"] for line in logged[1:]] == ["a2", "a1"]
    shown = Exposition(metrics.exposition(Snapshot(database_reachable=False)).decode())
    assert shown.value("msgcore_leases_lost_total", platform="sandbox") == 1
    assert shown.value("msgcore_breakers_opened_total", platform="sandbox") == 1

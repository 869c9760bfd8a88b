"""Where a project's deliveries are, counted while they move."""

from __future__ import annotations

import time
from typing import Any

from api.conftest import Running
from servers.patience import PATIENCE


def counts(running: Running) -> dict[str, int]:
    metrics: dict[str, int] = running.key.ask("GET", "projects/shop/messages/queue/metrics").body
    return {name: number for name, number in metrics.items() if number}


def wait_for(running: Running, expected: dict[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := counts(running)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def send(running: Running, platform_id: str, *to: str, **options: Any) -> str:
    targets = [{"platformId": platform_id, "type": "user", "id": target} for target in to]
    body = {"targets": targets, "content": {"text": "hi"}, "options": options}
    reply = running.key.ask("POST", "projects/shop/messages/send", body)
    assert reply.status == 201, reply
    return str(reply.body["jobId"])


def job(running: Running, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = running.key.ask("GET", f"projects/shop/messages/status/{job_id}").body
    return found


def test_every_word_of_the_metrics(running: Running) -> None:
    good, bad = running.add_sandbox("good"), running.add_sandbox("bad")
    done = send(running, good, "ann", "fail-permanent")
    wait_for(running, {"completed": 1, "failed": 1})
    assert (job(running, done)["status"], job(running, done)["progress"]) == ("completed", 100)

    later = send(running, good, "ann", scheduled="2035-01-01T00:00:00Z")
    wait_for(running, {"completed": 1, "failed": 1, "delayed": 1, "total": 1})
    assert (job(running, later)["status"], job(running, later)["progress"]) == ("delayed", 0)
    assert job(running, later)["delivery"]["results"][0]["state"] == "scheduled"

    held = send(running, bad, "auth-failure", "bob")
    wait_for(running, {"completed": 2, "failed": 1, "delayed": 1, "paused": 1, "total": 2})
    assert job(running, held)["status"] == "active"
    shown = running.key.ask("GET", f"projects/shop/platforms/{bad}").body
    assert "auth-failure refuses" in shown["pausedReason"]
    logged = running.key.ask("GET", f"projects/shop/platforms/{bad}/logs?category=auth").body
    assert [entry["level"] for entry in logged["logs"]] == ["error"]

    switched_off = running.key.ask("PATCH", f"projects/shop/platforms/{good}", {"isActive": False})
    assert switched_off.status == 200
    wait_for(running, {"completed": 2, "failed": 1, "paused": 2, "total": 2})
    slow = running.add_sandbox("slow")
    send(running, slow, "slow-20s")
    wait_for(running, {"completed": 2, "failed": 1, "paused": 2, "active": 1, "total": 3})

    assert running.key.ask("DELETE", f"projects/shop/platforms/{bad}").status == 200
    wait_for(running, {"completed": 2, "failed": 2, "paused": 1, "active": 1, "total": 2})

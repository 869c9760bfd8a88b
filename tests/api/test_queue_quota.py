"""A full queue: 429 with Retry-After on every way in, and room again when some of it is done."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.conftest import Running
from servers.api_client import Reply
from servers.patience import PATIENCE

SETTINGS = {"MSGCORE_QUEUE_QUOTA": "200"}
LONG_WAY = {"Origin": "https://app.example.com"}


@pytest.fixture(scope="module")
def platform_id(running: Running) -> str:
    return running.add_sandbox("quota")


def body(platform_id: str, *to: str) -> dict[str, Any]:
    return {
        "targets": [{"platformId": platform_id, "type": "user", "id": target} for target in to],
        "content": {"text": "hi"},
        "options": {"scheduled": "2035-01-01T00:00:00Z"},
    }


def send(running: Running, content: Any, **headers: str) -> Reply:
    return running.key.ask("POST", "projects/shop/messages/send", content, **headers)


def send_batch(running: Running, *messages: Any) -> Reply:
    return running.key.ask("POST", "projects/shop/messages/batch", list(messages))


def test_many_senders_fill_it_and_no_more(running: Running, platform_id: str) -> None:
    def one(number: int) -> Reply:
        return send(running, body(platform_id, f"{number}-a", f"{number}-b"), **({} if number % 2 else LONG_WAY))

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(one, range(150)))
    taken = [reply for reply in replies if reply.status == 201]
    refused = [reply for reply in replies if reply.status == 429]
    assert (len(taken), len(refused)) == (100, 50)
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
    assert all("MSGCORE_QUEUE_QUOTA" in reply.body["detail"] for reply in refused)
    metrics = running.key.ask("GET", "projects/shop/messages/queue/metrics").body
    assert metrics["total"] == 200

    batch = send_batch(running, body(platform_id, "x"), body(platform_id, "y"))
    assert (batch.status, "retry-after" in batch.headers) == (429, True)
    too_large = send_batch(running, *(body(platform_id, f"z-{number}") for number in range(201)))
    assert (too_large.status, "split it" in too_large.body["detail"]) == (400, True)

    cancelled = running.key.ask("POST", f"projects/shop/messages/{taken[0].body['jobId']}/cancel")
    assert cancelled.body["cancelled"] == 2
    deadline = time.monotonic() + PATIENCE
    while (reply := send_batch(running, body(platform_id, "x"), body(platform_id, "y"))).status == 429:
        assert time.monotonic() < deadline, reply
        time.sleep(0.1)
    assert reply.status == 201, reply
    assert send(running, body(platform_id, "more")).status == 429


def test_other_projects_are_not_concerned(running: Running) -> None:
    key = running.make_key("messages:write", "platforms:write", project="other")
    sandbox = {"platform": "sandbox", "name": "box", "credentials": {}}
    platform_id = key.ask("POST", "projects/other/platforms", sandbox).body["id"]
    assert key.ask("POST", "projects/other/messages/send", body(platform_id, "ann")).status == 201

"""Cancelling and rescheduling over HTTP, beside a running worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.conftest import Running
from servers.api_client import Reply
from servers.patience import PATIENCE

LATER = "2035-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def platform_id(running: Running) -> str:
    return running.add_sandbox("schedules")


def send(running: Running, platform_id: str, *to: str, **options: Any) -> str:
    targets = [{"platformId": platform_id, "type": "user", "id": target} for target in to]
    body = {"targets": targets, "content": {"text": "hi"}, "options": options}
    reply = running.key.ask("POST", "projects/shop/messages/send", body)
    assert reply.status == 201, reply
    return str(reply.body["jobId"])


def results(running: Running, job_id: str) -> list[dict[str, Any]]:
    found = running.key.ask("GET", f"projects/shop/messages/status/{job_id}")
    assert found.status == 200, found
    return found.body["delivery"]["results"]


def states(running: Running, job_id: str) -> list[str]:
    return [row["state"] for row in results(running, job_id)]


def wait_for(found: Callable[[], Any], expected: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while (last := found()) != expected:
        assert time.monotonic() < deadline, last
        time.sleep(0.02)


def cancel(running: Running, job_id: str) -> Reply:
    return running.key.ask("POST", f"projects/shop/messages/{job_id}/cancel")


def reschedule(running: Running, job_id: str, scheduled: str | None) -> Reply:
    return running.key.ask("POST", f"projects/shop/messages/{job_id}/reschedule", {"scheduled": scheduled})


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


class TestCancel:
    def test_what_waits(self, running: Running, platform_id: str) -> None:
        job_id = send(running, platform_id, "ann", "bob", scheduled=LATER)
        reply = cancel(running, job_id)
        assert reply.status == 200, reply
        assert reply.body == {
            "success": True,
            "message": "2 deliveries cancelled",
            "cancelled": 2,
            "tooLate": 0,
            "sending": 0,
        }
        assert states(running, job_id) == ["cancelled", "cancelled"]
        job = running.key.ask("GET", f"projects/shop/messages/status/{job_id}").body
        assert (job["progress"], job["delivery"]["overallStatus"]) == (100, "failed")
        assert job["failedReason"] == "Cancelled before it was sent"
        assert cancel(running, job_id).body["cancelled"] == 0
        assert running.key.ask("POST", f"projects/shop/messages/retry/{job_id}").status == 409

    def test_what_is_being_sent_or_was_sent(self, running: Running, platform_id: str) -> None:
        job_id = send(running, platform_id, "ann", "slow-1500ms")
        wait_for(lambda: states(running, job_id), ["sent", "sending"])
        reply = cancel(running, job_id).body
        assert (reply["cancelled"], reply["tooLate"], reply["sending"]) == (0, 2, 1)
        wait_for(lambda: states(running, job_id), ["sent", "sent"])

    def test_its_lane_goes_on_without_what_waits_to_be_tried_again(self, running: Running, platform_id: str) -> None:
        first = send(running, platform_id, "fail-times-999:lane")
        second = send(running, platform_id, "fail-times-999:lane")
        wait_for(lambda: states(running, first), ["retrying"])
        assert results(running, second)[0]["attempts"] == 0, "it waits for the one before it"
        wait_for(lambda: cancel(running, first).body["sending"], 0)
        assert states(running, first) == ["cancelled"]
        wait_for(lambda: results(running, second)[0]["attempts"] > 0, True)
        assert cancel(running, second).status == 200

    def test_beside_workers_each_is_cancelled_or_sent(self, running: Running, platform_id: str) -> None:
        jobs = [send(running, platform_id, *(f"slow-30ms:{lane}" for lane in range(5))) for _ in range(80)]
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda job_id: cancel(running, job_id).body, reversed(jobs)))
        for job_id, reply in zip(reversed(jobs), replies, strict=True):
            wait_for(lambda job_id=job_id: set(states(running, job_id)) <= {"sent", "cancelled"}, True)
            found = states(running, job_id)
            assert (found.count("cancelled"), found.count("sent")) == (reply["cancelled"], reply["tooLate"])
        assert sum(reply["cancelled"] for reply in replies) > 0


class TestReschedule:
    def test_from_later_to_now(self, running: Running, platform_id: str) -> None:
        job_id = send(running, platform_id, "ann", "bob", scheduled=LATER)
        reply = reschedule(running, job_id, None)
        assert reply.status == 200, reply
        assert (reply.body["rescheduled"], reply.body["tooLate"]) == (2, 0)
        wait_for(lambda: states(running, job_id), ["sent", "sent"])

    def test_from_soon_to_sooner(self, running: Running, platform_id: str) -> None:
        """The scheduler has it in memory already, with its old time."""
        job_id = send(running, platform_id, "ann", scheduled=in_seconds(1800))
        assert reschedule(running, job_id, in_seconds(0.3)).status == 200
        wait_for(lambda: states(running, job_id), ["sent"])

    def test_from_soon_to_later(self, running: Running, platform_id: str) -> None:
        job_id = send(running, platform_id, "ann", scheduled=in_seconds(0.7))
        reply = reschedule(running, job_id, LATER)
        assert reply.body["scheduled"] == "2035-01-01T00:00:00.000Z"
        marker = send(running, platform_id, "ann", scheduled=in_seconds(1.0))
        wait_for(lambda: states(running, marker), ["sent"])
        (row,) = results(running, job_id)
        assert (row["state"], row["dueAt"]) == ("scheduled", "2035-01-01T00:00:00.000Z")

    def test_the_last_word_counts(self, running: Running, platform_id: str) -> None:
        job_id = send(running, platform_id, "ann", scheduled=LATER)
        for seconds in (900, 0.8, 600, 1200, 0.4):
            assert reschedule(running, job_id, in_seconds(seconds)).status == 200
        wait_for(lambda: states(running, job_id), ["sent"])

    def test_in_the_past_is_now(self, running: Running, platform_id: str) -> None:
        job_id = send(running, platform_id, "ann", scheduled=LATER)
        assert reschedule(running, job_id, "2001-01-01T00:00:00Z").status == 200
        wait_for(lambda: states(running, job_id), ["sent"])

    def test_too_late(self, running: Running, platform_id: str) -> None:
        job_id = send(running, platform_id, "ann", "fail-permanent")
        wait_for(lambda: states(running, job_id), ["sent", "failed"])
        reply = reschedule(running, job_id, LATER)
        assert (reply.status, "tried, sent or ended" in reply.body["message"]) == (409, True)

    @pytest.mark.parametrize(
        "body", [{}, {"scheduled": 7}, {"scheduled": "soon"}, {"scheduled": "2030-01-01T00:00:00"}]
    )
    def test_what_is_no_time(self, running: Running, platform_id: str, body: dict[str, Any]) -> None:
        job_id = send(running, platform_id, "ann", scheduled=LATER)
        reply = running.key.ask("POST", f"projects/shop/messages/{job_id}/reschedule", body)
        assert (reply.status, reply.body["errors"][0]["pointer"]) == (400, "/scheduled"), reply
        assert states(running, job_id) == ["scheduled"]

    def test_not_beyond_its_expiry(self, running: Running, platform_id: str) -> None:
        job_id = send(running, platform_id, "ann", scheduled="2030-01-01T00:00:00Z", expiresAt="2031-01-01T00:00:00Z")
        reply = reschedule(running, job_id, "2032-01-01T00:00:00Z")
        assert (reply.status, reply.body["errors"][0]["pointer"]) == (400, "/scheduled")
        assert "2031-01-01" in reply.body["detail"]

    def test_beside_workers_each_is_put_off_or_sent(self, running: Running, platform_id: str) -> None:
        jobs = [send(running, platform_id, *(f"slow-30ms:{lane}" for lane in range(5))) for _ in range(60)]
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda job_id: reschedule(running, job_id, LATER), reversed(jobs)))
        for job_id, reply in zip(reversed(jobs), replies, strict=True):
            wait_for(lambda job_id=job_id: set(states(running, job_id)) <= {"sent", "scheduled"}, True)
            moved = reply.body["rescheduled"] if reply.status == 200 else 0
            assert states(running, job_id).count("scheduled") == moved
        assert any(reply.status == 200 for reply in replies)


def test_what_waits_past_its_time_expires_without_an_attempt(running: Running) -> None:
    platform_id = running.add_sandbox("waits")
    assert running.key.ask("POST", f"projects/shop/platforms/{platform_id}/pause").status == 200
    job_id = send(running, platform_id, "ann", "bob", expiresAt=in_seconds(1.0))
    kept = send(running, platform_id, "ann", expiresAt=LATER)
    wait_for(lambda: states(running, job_id), ["expired", "expired"])
    assert [(row["attempts"], row["errorCode"]) for row in results(running, job_id)] == [(0, "expired")] * 2
    assert states(running, kept) == ["queued"]
    assert running.key.ask("POST", f"projects/shop/platforms/{platform_id}/resume").status == 200
    wait_for(lambda: states(running, kept), ["sent"])
    assert states(running, job_id) == ["expired", "expired"]


def test_the_idempotent_answer_outlives_the_expiry(running: Running, platform_id: str) -> None:
    target = {"platformId": platform_id, "type": "user", "id": "ann"}
    body = {"targets": [target], "content": {"text": "hi"}, "options": {"expiresAt": in_seconds(1.0)}}
    first = running.key.ask("POST", "projects/shop/messages/send", body, Idempotency_Key="short")
    assert first.status == 201, first
    deadline = time.monotonic() + PATIENCE
    while (refused := running.key.ask("POST", "projects/shop/messages/send", body)).status == 201:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert refused.status == 400
    again = running.key.ask("POST", "projects/shop/messages/send", body, Idempotency_Key="short")
    assert (again.status, again.body["jobId"], again.body["replayed"]) == (201, first.body["jobId"], True)


def test_many_senders_with_one_key_are_one_message(running: Running, platform_id: str) -> None:
    target = {"platformId": platform_id, "type": "user", "id": "ann"}
    body = {"targets": [target], "content": {"text": "once"}}
    with ThreadPoolExecutor(16) as pool:
        replies = list(
            pool.map(
                lambda _: running.key.ask("POST", "projects/shop/messages/send", body, Idempotency_Key="same"),
                range(64),
            )
        )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body["jobId"] for reply in replies}) == 1
    assert sorted(reply.body["replayed"] for reply in replies) == [False] + [True] * 63


def test_jobs_that_are_none(running: Running, platform_id: str) -> None:
    job_id = send(running, platform_id, "ann", scheduled=LATER)
    other = running.make_key("messages:read", "messages:write", project="other")
    for client, project, unknown in (
        (running.key, "shop", "123"),
        (running.key, "shop", "0190a000-0000-7000-8000-000000000009"),
        (other, "other", job_id),
    ):
        path = f"projects/{project}/messages/{unknown}"
        for reply in (
            client.ask("POST", f"{path}/cancel"),
            client.ask("POST", f"{path}/reschedule", {"scheduled": None}),
        ):
            assert (reply.status, "jobId" in reply.body["message"]) == (404, True), reply
    reader = running.make_key("messages:read")
    assert reader.ask("POST", f"projects/shop/messages/{job_id}/cancel").status == 403
    assert reader.ask("POST", f"projects/shop/messages/{job_id}/reschedule", {"scheduled": None}).status == 403
    assert states(running, job_id) == ["scheduled"]

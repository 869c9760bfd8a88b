"""`options.fallback` over HTTP, beside a running worker, with recipients of the sandbox that refuse or take their time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.conftest import Running
from servers.api_client import Reply
from servers.patience import PATIENCE

LATER = "2035-01-01T00:00:00Z"
MESSAGES = "projects/shop/messages"


@pytest.fixture(scope="module")
def platform_id(running: Running) -> str:
    return running.add_sandbox("fallbacks")


@pytest.fixture(scope="module", autouse=True)
def late(running: Running) -> str:
    """A message that is late when the other tests have run: ten seconds are the least that may be asked for."""
    return sent(running, body(running.add_sandbox("late"), "throttle-500s", "ann", after=10))


def body(platform_id: str, *to: str, after: int | None = None, **options: Any) -> dict[str, Any]:
    """A message to the first of these, and then to the others."""
    first, *others = ({"platformId": platform_id, "type": "user", "id": target} for target in to)
    fallback: dict[str, Any] = {"targets": others} | ({} if after is None else {"afterSeconds": after})
    return {"targets": [first], "content": {"text": "hi"}, "options": {"fallback": fallback, **options}}


def send(running: Running, message: dict[str, Any], **headers: str) -> Reply:
    return running.key.ask("POST", f"{MESSAGES}/send", message, **headers)


def sent(running: Running, message: dict[str, Any]) -> str:
    reply = send(running, message)
    assert reply.status == 201, reply
    return str(reply.body["jobId"])


def job(running: Running, job_id: str) -> dict[str, Any]:
    found = running.key.ask("GET", f"{MESSAGES}/status/{job_id}")
    assert found.status == 200, found
    return found.body


def states(running: Running, job_id: str) -> list[str]:
    return [row["state"] for row in job(running, job_id)["delivery"]["results"]]


def timeline(running: Running, delivery_id: str) -> list[str]:
    """What happened to a delivery, as long as it is a dead letter."""
    found = running.key.ask("GET", f"projects/shop/dead-letters/{delivery_id}")
    return [entry["outcome"] for entry in found.body["timeline"]] if found.status == 200 else []


def wait_for(found: Callable[[], Any], expected: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while (last := found()) != expected:
        assert time.monotonic() < deadline, last
        time.sleep(0.02)


def received(running: Running, platform_id: str) -> list[str]:
    """To whom the sandbox delivered."""
    found = running.key.ask("GET", f"{MESSAGES}/sent?status=sent&limit=100")
    rows = [row for row in found.body["messages"] if row["platformId"] == platform_id]
    return [row["targetChatId"] for row in reversed(rows)]


def test_the_fallback_goes_out_when_the_target_refuses(running: Running) -> None:
    platform_id = running.add_sandbox("refusing")
    job_id = sent(running, body(platform_id, "fail-permanent", "fail-permanent:2", "ann", "bob"))
    wait_for(lambda: states(running, job_id), ["failed", "failed", "sent", "cancelled"])
    found = job(running, job_id)
    assert (found["status"], found["state"], found["progress"]) == ("completed", "completed", 100)
    assert found["failedReason"] is None
    assert [target["id"] for target in found["data"]["message"]["targets"]] == ["fail-permanent"]
    assert len(found["data"]["message"]["options"]["fallback"]["targets"]) == 3
    report = found["delivery"]
    assert report["overallStatus"] == "completed"
    assert report["summary"] == {"totalTargets": 3, "successful": 1, "failed": 2, "pending": 0}
    assert [row["fallbackRank"] for row in report["results"]] == [0, 1, 2, 3]
    assert [row["errorCode"] for row in report["results"]] == [
        *["sandbox_refused"] * 2,
        None,
        "fallback_not_needed",
    ]
    assert [error["target"] for error in report["errors"]] == ["user:fail-permanent", "user:fail-permanent:2"]
    assert received(running, platform_id) == ["ann"]
    retry = running.key.ask("POST", f"{MESSAGES}/retry/{job_id}")
    assert (retry.status, "sent to one of its targets" in retry.body["message"]) == (409, True)
    dead = running.key.ask("GET", f"projects/shop/dead-letters?jobId={job_id}")
    assert len(dead.body["deadLetters"]) == 2


def test_the_fallback_does_not_go_out_when_the_target_is_reached(running: Running) -> None:
    platform_id = running.add_sandbox("reached")
    job_id = sent(running, body(platform_id, "slow-300ms", "ann", after=10))
    found = job(running, job_id)
    assert (found["status"] in {"queued", "active"}, found["progress"]) == (True, 0)
    assert found["delivery"]["overallStatus"] == "pending"
    assert found["delivery"]["results"][1]["state"] == "standby"
    assert found["delivery"]["results"][1]["status"] == "pending"
    wait_for(lambda: states(running, job_id), ["sent", "cancelled"])
    found = job(running, job_id)
    assert (found["status"], found["progress"]) == ("completed", 100)
    assert found["delivery"]["summary"] == {"totalTargets": 1, "successful": 1, "failed": 0, "pending": 0}
    assert found["delivery"]["errors"] == []
    plain = {"targets": [{"platformId": platform_id, "type": "user", "id": "eve"}], "content": {"text": "later"}}
    after = sent(running, plain)
    wait_for(lambda: states(running, after), ["sent"])
    assert job(running, after)["delivery"]["results"][0]["fallbackRank"] is None
    assert received(running, platform_id) == ["slow-300ms", "eve"]


def test_a_message_whose_targets_all_fail_can_be_retried(running: Running, platform_id: str) -> None:
    job_id = sent(running, body(platform_id, "fail-permanent:a", "fail-permanent:b"))
    wait_for(lambda: states(running, job_id), ["failed", "failed"])
    found = job(running, job_id)
    assert (found["status"], found["delivery"]["overallStatus"]) == ("failed", "failed")
    retry = running.key.ask("POST", f"{MESSAGES}/retry/{job_id}")
    assert (retry.status, retry.body["requeued"]) == (201, 2), retry
    ids, again = [row["id"] for row in found["delivery"]["results"]], ["activated", "failed"]
    wait_for(lambda: [timeline(running, id_) for id_ in ids], [["failed", *again], [*again, *again]])


def test_cancelling_takes_back_the_fallbacks_too(running: Running, platform_id: str) -> None:
    job_id = sent(running, body(platform_id, "ann", "bob", "eve", scheduled=LATER))
    assert job(running, job_id)["status"] == "delayed"
    reply = running.key.ask("POST", f"{MESSAGES}/{job_id}/cancel")
    assert (reply.body["cancelled"], reply.body["tooLate"]) == (3, 0)
    assert states(running, job_id) == ["cancelled"] * 3
    found = job(running, job_id)
    assert (found["status"], found["progress"]) == ("failed", 100)
    again = sent(running, body(platform_id, "slow-1500ms:x", "bob"))
    wait_for(lambda: states(running, again), ["sending", "standby"])
    reply = running.key.ask("POST", f"{MESSAGES}/{again}/cancel")
    assert (reply.body["cancelled"], reply.body["sending"]) == (1, 1)
    wait_for(lambda: states(running, again), ["sent", "cancelled"])


def test_rescheduling_goes_for_the_target_alone(running: Running, platform_id: str) -> None:
    job_id = sent(running, body(platform_id, "ann", "bob", after=10, scheduled=LATER))
    reply = running.key.ask("POST", f"{MESSAGES}/{job_id}/reschedule", {"scheduled": None})
    assert (reply.body["rescheduled"], reply.body["tooLate"]) == (1, 0)
    wait_for(lambda: states(running, job_id), ["sent", "cancelled"])


def test_what_expires_expires_with_its_fallbacks(running: Running) -> None:
    platform_id = running.add_sandbox("expiring")
    assert running.key.ask("POST", f"projects/shop/platforms/{platform_id}/pause").status == 200
    until = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    job_id = sent(running, body(platform_id, "ann", "bob", expiresAt=until))
    wait_for(lambda: states(running, job_id), ["expired", "expired"])


def test_batches_count_fallbacks_that_are_not_needed_as_done(running: Running, platform_id: str) -> None:
    plain = {"targets": [{"platformId": platform_id, "type": "user", "id": "eve"}], "content": {"text": "hi"}}
    messages = [body(platform_id, "fail-permanent:c", "joe"), body(platform_id, "ann", "bob", "joe"), plain]
    reply = running.key.ask("POST", f"{MESSAGES}/batch", messages, Idempotency_Key="fallbacks")
    assert (reply.status, reply.body["deliveries"]) == (201, 6), reply
    path = f"{MESSAGES}/batches/{reply.body['batchId']}"
    wait_for(lambda: running.key.ask("GET", path).body["status"], "completed")
    progress = running.key.ask("GET", path).body
    assert (progress["progress"], progress["open"], progress["deliveries"]) == (100, 0, 6)
    counts = {state: number for state, number in progress["counts"].items() if number}
    assert counts == {"sent": 3, "failed": 1, "cancelled": 2}
    listed = running.key.ask("GET", f"{path}/messages").body["messages"]
    sums = [(one["summary"]["totalTargets"], one["summary"]["successful"], one["summary"]["failed"]) for one in listed]
    assert sums == [(2, 1, 1), (1, 1, 0), (1, 1, 0)]
    again = running.key.ask("POST", f"{MESSAGES}/batch", messages, Idempotency_Key="fallbacks")
    assert (again.body["batchId"], again.body["deliveries"], again.body["replayed"]) == (reply.body["batchId"], 6, True)


def test_a_request_that_comes_twice_is_one_message(running: Running, platform_id: str) -> None:
    message = body(platform_id, "fail-permanent:d", "ann")
    first, second = (send(running, message, Idempotency_Key="chain") for _ in range(2))
    assert (first.body["jobId"], second.body["replayed"]) == (second.body["jobId"], True)
    other = send(running, body(platform_id, "fail-permanent:d", "bob"), Idempotency_Key="chain")
    assert other.status == 422


def test_a_chat_shows_what_was_sent_there_only(running: Running) -> None:
    platform_id = running.add_sandbox("chatty")
    job_id = sent(running, body(platform_id, "reply:ann", "reply:bob"))
    wait_for(lambda: states(running, job_id), ["sent", "cancelled"])
    other = sent(running, body(platform_id, "reply:bob", "reply:ann"))
    wait_for(lambda: states(running, other), ["sent", "cancelled"])
    wait_for(lambda: len(running.key.ask("GET", f"projects/shop/chats?platformId={platform_id}").body["chats"]), 2)
    for chat in running.key.ask("GET", f"projects/shop/chats?platformId={platform_id}").body["chats"]:
        history = running.key.ask("GET", f"projects/shop/chats/{chat['id']}/messages").body["messages"]
        assert sorted(entry["direction"] for entry in history) == ["received", "sent"], history


def edited(change: Callable[[dict[str, Any], str], None]) -> Callable[[str], dict[str, Any]]:
    def make(platform_id: str) -> dict[str, Any]:
        message = body(platform_id, "ann", "bob", "joe")
        change(message, platform_id)
        return message

    return make


def fallback_of(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = message["options"]["fallback"]
    return found


LIST = "/options/fallback/targets"
WRONG: dict[str, tuple[Callable[[dict[str, Any], str], Any], str]] = {
    "no targets": (lambda m, _: fallback_of(m).update(targets=[]), LIST),
    "six targets": (lambda m, _: fallback_of(m).update(targets=fallback_of(m)["targets"] * 3), LIST),
    "no list": (lambda m, _: fallback_of(m).pop("targets"), LIST),
    "the target again": (lambda m, _: fallback_of(m)["targets"][1].update(id="ann"), f"{LIST}/1"),
    "one twice": (lambda m, _: fallback_of(m)["targets"][1].update(id="bob"), f"{LIST}/1"),
    "an unknown platform": (
        lambda m, _: fallback_of(m)["targets"][0].update(platformId="0190a000-0000-7000-8000-000000000009"),
        f"{LIST}/0/platformId",
    ),
    "a recipient that cannot be": (lambda m, _: fallback_of(m)["targets"][1].update(id="x" * 300), f"{LIST}/1/id"),
    "several primaries": (
        lambda m, p: m["targets"].append({"platformId": p, "type": "user", "id": "eve"}),
        "/options/fallback",
    ),
    "too soon": (lambda m, _: fallback_of(m).update(afterSeconds=9), "/options/fallback/afterSeconds"),
    "too late": (lambda m, _: fallback_of(m).update(afterSeconds=86_401), "/options/fallback/afterSeconds"),
    "half a second": (lambda m, _: fallback_of(m).update(afterSeconds=10.5), "/options/fallback/afterSeconds"),
    "a fallback of a fallback": (
        lambda m, _: fallback_of(m).update(fallback={"targets": []}),
        "/options/fallback/fallback",
    ),
    "a fallback of a target": (
        lambda m, _: fallback_of(m)["targets"][0].update(fallback={"targets": []}),
        f"{LIST}/0/fallback",
    ),
}


@pytest.mark.parametrize(("change", "pointer"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(
    running: Running, platform_id: str, change: Callable[[dict[str, Any], str], Any], pointer: str
) -> None:
    message = edited(change)(platform_id)
    reply = send(running, message)
    assert (reply.status, [error["pointer"] for error in reply.body["errors"]]) == (400, [pointer]), reply
    batch = running.key.ask("POST", f"{MESSAGES}/batch", [message])
    assert (batch.status, batch.body["errors"][0]["pointer"]) == (400, f"/messages/0{pointer}"), batch


def test_the_fallback_goes_out_after_its_seconds(running: Running, late: str) -> None:
    wait_for(lambda: states(running, late), ["cancelled", "sent"])
    (first, _) = job(running, late)["delivery"]["results"]
    assert (first["errorCode"], first["attempts"], first["errorMessage"]) == (
        "fallback_timeout",
        0,
        "Not sent within 10 seconds: the next target took over",
    )

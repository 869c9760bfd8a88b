"""Metrics of a running gateway: what moves them, what they must not show, and who may read them."""

from __future__ import annotations

import http.client
import time
import urllib.error
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.conftest import PASSWORD, Running
from msgcore.observability.catalogue import CATALOGUE
from servers.metrics import Exposition, scrape
from servers.patience import PATIENCE

TOKEN = "metrics-token-of-this-test"
SETTINGS = {"MSGCORE_METRICS_TOKEN": TOKEN}
SEND = "/api/v1/projects/{project}/messages/send"


def look(running: Running) -> Exposition:
    return scrape(running.gateway.url, TOKEN)


def send(running: Running, platform_id: str, *to: str, **headers: str) -> str:
    targets = [{"platformId": platform_id, "type": "user", "id": target} for target in to]
    reply = running.key.ask(
        "POST", "projects/shop/messages/send", {"targets": targets, "content": {"text": "hi"}}, **headers
    )
    assert reply.status == 201, reply
    return str(reply.body["jobId"])


def attempts(exposition: Exposition) -> dict[str, float]:
    outcomes = ("sent", "retry", "throttled", "failed", "authentication", "expired")
    return {
        outcome: exposition.value("msgcore_attempts_total", platform="sandbox", outcome=outcome) for outcome in outcomes
    }


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def test_counters_move_by_exactly_what_happened(running: Running) -> None:
    box, wrong = running.add_sandbox("counted"), running.add_sandbox("wrong")
    before = look(running)
    send(running, box, "ann", "bob", "fail-permanent", "fail-times-1", "throttle-50ms")
    send(running, wrong, "auth-failure")
    expected = {"sent": 4, "failed": 1, "retry": 1, "throttled": 1, "authentication": 1}
    deadline = time.monotonic() + PATIENCE
    while difference(attempts(before), attempts(after := look(running))) != expected:
        assert time.monotonic() < deadline, difference(attempts(before), attempts(after))
        time.sleep(0.05)

    def grown(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert grown("msgcore_deliveries_accepted_total", platform="sandbox") == 6
    assert grown("msgcore_deliveries_accepted_total") == 6
    assert grown("msgcore_delivery_seconds_count", platform="sandbox") == 4
    assert grown("msgcore_send_seconds_count", platform="sandbox") == 8
    assert grown("msgcore_http_requests_total", method="POST", route=SEND, status="2xx") == 2
    assert grown("msgcore_http_request_seconds_count", method="POST", route=SEND) == 2


def test_gauges_are_those_of_the_ledger(running: Running) -> None:
    box = running.add_sandbox("gauged")
    send(running, box, "slow-20s:gauged")
    send(running, box, "slow-20s:gauged")  # waits behind the first, in its lane
    deadline = time.monotonic() + PATIENCE
    while not (waited := look(running)).value("msgcore_oldest_waiting_seconds"):
        assert time.monotonic() < deadline, waited.text
        time.sleep(0.1)
    assert waited.value("msgcore_deliveries", platform="sandbox", state="sending") == 1
    assert waited.value("msgcore_deliveries", platform="sandbox", state="queued") >= 1
    assert waited.value("msgcore_scheduler_lag_seconds") == waited.value("msgcore_oldest_waiting_seconds")
    assert waited.value("msgcore_accounts", platform="sandbox", state="active") >= 1
    assert waited.value("msgcore_database_up") == 1
    assert waited.value("msgcore_dispatching") == waited.value("msgcore_leading") == 1
    assert waited.value("msgcore_database_connections") >= 1
    assert waited.value("process_resident_memory_bytes") > 10_000_000
    running.key.ask("DELETE", f"projects/shop/platforms/{box}")


def test_both_ways_of_sending_are_counted_as_one_route(running: Running) -> None:
    box = running.add_sandbox("both")

    def answered() -> list[float]:
        seen = look(running)
        return [
            seen.value("msgcore_http_requests_total", method="POST", route=SEND, status=status)
            for status in ("2xx", "4xx")
        ]

    good, bad = answered()
    send(running, box, "ann")
    send(running, box, "ann", Origin="https://app.example.com")
    assert running.key.ask("POST", "projects/shop/messages/send", {}).status == 400
    deadline = time.monotonic() + PATIENCE
    while answered() != [good + 2, bad + 1]:  # a request is counted after its answer
        assert time.monotonic() < deadline, (good, bad, answered())
        time.sleep(0.02)


def test_every_metric_is_in_the_catalogue_with_its_labels(running: Running) -> None:
    send(running, running.add_sandbox("all"), "ann")
    known = {metric.name: metric for metric in CATALOGUE}
    found = {name: family for name, family in look(running).families.items() if not name.startswith("process_")}
    absent = {"msgcore_redis_up"}  # there is none
    assert found.keys() | absent == known.keys() | absent
    assert {name: family.type for name, family in found.items()} == {name: known[name].kind for name in found}
    for name, family in found.items():
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(known[name].labels), sample


def test_labels_stay_bounded_whatever_is_asked(running: Running) -> None:
    running.nobody.ask("GET", "nowhere/0")
    running.key.ask("GET", "projects/nowhere/messages/status/0")
    ask_oddly(running, "BREW", "/api/v1/health")
    before = look(running).series()
    for number in range(20):
        running.nobody.ask("GET", f"nowhere/{number}")
        running.key.ask("GET", f"projects/p{number}/messages/status/{number}")
        ask_oddly(running, f"BREW{number}", f"/teapot/{number}")
    assert look(running).series() - before <= {
        entry for entry in look(running).series() if ("route", "/metrics") in entry[1]
    }


def ask_oddly(running: Running, method: str, path: str) -> None:
    """A request with a method that HTTP does not know."""
    connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
    connection.request(method, path)
    assert connection.getresponse().status >= 400
    connection.close()


def test_no_tenant_and_no_secret_is_shown(running: Running) -> None:
    box = running.add_sandbox("named-account")
    job = send(running, box, "planted-recipient")
    login = running.nobody.ask("POST", "auth/login", {"email": "ann@example.com", "password": PASSWORD})
    running.key.ask("GET", f"projects/shop/messages/status/{job}")
    text = look(running).text
    planted = [box, job, "shop", "named-account", "planted-recipient", "ann@example.com", PASSWORD, TOKEN]
    planted += [running.key.headers["X-API-Key"], login.body["accessToken"]]
    for secret in planted:
        assert secret not in text, secret


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "\u00e9" * 20])
def test_who_has_no_token_is_refused(running: Running, token: str | None) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        scrape(running.gateway.url, token)
    assert refused.value.code == 401
    refused.value.close()


def test_keys_and_users_are_not_enough(running: Running) -> None:
    for caller in (running.key, running.admin):
        reply = caller.ask("GET", "/metrics")
        assert (reply.status, "MSGCORE_METRICS_TOKEN" in reply.body["message"]) == (401, True)


def health(running: Running, path: str = "health") -> tuple[int, dict[str, Any]]:
    reply = running.nobody.ask("GET", path)
    return reply.status, reply.body


def test_health_shows_counts(running: Running) -> None:
    box = running.add_sandbox("counted in health")
    status, before = health(running)
    assert (status, before["status"], before["database"], before["redis"]) == (200, "healthy", "reachable", "unused")
    assert (before["dispatch"]["state"], before["dispatch"]["leader"]) == ("running", True)
    assert before["dispatch"]["lagSeconds"] >= 0
    running.key.ask("PATCH", f"projects/shop/platforms/{box}", {"isActive": False})
    deadline = time.monotonic() + PATIENCE
    while not (shown := next((one for one in health(running)[1]["platforms"] if one["off"]), None)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert shown.keys() == {"platform", "active", "paused", "off", "breakerOpen", "breakerHalfOpen"}
    assert (shown["platform"], shown["off"], shown["breakerOpen"]) == ("sandbox", 1, 0)


def test_probes(running: Running) -> None:
    assert health(running, "health/live") == (200, {"status": "alive"})
    assert health(running, "health/ready") == (200, {"status": "ready"})


def test_receiving_is_counted_by_what_came_of_it(running: Running) -> None:
    box = running.add_sandbox("received")
    path = urlsplit(running.key.ask("GET", f"projects/shop/platforms/{box}").body["webhookUrl"]).path
    before = look(running)
    message = {"chat": {"id": "room"}, "content": {"kind": "message", "id": "m", "text": "hi"}, "eventId": "e1"}
    typing = {"chat": {"id": "room"}, "content": {"kind": "typing"}, "eventId": "e2"}
    bodies: list[Any] = [message, {**message, "x": 1}, typing, {"no": "report"}]
    assert [running.nobody.ask("POST", path, body).status for body in bodies] == [200, 200, 200, 400]
    large = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
    large.putrequest("POST", path)
    large.putheader("Content-Length", str(50 * 1024 * 1024))
    large.endheaders()
    large.send(b"x" * 1024)
    assert large.getresponse().status == 413
    large.close()

    def grown(name: str, **labels: str) -> dict[str, float]:
        word = "result" if name.endswith("requests_total") else "kind"
        words = (
            ("taken", "unreadable", "too_large", "forged") if word == "result" else ("message", "typing", "duplicate")
        )
        found = {
            each: after.value(name, **labels, **{word: each}) - before.value(name, **labels, **{word: each})
            for each in words
        }
        return {each: number for each, number in found.items() if number}

    deadline = time.monotonic() + PATIENCE
    after = look(running)
    while sum(grown("msgcore_inbound_envelopes_total", platform="sandbox").values()) < 3:
        assert time.monotonic() < deadline, after.text
        time.sleep(0.05)
        after = look(running)
    assert grown("msgcore_inbound_requests_total", platform="sandbox") == {"taken": 3, "unreadable": 1, "too_large": 1}
    assert grown("msgcore_inbound_envelopes_total", platform="sandbox") == {"message": 1, "typing": 1, "duplicate": 1}
    assert (
        after.value("msgcore_events_total", about="received") - before.value("msgcore_events_total", about="received")
        == 2
    )


@pytest.mark.parametrize("kind", ["sse", "poll"])
def test_who_follows_events_is_counted(running: Running, kind: str) -> None:
    headers = {"Accept": "text/event-stream"} if kind == "sse" else {}
    connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
    path = "/api/v1/projects/shop/events?types=member.left&wait=30"
    connection.request("GET", path, headers=running.key.headers | headers)
    deadline = time.monotonic() + PATIENCE
    while look(running).value("msgcore_event_streams", kind=kind) != 1:
        assert time.monotonic() < deadline, look(running).text
        time.sleep(0.2)
    connection.close()

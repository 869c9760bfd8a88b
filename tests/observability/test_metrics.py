"""The registry of a process: what it shows, and that its documentation is complete."""

from __future__ import annotations

from pathlib import Path

from msgcore.observability.catalogue import CATALOGUE, metrics_markdown
from msgcore.observability.metrics import OUTCOMES, Metrics
from msgcore.observability.snapshot import Snapshot
from servers.metrics import Exposition

AWAY = Snapshot(database_reachable=False)
FULL = Snapshot(
    database_reachable=True,
    redis_reachable=True,
    dispatching="running",
    leading=True,
    deliveries={("email", "queued"): 3, ("sandbox", "sent"): 5},
    accounts={("email", "active"): 2},
    breakers={("email", "open"): 1},
    connections={"in_use": 1, "idle": 2},
    oldest_waiting=7.5,
    lag=2.5,
    inbound_lag=1.5,
    spool_bytes=9,
    streams={"sse": 2, "poll": 1},
)


def shown(metrics: Metrics, snapshot: Snapshot = AWAY) -> Exposition:
    return Exposition(metrics.exposition(snapshot).decode())


def test_the_documentation_has_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert metrics_markdown() in page, f"paste into docs/monitoring.md:\n{metrics_markdown()}"


def test_a_registry_shows_exactly_the_catalogue() -> None:
    metrics = Metrics(["email"])
    metrics.route("GET", "/x").answered(200, 0.1)
    metrics.received("email", "taken")
    metrics.read("email", {"message": 1})
    metrics.told("sent", 1)
    metrics.refused("webhook")
    families = {name: family for name, family in shown(metrics, FULL).families.items() if name.startswith("msgcore_")}
    assert {name: family.type for name, family in families.items()} == {one.name: one.kind for one in CATALOGUE}
    for metric in CATALOGUE:
        for sample in families[metric.name].samples:
            assert sample.labels.keys() - {"le"} == set(metric.labels), sample


def test_gauges_follow_the_snapshot_and_go_with_it() -> None:
    metrics = Metrics()
    seen = shown(metrics, FULL)
    assert seen.value("msgcore_deliveries", platform="email", state="queued") == 3
    assert seen.value("msgcore_deliveries") == 8
    assert seen.value("msgcore_breakers", platform="email", state="open") == 1
    assert (seen.value("msgcore_oldest_waiting_seconds"), seen.value("msgcore_scheduler_lag_seconds")) == (7.5, 2.5)
    assert (seen.value("msgcore_inbound_lag_seconds"), seen.value("msgcore_inbound_spool_bytes")) == (1.5, 9)
    assert seen.value("msgcore_event_streams") == 3
    assert (seen.value("msgcore_database_up"), seen.value("msgcore_redis_up")) == (1, 1)
    assert (seen.value("msgcore_dispatching"), seen.value("msgcore_leading")) == (1, 1)
    away = shown(metrics, AWAY)
    assert away.value("msgcore_database_up") == 0
    assert not {"msgcore_deliveries", "msgcore_scheduler_lag_seconds", "msgcore_redis_up"} & away.families.keys() - {
        name for name, family in away.families.items() if not family.samples
    }


def test_platforms_start_at_zero_so_that_a_first_failure_is_an_increase() -> None:
    seen = shown(Metrics(["email", "sandbox"]))
    for outcome in OUTCOMES:
        for platform in ("email", "sandbox"):
            labels = tuple(sorted({"platform": platform, "outcome": outcome}.items()))
            assert ("msgcore_attempts_total", labels) in seen.series()


def test_two_registries_share_nothing() -> None:
    one, other = Metrics(["email"]), Metrics(["email"])
    one.platform("email").ended("sent", 3)
    one.platform("email").ended("an outcome of later")
    one.reconciled(4)
    assert shown(one).value("msgcore_attempts_total", outcome="sent") == 3
    assert shown(one).value("msgcore_attempts_total", outcome="an outcome of later") == 1
    assert shown(one).value("msgcore_reconciled_total") == 4
    assert shown(other).value("msgcore_attempts_total") == shown(other).value("msgcore_reconciled_total") == 0


def test_statuses_are_counted_by_class() -> None:
    metrics = Metrics()
    for status in (200, 201, 404, 503):
        metrics.route("GET", "/x").answered(status, 0.004)
    seen = shown(metrics)
    found = {klass: seen.value("msgcore_http_requests_total", status=klass) for klass in ("2xx", "4xx", "5xx")}
    assert found == {"2xx": 2, "4xx": 1, "5xx": 1}
    assert seen.value("msgcore_http_request_seconds_bucket", le="0.0025") == 0
    assert seen.value("msgcore_http_request_seconds_bucket", le="0.005") == 4


def test_moments_of_creation_are_left_out() -> None:
    assert "_created" not in shown(Metrics(["email"])).text

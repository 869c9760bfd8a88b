"""What a process counts and measures, as Prometheus reads it (prometheus.io/docs/instrumenting/exposition_formats).

Each `Metrics` has a registry of its own: nothing is shared between two gateways in one interpreter.
What is counted on the hot paths goes through children that were looked up before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from msgcore import __version__
from msgcore.observability import catalogue
from msgcore.observability.catalogue import Metric
from msgcore.observability.snapshot import Snapshot

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
OUTCOMES: Final = ("sent", "part", "retry", "throttled", "failed", "expired", "authentication", "released")
"""The words of the timeline that a platform has from the start."""


class PlatformMeter:
    """What is counted for one platform."""

    def __init__(self, metrics: Metrics, platform: str) -> None:
        self.accepted = metrics.accepted.labels(platform)
        self._attempts = metrics.attempts
        self._platform = platform
        self._outcomes = {outcome: metrics.attempts.labels(platform, outcome) for outcome in OUTCOMES}
        self.delivery_seconds = metrics.delivery_seconds.labels(platform)
        self.send_seconds = metrics.send_seconds.labels(platform)
        self.leases_lost = metrics.leases_lost.labels(platform)
        self.breakers_opened = metrics.breakers_opened.labels(platform)

    def ended(self, outcome: str, number: int = 1) -> None:
        """Count attempts by the timeline's word for what came of them."""
        counter = self._outcomes.get(outcome)
        if counter is None:
            counter = self._outcomes[outcome] = self._attempts.labels(self._platform, outcome)
        counter.inc(number)


class RouteMeter:
    """What is counted for one method of one route."""

    def __init__(self, metrics: Metrics, method: str, route: str) -> None:
        self.seconds = metrics.http_seconds.labels(method, route)
        self._counts: dict[int, Counter] = {}
        self._metrics = metrics
        self._about = (method, route)

    def answered(self, status: int, seconds: float) -> None:
        """Count one answer."""
        klass = status // 100
        counter = self._counts.get(klass)
        if counter is None:
            counter = self._counts[klass] = self._metrics.http_requests.labels(*self._about, f"{klass}xx")
        counter.inc()
        self.seconds.observe(seconds)


class Metrics:
    """All metrics of a process."""

    def __init__(self, platforms: Iterable[str] = ()) -> None:
        """`platforms` are shown from the start, with zeros, so that the first failure is already an increase."""
        self._registry = CollectorRegistry(auto_describe=False)
        self.accepted = self._counter(catalogue.ACCEPTED)
        self.attempts = self._counter(catalogue.ATTEMPTS)
        self.leases_lost = self._counter(catalogue.LEASES_LOST)
        self.breakers_opened = self._counter(catalogue.BREAKERS_OPENED)
        self.wishes = self._counter(catalogue.WISHES)
        self._reconciled = self._counter(catalogue.RECONCILED)
        self._inbound_requests = self._counter(catalogue.INBOUND_REQUESTS)
        self._envelopes = self._counter(catalogue.ENVELOPES)
        self._events = self._counter(catalogue.EVENTS)
        self.http_requests = self._counter(catalogue.HTTP_REQUESTS)
        self._rate_limited = self._counter(catalogue.RATE_LIMITED)
        self.http_seconds = self._histogram(catalogue.HTTP_SECONDS)
        self.delivery_seconds = self._histogram(catalogue.DELIVERY_SECONDS)
        self.send_seconds = self._histogram(catalogue.SEND_SECONDS)
        build = catalogue.BUILD
        Gauge(build.name, build.meaning, build.labels, registry=self._registry).labels(__version__).set(1)
        self._gauges = _SnapshotCollector()
        self._registry.register(self._gauges)
        ProcessCollector(registry=self._registry)
        self._platforms: dict[str, PlatformMeter] = {}
        self._routes: dict[tuple[str, str], RouteMeter] = {}
        for platform in platforms:
            self.platform(platform)

    def platform(self, name: str) -> PlatformMeter:
        """The counters of a platform."""
        meter = self._platforms.get(name)
        if meter is None:
            meter = self._platforms[name] = PlatformMeter(self, name)
        return meter

    def route(self, method: str, template: str) -> RouteMeter:
        """The counters of a route; `template` must be one of the application's, never a path that was asked for."""
        meter = self._routes.get((method, template))
        if meter is None:
            meter = self._routes[method, template] = RouteMeter(self, method, template)
        return meter

    def received(self, platform: str, result: str) -> None:
        """A request of a platform came; `platform` must be one that there is."""
        self._inbound_requests.labels(platform, result).inc()

    def read(self, platform: str, kinds: Mapping[str, int]) -> None:
        """So many things of each kind were read out of a platform's requests."""
        for kind, number in kinds.items():
            self._envelopes.labels(platform, kind).inc(number)

    def told(self, about: str, number: int) -> None:
        """So many events were appended."""
        self._events.labels(about).inc(number)

    def refused(self, limit: str) -> None:
        """A request was one too many for this limit."""
        self._rate_limited.labels(limit).inc()

    def reconciled(self, number: int) -> None:
        """The scheduler did not know so many deliveries that the ledger held."""
        self._reconciled.inc(number)

    def exposition(self, snapshot: Snapshot) -> bytes:
        """Everything as text (`CONTENT_TYPE`), with the gauges of this snapshot."""
        self._gauges.snapshot = snapshot
        return generate_latest(_WithoutCreated(self._registry))

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.meaning, metric.labels, registry=self._registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.meaning, metric.labels, registry=self._registry, buckets=metric.buckets)


class _SnapshotCollector(Collector):
    """Gauges that are looked up when they are asked for, and gone when they cannot be."""

    snapshot = Snapshot(database_reachable=False)

    def describe(self) -> Iterable[Family]:
        """Nothing yet: the names are free of collisions, as a test checks."""
        return ()

    def collect(self) -> Iterator[Family]:
        """One family for each gauge that is known."""
        seen = self.snapshot
        yield _gauge(catalogue.DATABASE_UP, [((), seen.database_reachable)])
        yield _gauge(catalogue.DISPATCHING, [((), seen.dispatching == "running")])
        yield _gauge(catalogue.LEADING, [((), seen.leading)])
        yield _gauge(catalogue.CONNECTIONS, [((state,), number) for state, number in seen.connections.items()])
        yield _gauge(catalogue.BREAKERS, list(seen.breakers.items()))
        yield _gauge(catalogue.SPOOL_BYTES, [((), seen.spool_bytes)])
        yield _gauge(catalogue.STREAMS, [((kind,), number) for kind, number in seen.streams.items()])
        if seen.redis_reachable is not None:
            yield _gauge(catalogue.REDIS_UP, [((), seen.redis_reachable)])
        if seen.database_reachable:
            yield _gauge(catalogue.DELIVERIES, list(seen.deliveries.items()))
            yield _gauge(catalogue.ACCOUNTS, list(seen.accounts.items()))
            yield _gauge(catalogue.OLDEST_WAITING, [((), seen.oldest_waiting)])
            yield _gauge(catalogue.SCHEDULER_LAG, [((), seen.lag)])
            yield _gauge(catalogue.INBOUND_LAG, [((), seen.inbound_lag)])


def _gauge(metric: Metric, samples: Sequence[tuple[tuple[str, ...], float]]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


class _WithoutCreated:
    """A registry without the moment at which each series began, which doubles the text and which few ask for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Family]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

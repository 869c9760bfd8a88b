"""Every metric of MsgCore: its name, kind, labels and meaning, once, for the code and for the documentation.

Labels are bounded: names of platforms, states, outcomes, route templates. No id of a tenant, an
account or a message is ever a label, and nothing that a caller can make up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. A counter's samples have `_total` behind the name; `buckets` are upper bounds of a histogram.

    `shared` ones are read from the database, and are therefore the same in every process.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()
    shared: bool = False

    @property
    def shown(self) -> str:
        """The name as queries use it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


ACCEPTED = Metric(
    "msgcore_deliveries_accepted", "counter", ("platform",), "Deliveries that were accepted, by the process that did"
)
ATTEMPTS = Metric(
    "msgcore_attempts",
    "counter",
    ("platform", "outcome"),
    "Attempts that ended, by the word of the timeline: sent, part (of a message in several calls), retry (a temporary "
    "failure), throttled (the platform asked to wait, a 429), failed (for good: a dead letter), expired (found so "
    "when its turn came), "
    "authentication (credentials refused), released (given back untouched)",
)
DELIVERY_SECONDS = Metric(
    "msgcore_delivery_seconds",
    "histogram",
    ("platform",),
    "From when a delivery was accepted (or scheduled for) until it was sent, waiting and retries included",
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400),
)
SEND_SECONDS = Metric(
    "msgcore_send_seconds",
    "histogram",
    ("platform",),
    "One call of the platform's adapter, whatever came of it",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
LEASES_LOST = Metric(
    "msgcore_leases_lost",
    "counter",
    ("platform",),
    "Leases that ran out while this process worked on the delivery; it may have been sent twice",
)
BREAKERS_OPENED = Metric(
    "msgcore_breakers_opened", "counter", ("platform",), "How often an account's circuit breaker opened, or stayed open"
)
RECONCILED = Metric(
    "msgcore_reconciled", "counter", (), "Deliveries that the ledger held and the scheduler did not know"
)
WISHES = Metric(
    "msgcore_wishes",
    "counter",
    ("platform", "wish"),
    "People who opted out (`out`) or in again (`in`) by a stop word",
)
HTTP_REQUESTS = Metric(
    "msgcore_http_requests",
    "counter",
    ("method", "route", "status"),
    "Requests, by route template and class of the answer's status (2xx, 4xx ...); what matches no route is `other`",
)
HTTP_SECONDS = Metric(
    "msgcore_http_request_seconds",
    "histogram",
    ("method", "route"),
    "From a request's arrival to the end of its answer",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
RATE_LIMITED = Metric(
    "msgcore_rate_limited",
    "counter",
    ("limit",),
    "Requests that were refused with 429, by the limit: the end of the name of its setting, in small letters",
)
BUILD = Metric("msgcore_build", "gauge", ("version",), "1, with the version as a label")
DISPATCHING = Metric(
    "msgcore_dispatching", "gauge", (), "1 in a process that sends and whose scheduler has what the ledger holds"
)
LEADING = Metric(
    "msgcore_leading", "gauge", (), "1 in the one process that supplies the scheduler from the ledger and reconciles"
)
CONNECTIONS = Metric(
    "msgcore_database_connections", "gauge", ("state",), "Connections of this process's pools: in_use, idle"
)
DATABASE_UP = Metric("msgcore_database_up", "gauge", (), "Whether this process reaches the database")
REDIS_UP = Metric("msgcore_redis_up", "gauge", (), "Whether this process reaches Redis; absent where there is none")
DELIVERIES = Metric(
    "msgcore_deliveries", "gauge", ("platform", "state"), "Deliveries in the ledger, by state", shared=True
)
OLDEST_WAITING = Metric(
    "msgcore_oldest_waiting_seconds",
    "gauge",
    (),
    "How long ago the oldest delivery that is neither sent nor given up was accepted (or scheduled for); "
    "accounts that are held (paused or switched off) are left out",
    shared=True,
)
SCHEDULER_LAG = Metric(
    "msgcore_scheduler_lag_seconds",
    "gauge",
    (),
    "How late the oldest due delivery is; one that waits to be tried again is not due; held accounts are left out",
    shared=True,
)
ACCOUNTS = Metric(
    "msgcore_accounts",
    "gauge",
    ("platform", "state"),
    "Configured platforms: active, paused (itself or its project), off (switched off)",
    shared=True,
)
BREAKERS = Metric(
    "msgcore_breakers",
    "gauge",
    ("platform", "state"),
    "Accounts whose circuit breaker is open or half-open, as the scheduler of this process knows them",
)

INBOUND_REQUESTS = Metric(
    "msgcore_inbound_requests",
    "counter",
    ("platform", "result"),
    "Requests of platforms to known addresses: taken, answered (a hand-shake), forged (not signed as it should be), "
    "unreadable, too_large, lost (neither the database nor the disk could take it, or "
    "too many large ones came; platforms send again)",
)
ENVELOPES = Metric(
    "msgcore_inbound_envelopes",
    "counter",
    ("platform", "kind"),
    "What was read out of requests, by the envelope's kind; `duplicate` is what came again, `unreadable` a request "
    "that was set aside",
)
EVENTS = Metric(
    "msgcore_events",
    "counter",
    ("about",),
    "Events appended to projects' logs, about what this process `received` or `sent`",
)
INBOUND_LAG = Metric(
    "msgcore_inbound_lag_seconds",
    "gauge",
    (),
    "How long ago the oldest request came that nobody has read yet",
    shared=True,
)
SPOOL_BYTES = Metric(
    "msgcore_inbound_spool_bytes", "gauge", (), "What this process keeps on the disk while the database is away"
)
STREAMS = Metric(
    "msgcore_event_streams", "gauge", ("kind",), "Who follows events at this process: sse, websocket, poll (waiting)"
)

CATALOGUE = (
    *(ACCEPTED, ATTEMPTS, DELIVERY_SECONDS, SEND_SECONDS),
    *(DELIVERIES, OLDEST_WAITING, SCHEDULER_LAG, ACCOUNTS, BREAKERS, BREAKERS_OPENED),
    *(LEASES_LOST, WISHES, RECONCILED, DISPATCHING, LEADING),
    *(INBOUND_REQUESTS, ENVELOPES, INBOUND_LAG, SPOOL_BYTES, EVENTS, STREAMS),
    *(HTTP_REQUESTS, HTTP_SECONDS, RATE_LIMITED, DATABASE_UP, CONNECTIONS, REDIS_UP, BUILD),
)
"""In the order of the documentation."""


def metrics_markdown(catalogue: Sequence[Metric] = CATALOGUE) -> str:
    """The table of docs/operations.md."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in catalogue:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        shared = " (from the database)" if metric.shared else ""
        lines.append(f"| `{metric.shown}` | {metric.kind}{shared} | {labels} | {metric.meaning} |")
    return "\n".join(lines) + "\n"

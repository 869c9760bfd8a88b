"""What is logged and counted on a delivery's way. Every line has its id and that of its message.

What goes well is logged at debug level only, so that sending costs nothing for it; what does not is
logged at info, and what somebody should look at as a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import structlog

from msgcore.core.deliveries import Finished, Lease
from msgcore.dispatch.verdict import Verdict
from msgcore.observability.metrics import Metrics
from msgcore.store.ledger.beginning import WorkItem
from msgcore.store.ledger.recording import WorkResult

log = structlog.stdlib.get_logger(__name__)
levels = logging.getLogger(__name__)

EVENTS: Mapping[str, str] = {
    "sent": "delivery_sent",
    "retry": "delivery_retrying",
    "throttled": "delivery_throttled",
    "failed": "delivery_dead",
    "expired": "delivery_expired",
    "authentication": "delivery_refused",
    "released": "delivery_released",
    "part": "delivery_part_sent",
}
"""What the log calls the outcomes of the timeline."""

QUIET = frozenset({"sent", "part", "released"})


class Trail:
    """Logs and counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def begun(self, item: WorkItem) -> None:
        """A worker has claimed a delivery and starts an attempt."""
        if levels.isEnabledFor(logging.DEBUG):  # asking the log itself costs ten times as much
            log.debug("attempt_started", **_about(item))

    def called(self, platform: str, seconds: float) -> None:
        """An adapter was called, and came back after so long."""
        self._metrics.platform(platform).send_seconds.observe(seconds)

    def recorded(self, verdicts: Iterable[Verdict]) -> None:
        """Attempts ended, and the ledger has it."""
        quiet = not levels.isEnabledFor(logging.DEBUG)
        for verdict in verdicts:
            result = verdict.result
            meter = self._metrics.platform(result.item.platform)
            meter.ended(result.outcome)
            if result.outcome == "sent":
                age = (result.finished_at - result.item.first_due_at).total_seconds()
                meter.delivery_seconds.observe(max(0.0, age))
            if not (quiet and result.outcome in QUIET):
                _log_end(result)

    def told(self, number: int) -> None:
        """So many events tell of what was recorded."""
        self._metrics.told("sent", number)

    def finished(self, finished: Finished, verdicts: Sequence[Verdict]) -> None:
        """The scheduler took the outcomes of these verdicts."""
        if finished.lost:
            items = {verdict.result.item.id: verdict.result.item for verdict in verdicts}
            self.lost(finished.lost, items)
        if finished.opened or finished.closed:
            platforms = {verdict.result.item.platform_id: verdict.result.item.platform for verdict in verdicts}
            for account_id in finished.opened:
                platform = platforms[account_id]
                self._metrics.platform(platform).breakers_opened.inc()
                log.warning("breaker_opened", platform_id=account_id, platform=platform)
            for account_id in finished.closed:
                log.info("breaker_closed", platform_id=account_id, platform=platforms[account_id])

    def lost(self, leases: Iterable[Lease], items: Mapping[str, WorkItem]) -> None:
        """Leases ran out while somebody worked on their deliveries."""
        for lease in leases:
            item = items[lease.delivery_id]
            self._metrics.platform(item.platform).leases_lost.inc()
            log.warning("lease_lost", **_about(item))


def _log_end(result: WorkResult) -> None:
    item = result.item
    level = logging.DEBUG if result.outcome in QUIET else logging.INFO
    about = _about(item) | {"state": result.state}
    if result.error_code is not None:
        about["code"] = result.error_code
    if result.due_at is not None:
        about["due_in"] = round((result.due_at - result.finished_at).total_seconds(), 3)
    log.log(level, EVENTS.get(result.outcome, f"delivery_{result.outcome}"), **about)


def _about(item: WorkItem) -> dict[str, object]:
    return {
        "delivery_id": item.id,
        "message_id": item.message_id,
        "project_id": item.project_id,
        "platform": item.platform,
        "attempt": item.attempt,
    }

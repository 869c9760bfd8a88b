"""What became of attempts to post an event: kept for the user, and the end of webhooks that nothing gets through to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from msgcore.core.clock import to_iso
from msgcore.core.deliveries import OPEN_STATES, SENT_STATES
from msgcore.core.events import EVENT_WEBHOOK, EventType
from msgcore.core.ids import new_id
from msgcore.store.bulk import Bulk
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append
from msgcore.store.ledger.recording import WorkResult
from msgcore.store.tables import platform_logs, webhook_deliveries, webhooks

PATIENCE = timedelta(days=3)
"""How long a webhook may fail without one success before it is switched off."""

GONE = "gone"
"""The error's code where an endpoint says that it is no more (410)."""

_TOLD = ("status", "response_code", "response_body", "error", "attempts", "duration_ms", "delivered_at")
_RECORD = Bulk(
    lambda _: (
        update(webhook_deliveries)
        .where(webhook_deliveries.c.id == bindparam("b_id"))
        .values({name: bindparam(f"b_{name}") for name in (*_TOLD, "next_attempt_at")})
    ),
    ("b_id", *(f"b_{name}" for name in (*_TOLD, "next_attempt_at"))),
)
_NO_ATTEMPTS = frozenset({"released", "authentication"})


async def record_attempts(database: Database, results: Sequence[WorkResult]) -> None:
    """Write what came of the attempts among these that are of webhooks; writing it again changes nothing."""
    mine = [each for each in results if each.item.platform == EVENT_WEBHOOK and each.outcome not in _NO_ATTEMPTS]
    if not mine:
        return
    # In the order in which everybody locks them. A transaction of its own: who deletes a webhook locks that first.
    rows = sorted((_row(result) for result in mine), key=lambda row: row["b_id"])
    await database.transact(lambda connection: _RECORD.run(connection, rows))
    if changed := _changed(await _health(database, mine), mine):
        await database.transact(lambda connection: _judge(connection, changed))


def _row(result: WorkResult) -> dict[str, Any]:
    exchange, is_sent, is_open = result.exchange, result.state in SENT_STATES, result.state in OPEN_STATES
    return {
        "b_id": result.item.id,
        "b_status": "success" if is_sent else "pending" if is_open else "failed",
        "b_response_code": None if exchange is None else exchange.status,
        "b_response_body": None if exchange is None else exchange.body,
        "b_error": None if is_sent else result.error_message,
        "b_attempts": result.item.attempt if result.counts else result.item.attempt - 1,
        "b_duration_ms": None if exchange is None else round(exchange.seconds * 1000),
        "b_delivered_at": result.finished_at if is_sent else None,
        "b_next_attempt_at": result.due_at if is_open else None,
    }


async def _health(database: Database, results: Sequence[WorkResult]) -> Sequence[Any]:
    ids = {result.item.platform_id for result in results}
    columns = (webhooks.c.id, webhooks.c.is_active, webhooks.c.failing_since)
    async with database.read() as connection:
        found = await connection.execute(select(*columns).where(webhooks.c.id.in_(ids)).order_by(webhooks.c.id))
        return found.all()


class _Change:
    """How it stands with a webhook after some attempts: a success ends all that was wrong before."""

    def __init__(self, webhook: Any, results: Sequence[WorkResult]) -> None:
        self.id: str = webhook.id
        self.now = max(result.finished_at for result in results)
        self.works = any(result.state in SENT_STATES for result in results)
        failed = [result for result in results if result.state not in SENT_STATES]
        self.error = failed[-1].error_message or "" if failed else ""
        self.gone = any(result.error_code == GONE for result in failed)
        self.failing_since: datetime = webhook.failing_since or self.now
        self.was_failing = webhook.failing_since is not None
        self.is_active: bool = webhook.is_active

    @property
    def reason(self) -> str | None:
        """Why it is to be switched off, if it is."""
        if self.gone:
            return "Its address answered 410 Gone"
        if self.works or self.now - self.failing_since < PATIENCE:
            return None
        return f"Nothing got through since {to_iso(self.failing_since)}; the last error was: {self.error}"

    @property
    def matters(self) -> bool:
        """Whether there is something to write."""
        return self.was_failing if self.works and not self.gone else not self.was_failing or self._ends

    @property
    def _ends(self) -> bool:
        return self.is_active and self.reason is not None


def _changed(found: Sequence[Any], results: Sequence[WorkResult]) -> list[_Change]:
    changes = [_Change(row, [each for each in results if each.item.platform_id == row.id]) for row in found]
    return [change for change in changes if change.matters]


def _judge(connection: Connection, changes: Sequence[_Change]) -> None:
    told: list[NewEvent] = []
    for change in changes:
        same = webhooks.c.id == change.id
        since = None if change.works and not change.gone else change.failing_since
        connection.execute(update(webhooks).where(same).values(failing_since=since))
        if change.reason is not None:
            told += _switch_off(connection, change, change.reason)
    append(connection, told)


def _switch_off(connection: Connection, change: _Change, reason: str) -> list[NewEvent]:
    """Switch a webhook off unless somebody did so before; the events that tell of it."""
    off = (
        update(webhooks)
        .where(webhooks.c.id == change.id, webhooks.c.is_active)
        .values(is_active=False, disabled_reason=reason, updated_at=change.now)
        .returning(webhooks.c.project_id, webhooks.c.name)
    )
    webhook = connection.execute(off).one_or_none()
    if webhook is None:
        return []
    line = {
        "id": new_id(),
        "project_id": webhook.project_id,
        "platform": EVENT_WEBHOOK,
        "level": "error",
        "category": "webhook",
        "message": f"Webhook {webhook.name!r} was switched off",
        "metadata": {"webhookId": change.id},
        "error": reason,
        "timestamp": change.now,
    }
    connection.execute(insert(platform_logs).values(line))
    data = {"webhook_id": change.id, "name": webhook.name, "reason": reason}
    return [NewEvent(webhook.project_id, EventType.WEBHOOK_DISABLED, data, change.now)]

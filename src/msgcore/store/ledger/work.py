"""Working on deliveries: what a worker reads before an attempt and writes after it.

Two transactions a batch: `begin` marks the attempts as started (see `beginning`), and `record` writes
what became of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Text, bindparam, insert, select, type_coerce, update

from msgcore.core.deliveries import OPEN_STATES, DeliveryState
from msgcore.core.ids import new_id
from msgcore.store.bulk import Among, Bulk
from msgcore.store.database import Database
from msgcore.store.ledger.beginning import INSERT_ATTEMPTS, SENDING, WorkItem, begin
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.pauses import PausedBy
from msgcore.store.tables import deliveries, events, messages, platform_logs, project_platforms

OutcomeWord = Literal["sent", "retry", "throttled", "failed", "uncertain", "authentication", "expired", "released"]


class WorkResult(msgspec.Struct, frozen=True):
    """What became of one attempt. `counts` is False where it does not count as an attempt."""

    item: WorkItem
    state: DeliveryState
    outcome: OutcomeWord
    finished_at: datetime
    counts: bool = True
    provider_message_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    reached: Literal["no", "maybe", "yes"] = "no"
    due_at: datetime | None = None
    sent_at: datetime | None = None


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as the ledger has it: JSON texts."""

    content: str
    options: str | None


_SELECT_ATTEMPTS = (
    select(deliveries.c.id, deliveries.c.attempts, deliveries.c.state)
    .where(Among(deliveries.c.id))  # without the state: SQLite would go by its index, over all that is being sent
    .order_by(deliveries.c.id)
    .with_for_update()
)
_SELECT_MESSAGES = select(
    messages.c.id, type_coerce(messages.c.content, Text), type_coerce(messages.c.options, Text)
).where(Among(messages.c.id))
_OUTCOME = (
    *("state", "attempts", "throttles", "due_at", "uncertain", "provider_message_id"),
    *("error_code", "error_message", "sent_at", "finished_at"),
)
_RECORD = Bulk(
    lambda _: (
        update(deliveries)
        .where(deliveries.c.id == bindparam("b_id"))
        .values({name: bindparam(f"b_{name}") for name in _OUTCOME})
    ),
    ("b_id", *(f"b_{name}" for name in _OUTCOME)),
)
_INSERT_LOGS = Bulk(lambda _: insert(platform_logs), platform_logs.c.keys())


class WorkLog:
    """The worker's side of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def parallel(self) -> int:
        """How many batches are best written at once."""
        return self._database.parallel

    async def begin(self, delivery_ids: Sequence[str], now: datetime) -> list[WorkItem]:
        """Start an attempt of each delivery that is still open and was not put off; the others are left out.

        A delivery found in `sending` was started before and never ended: its last attempt is
        written to its timeline as uncertain.
        """
        items = await begin(self._database, delivery_ids, now)
        # Claims come in the order of the lanes' turns; keep it.
        by_id = {item.id: item for item in items}
        return [by_id[i] for i in delivery_ids if i in by_id]

    async def load_messages(self, message_ids: Sequence[str]) -> dict[str, StoredMessage]:
        """The content and options of messages, by id."""
        async with self._database.read() as connection:
            rows = await connection.execute(_SELECT_MESSAGES, {"ids": list(message_ids)})
            return {id_: StoredMessage(content, options) for id_, content, options in rows}

    async def record(self, results: Sequence[WorkResult]) -> None:
        """Write the end of attempts: state, timeline, counts and, for failures, the platform's log.

        A result whose delivery is already in a newer attempt, or final, goes to the timeline only:
        a delivery is never completed twice.
        """
        await self._database.transact(lambda connection: _record(connection, results))

    async def pause_account(
        self, item: WorkItem, reason: str, version: datetime, now: datetime
    ) -> Literal["now", "already", "changed"]:
        """Note that a platform refused an account's credentials as they were at `version` (`updated_at`).

        Tells whether it is noted `now`, was noted `already`, or the account was `changed` or deleted since:
        then this says nothing about it, and it is not paused.
        """
        account = project_platforms.c
        same = (account.id == item.platform_id) & (account.updated_at == version)
        pause = (
            update(project_platforms)
            .where(same, account.paused_at.is_(None))
            .values(paused_at=now, paused_by=PausedBy.CREDENTIALS, paused_reason=reason)
        )
        about = {"project_id": item.project_id, "platform_id": item.platform_id}
        async with self._database.write() as connection:
            if not (await connection.execute(pause)).rowcount:
                known = (await connection.execute(select(account.id).where(same))).first()
                return "changed" if known is None else "already"
            await connection.execute(
                insert(platform_logs),
                {
                    **about,
                    "id": new_id(),
                    "platform": item.platform,
                    "level": "error",
                    "category": "auth",
                    "message": f"Paused: the platform refused the credentials ({reason})",
                    "timestamp": now,
                },
            )
            await connection.execute(
                insert(events),
                {
                    **about,
                    "id": new_id(),
                    "type": "platform.paused",
                    "created_at": now,
                    "data": {
                        "platform_id": item.platform_id,
                        "platform": item.platform,
                        "by": PausedBy.CREDENTIALS,
                        "reason": reason,
                    },
                },
            )
        return "now"


def _record(connection: Connection, results: Sequence[WorkResult]) -> None:
    """The transaction of `WorkLog.record`."""
    current = _current(connection, results)
    changes = CountChanges()
    for result in current:
        item = result.item
        changes.move(item.project_id, item.platform_id, item.platform, DeliveryState.SENDING, result.state)
    _RECORD.run(connection, [_delivery_row(result) for result in current])
    INSERT_ATTEMPTS.run(connection, [_attempt_row(result) for result in results])
    _INSERT_LOGS.run(connection, [_log_row(result) for result in current if result.state == DeliveryState.FAILED])
    changes.apply(connection)


def _current(connection: Connection, results: Sequence[WorkResult]) -> list[WorkResult]:
    """Those results that end the attempt which the ledger has as running."""
    rows = connection.execute(_SELECT_ATTEMPTS, {"ids": [result.item.id for result in results]})
    running = {id_: attempts for id_, attempts, state in rows if state == SENDING}
    return [result for result in results if running.get(result.item.id) == result.item.attempt]


def _delivery_row(result: WorkResult) -> dict[str, Any]:
    item = result.item
    final = result.state not in OPEN_STATES
    return {
        "b_id": item.id,
        "b_state": result.state,
        "b_attempts": item.attempt if result.counts else item.attempt - 1,
        "b_throttles": item.throttles + (result.outcome == "throttled"),
        "b_due_at": result.due_at or result.finished_at,
        "b_provider_message_id": result.provider_message_id,
        "b_uncertain": result.reached == "maybe" or (item.uncertain and not result.counts),
        "b_error_code": result.error_code,
        "b_error_message": result.error_message,
        "b_sent_at": result.sent_at,
        "b_finished_at": result.finished_at if final else None,
    }


def _attempt_row(result: WorkResult) -> dict[str, Any]:
    item = result.item
    return {
        "id": new_id(),
        "delivery_id": item.id,
        "number": item.attempt if result.counts else 0,
        "outcome": result.outcome,
        "error_code": result.error_code,
        "error_message": result.error_message,
        "reached": result.reached,
        "retry_at": result.due_at,
        "started_at": item.started_at,
        "finished_at": result.finished_at,
    }


def _log_row(result: WorkResult) -> dict[str, Any]:
    item = result.item
    return {
        "id": new_id(),
        "project_id": item.project_id,
        "platform_id": item.platform_id,
        "platform": item.platform,
        "level": "error",
        "category": "message",
        "message": f"Delivery to {item.target_type} failed: {result.error_code}",
        "metadata": {"deliveryId": item.id, "jobId": item.message_id, "attempts": item.attempt},
        "error": result.error_message,
        "timestamp": result.finished_at,
    }

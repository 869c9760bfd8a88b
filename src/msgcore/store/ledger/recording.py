"""Recording what became of attempts: state, timeline, counts, the event, and the platform's log of what failed.

On PostgreSQL one statement does it in one round trip. Where a result ends an attempt that is no longer
the running one, or a final failure is to be logged, a transaction does it, as SQLite's always does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import CTE, Connection, Integer, bindparam, column, func, insert, literal, select, union_all, update
from sqlalchemy.dialects.postgresql import ARRAY

from msgcore.core.deliveries import OPEN_STATES, DeliveryState, Exchange
from msgcore.core.ids import new_id
from msgcore.store.bulk import Among, Bulk
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append, appending, kept_projects
from msgcore.store.ledger.beginning import INSERT_ATTEMPTS, SENDING, WorkItem
from msgcore.store.ledger.counts import CountChanges, add_moves, next_slot
from msgcore.store.ledger.outcome_events import failed_data, outcome_event, sent_data
from msgcore.store.ledger.parts import first_named
from msgcore.store.tables import attempts, deliveries, events, platform_logs, projects

OutcomeWord = Literal[
    "sent", "part", "retry", "throttled", "failed", "uncertain", "authentication", "expired", "released"
]


class WorkResult(msgspec.Struct, frozen=True):
    """What became of one attempt. `counts` is False where it does not count as an attempt.

    `text` is that of the message, where it was sent; `part_ids` are those of the parts that are sent now.
    """

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
    exchange: Exchange | None = None
    text: str | None = None
    part_ids: tuple[str, ...] = ()


_SELECT_ATTEMPTS = (
    select(deliveries.c.id, deliveries.c.attempts, deliveries.c.state)
    .where(Among(deliveries.c.id))  # without the state: SQLite would go by its index, over all that is being sent
    .order_by(deliveries.c.id)
    .with_for_update()
)
_OUTCOME = (
    *("state", "attempts", "throttles", "due_at", "uncertain", "provider_message_id", "part_ids"),
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
_GIVEN = (
    ("b_id", deliveries.c.id.type),
    *((f"b_{name}", deliveries.c[name].type) for name in _OUTCOME),
    *((f"b_{name}", deliveries.c[name].type) for name in ("project_id", "platform_id", "platform")),
    *((f"a_{entry.name}", entry.type) for entry in attempts.c),
    ("b_running", Integer()),
    *((f"e_{name}", events.c[name].type) for name in ("type", "data")),
)
"""What the one statement is given of each result, as an array for each name; a name of a column would be set to it."""


def _one_statement() -> Any:
    """Compare, write, count and tell in one statement; gives how many were recorded: all of them, or none."""
    arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in _GIVEN]
    given = (
        func.unnest(*arrays).table_valued(*(column(name, kind) for name, kind in _GIVEN), name="given").render_derived()
    )
    found = _SELECT_ATTEMPTS.cte("found")
    current = (
        select(given)
        .join_from(given, found, found.c.id == given.c.b_id)
        .where(found.c.state == SENDING, found.c.attempts == given.c.b_running)
        .cte("current")
    )
    number = select(func.count()).select_from(current).scalar_subquery()
    recorded = (
        select(current)
        .where(number == func.cardinality(bindparam("b_id", type_=ARRAY(deliveries.c.id.type))))
        .cte("recorded")
    )
    written = (
        update(deliveries)
        .where(Among(deliveries.c.id), deliveries.c.id == recorded.c.b_id)  # the list as well: it picks the partitions
        .values({name: recorded.c[f"b_{name}"] for name in _OUTCOME})
        .returning(deliveries.c.id)
        .cte("written")
    )
    timeline = (
        insert(attempts)
        .from_select(attempts.c.keys(), select(*(recorded.c[f"a_{entry.name}"] for entry in attempts.c)))
        .returning(attempts.c.id)
        .cte("timeline")
    )
    account = (
        recorded.c.b_project_id.label("project_id"),
        recorded.c.b_platform_id.label("platform_id"),
        recorded.c.b_platform.label("platform"),
    )
    counted = add_moves(
        union_all(
            select(*account, literal(SENDING).label("state"), literal(-1).label("change")),
            select(*account, recorded.c.b_state.label("state"), literal(1).label("change")),
        )
    )
    return select(func.count()).select_from(recorded).add_cte(written, timeline, counted, _told(recorded, counted))


def _told(recorded: CTE, counted: CTE) -> CTE:
    """The part that appends the events of what was recorded."""
    # As `kept_projects` does. And after the counts: each is locked in the same order everywhere.
    kept = (
        select(projects.c.id)
        .where(Among(projects.c.id, "told_projects"))
        .order_by(projects.c.id)
        .with_for_update(read=True, key_share=True)
        .cte("kept")
    )
    after_counts = select(func.count()).select_from(counted).scalar_subquery()
    due = (
        select(
            recorded.c.a_id.label("id"),  # the entry of the timeline that it tells of
            recorded.c.b_project_id.label("project_id"),
            recorded.c.e_type.label("type"),
            recorded.c.b_platform_id.label("platform_id"),
            recorded.c.e_data.label("data"),
            recorded.c.a_finished_at.label("created_at"),
        )
        .join(kept, kept.c.id == recorded.c.b_project_id)
        .where(recorded.c.e_type.is_not(None), after_counts >= 0)
        .cte("due")
    )
    return appending(due)


_ONE_STATEMENT = _one_statement()


async def record(database: Database, results: Sequence[WorkResult]) -> None:
    """What `WorkLog.record` does."""
    if database.kind == "postgresql" and all(result.state != DeliveryState.FAILED for result in results):
        rows = [_row(result) for result in results]
        arguments: dict[str, Any] = {name: [row[name] for row in rows] for name, _ in _GIVEN}
        told = {row["b_project_id"] for row in rows if row["e_type"] is not None}
        arguments |= {"ids": arguments["b_id"], "slot": next_slot(), "told_projects": sorted(told)}
        async with database.read() as connection:  # commits by itself
            if await connection.scalar(_ONE_STATEMENT, arguments):
                return
    await database.transact(lambda connection: _record(connection, results))


def _record(connection: Connection, results: Sequence[WorkResult]) -> None:
    """The transaction of `WorkLog.record`."""
    current = _current(connection, results)
    changes = CountChanges()
    for result in current:
        item = result.item
        changes.move(item.project_id, item.platform_id, item.platform, DeliveryState.SENDING, result.state)
    _RECORD.run(connection, [_delivery_row(result) for result in current])
    INSERT_ATTEMPTS.run(connection, [_attempt_row(result) for result in results])
    told = [(result, event) for result in current if (event := _event(result)) is not None]
    kept = kept_projects(connection, {event.project_id for _, event in told})
    told = [(result, event) for result, event in told if event.project_id in kept]
    _INSERT_LOGS.run(connection, [_log_row(result) for result, _ in told if result.state == DeliveryState.FAILED])
    changes.apply(connection)
    append(connection, [event for _, event in told])


def _current(connection: Connection, results: Sequence[WorkResult]) -> list[WorkResult]:
    """Those results that end the attempt which the ledger has as running."""
    rows = connection.execute(_SELECT_ATTEMPTS, {"ids": [result.item.id for result in results]})
    running = {id_: attempts for id_, attempts, state in rows if state == SENDING}
    return [result for result in results if running.get(result.item.id) == result.item.attempt]


def _row(result: WorkResult) -> dict[str, Any]:
    """All of `_GIVEN`."""
    item = result.item
    entry = {f"a_{name}": value for name, value in _attempt_row(result).items()}
    event = _event(result)
    return (
        _delivery_row(result)
        | entry
        | {
            "b_project_id": item.project_id,
            "b_platform_id": item.platform_id,
            "b_platform": item.platform,
            "b_running": item.attempt,
            "e_type": None if event is None else event.type,
            "e_data": None if event is None else event.data,
        }
    )


def _event(result: WorkResult) -> NewEvent | None:
    """The event that tells of a final result; webhooks have a list of their deliveries instead."""
    item, now = result.item, result.finished_at
    match result.state:
        case DeliveryState.SENT:
            more = sent_data(result.text, result.provider_message_id, item.attempt, now)
            return outcome_event(item, "sent", more, now)
        case DeliveryState.FAILED | DeliveryState.EXPIRED:
            number = item.attempt if result.counts else item.attempt - 1
            more = failed_data(result.state, result.error_code, result.error_message, number, now)
            return outcome_event(item, "failed", more, now)
        case _:
            return None


def _delivery_row(result: WorkResult) -> dict[str, Any]:
    item = result.item
    final = result.state not in OPEN_STATES
    # After a part it is known what the platform has.
    unknown = item.uncertain and not result.counts and result.outcome != "part"
    return {
        "b_id": item.id,
        "b_state": result.state,
        "b_attempts": item.attempt if result.counts else item.attempt - 1,
        "b_throttles": item.throttles + (result.outcome == "throttled"),
        "b_due_at": result.due_at or result.finished_at,
        # From the first part on: the platform may tell of it before the last one is sent.
        "b_provider_message_id": result.provider_message_id or first_named(item.part_ids),
        "b_part_ids": "\n".join(result.part_ids or item.part_ids) or None,
        "b_uncertain": result.reached == "maybe" or unknown,
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

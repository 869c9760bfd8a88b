"""Fallbacks: deliveries that stand by, and take over when the target before them cannot be reached.

A message with `options.fallback` is a chain of deliveries in the order of `fallback_rank`; 0 is its target itself.
At most one of them is open at a time. What is to be done follows from the rows alone, so it may be asked for at any
moment, by any process, and again after a crash. Each step is one transaction that holds the rows of whole chains.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, insert, or_, select, update

from msgcore.core.deliveries import OPEN_STATES, SENT_STATES, DeliveryState, FallbackCode
from msgcore.core.ids import new_id
from msgcore.store.bulk import Among, Bulk, chunks
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append_to_kept
from msgcore.store.ledger import ending
from msgcore.store.ledger.counts import CountChanges
from msgcore.store.ledger.ending import EXPIRED, Ending
from msgcore.store.ledger.feed import OpenDelivery
from msgcore.store.tables import attempts, deliveries
from msgcore.store.tables.messages import IS_STANDBY, IS_STANDBY_TO_LOOK_AT

PAGE = 1000
CHAINS = 100
"""Messages that are dealt with in one transaction."""

NOT_NEEDED = Ending(
    DeliveryState.CANCELLED, FallbackCode.NOT_NEEDED, "Not needed: the message was sent to another of its targets", None
)
UNCERTAIN = Ending(
    DeliveryState.CANCELLED,
    FallbackCode.UNCERTAIN,
    "The target before it may have been reached, and options.onUncertain is fail",
    None,
)


@dataclass(frozen=True, slots=True)
class Takeover:
    """A fallback that became due, of which message, and why."""

    delivery: OpenDelivery
    message_id: str
    project_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a scheduler must be told: the fallbacks that became due, and the ids of deliveries that wait no more."""

    activated: list[Takeover]
    ended: list[str]


def is_won(row: Any) -> bool:
    """Whether a delivery (a row) reached its target, as far as anybody knows."""
    return row.state in SENT_STATES


async def standing_by(database: Database, last_id: str) -> Sequence[Any]:
    """The next page (`id`, `message_id`) of fallbacks that stand by, after `last_id`."""
    query = select(deliveries.c.id, deliveries.c.message_id).where(IS_STANDBY, deliveries.c.id > last_id)
    async with database.read() as connection:
        return (await connection.execute(query.order_by(deliveries.c.id).limit(PAGE))).all()


async def ready_among(database: Database, message_ids: Sequence[str]) -> list[str]:
    """Those of these messages with something to be done now: one target was reached, or none is being tried."""
    async with database.read() as connection:
        return list((await connection.execute(_READY, {"ids": list(message_ids)})).scalars())


async def overdue(database: Database, since: datetime, last_id: str, until: datetime) -> Sequence[Any]:
    """The next page (`id`, `message_id`, `fallback_at`) of fallbacks to be looked at after (`since`, `last_id`)."""
    when = deliveries.c.fallback_at
    is_later = (when > since) | ((when == since) & (deliveries.c.id > last_id))
    query = select(deliveries.c.id, deliveries.c.message_id, when).where(IS_STANDBY_TO_LOOK_AT, is_later, when <= until)
    async with database.read() as connection:
        return (await connection.execute(query.order_by(when, deliveries.c.id).limit(CHAINS))).all()


async def free_among(database: Database, message_ids: Sequence[str]) -> list[str]:
    """Those of these messages without a delivery that must be waited for; to lock the others would be for nothing."""
    async with database.read() as connection:
        return list((await connection.execute(_FREE, {"ids": list(message_ids)})).scalars())


async def advance(database: Database, message_ids: Sequence[str], now: datetime) -> Advanced:
    """Do what is to be done for these messages (at most `CHAINS`); others than those with fallbacks are left alone."""
    return await database.transact(lambda connection: _advance(connection, message_ids, now))


def revive(connection: Connection, bounced: Sequence[Any], now: datetime, changes: CountChanges) -> None:
    """Let the fallbacks behind deliveries (rows) that were sent and did not arrive stand by again, to be looked at now.

    The caller's transaction holds the rows, and makes them `failed`; without fallbacks they are left alone.
    """
    ranks = {row.message_id: row.fallback_rank for row in bounced if row.fallback_rank is not None}
    if not ranks:
        return
    spared = connection.execute(_SPARED, {"ids": list(ranks)}).all()
    behind = [row for row in spared if row.fallback_rank > ranks[row.message_id]]
    for row in behind:
        changes.move(row.project_id, row.platform_id, row.platform, row.state, DeliveryState.STANDBY)
    revived = {"state": DeliveryState.STANDBY, "fallback_at": now}
    revived |= dict.fromkeys(("error_code", "error_message", "finished_at"))
    for ids in chunks([row.id for row in behind]):
        connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(revived))


_COLUMNS = (
    *(*ending.COLUMNS, deliveries.c.lane, deliveries.c.rank),
    *(deliveries.c.first_due_at, deliveries.c.expires_at, deliveries.c.uncertain, deliveries.c.on_uncertain),
    *(deliveries.c.error_code, deliveries.c.fallback_rank, deliveries.c.fallback_after, deliveries.c.fallback_at),
)
_CHAINS = (
    select(*_COLUMNS)
    .where(Among(deliveries.c.message_id), deliveries.c.fallback_rank.is_not(None))
    .order_by(deliveries.c.id)  # as workers lock them too
    .with_for_update()
)
_SPARED = _CHAINS.where(
    deliveries.c.state == DeliveryState.CANCELLED, deliveries.c.error_code == FallbackCode.NOT_NEEDED
)
_IS_OPEN = deliveries.c.state.in_(sorted(OPEN_STATES))
_IS_WON = deliveries.c.state.in_(sorted(SENT_STATES))
# The same as `_must_be_waited_for`.
_IS_BUSY = or_(
    deliveries.c.state == DeliveryState.SENDING,
    _IS_OPEN & deliveries.c.part_ids.is_not(None),
    (deliveries.c.state == DeliveryState.RETRYING) & deliveries.c.uncertain & (deliveries.c.on_uncertain == "fail"),
)


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


_BY_MESSAGE = (
    select(deliveries.c.message_id)
    .where(Among(deliveries.c.message_id), deliveries.c.fallback_rank.is_not(None))
    .group_by(deliveries.c.message_id)
)
_READY = _BY_MESSAGE.having(or_(_number(_IS_OPEN) == 0, _number(_IS_WON) > 0))
_FREE = _BY_MESSAGE.having(_number(_IS_BUSY) == 0)
_INSERT_ATTEMPTS = Bulk(lambda _: insert(attempts), attempts.c.keys())
_LOOK_AT = Bulk(
    lambda _: update(deliveries).where(deliveries.c.id == bindparam("b_id")).values(fallback_at=bindparam("b_at")),
    ("b_id", "b_at"),
)


@dataclass(slots=True)
class _Plan:
    """What to do for some chains: who ends and how, who becomes due and why, and when to look at the next."""

    ended: defaultdict[Ending, list[Any]] = field(default_factory=lambda: defaultdict[Ending, list[Any]](list))
    activated: list[tuple[Any, str]] = field(default_factory=list[tuple[Any, str]])
    look_at: dict[str, datetime | None] = field(default_factory=dict[str, datetime | None])

    def add(self, chain: Sequence[Any], now: datetime) -> None:
        """Decide about one chain, in the order of its targets."""
        standbys = [row for row in chain if row.state == DeliveryState.STANDBY]
        live = [row for row in chain if row.state in OPEN_STATES]
        if any(map(is_won, chain)):
            waiting = [row for row in live if row.state != DeliveryState.SENDING]
            self.ended[NOT_NEEDED] += [*standbys, *waiting]
        elif live:
            self._wait_or_take_over(live, standbys, now)
        elif any(map(_may_have_arrived, chain)):
            self.ended[UNCERTAIN] += standbys
        else:
            before = next((row for row in reversed(chain) if row.state != DeliveryState.STANDBY), None)
            self._take_over(standbys, _reason(before), now)

    def _wait_or_take_over(self, live: Sequence[Any], standbys: Sequence[Any], now: datetime) -> None:
        after = standbys[0].fallback_after if standbys else None
        moment = None if after is None else max(row.first_due_at for row in live) + timedelta(seconds=after)
        if moment is None or moment > now:
            self._look(standbys, moment)
        elif not any(map(_must_be_waited_for, live)):
            late = f"Not sent within {after} seconds: the next target took over"
            self.ended[Ending(DeliveryState.CANCELLED, FallbackCode.TIMEOUT, late, "cancelled")] += live
            self._take_over(standbys, f"The target before it was not reached within {after} seconds", now)

    def _take_over(self, standbys: Sequence[Any], reason: str, now: datetime) -> None:
        """The first whose `expiresAt` has not passed becomes due."""
        rest: list[Any] = []
        for row in standbys:
            is_late = row.expires_at is not None and row.expires_at <= now
            (self.ended[EXPIRED] if is_late else rest).append(row)
        if rest:
            self.activated.append((rest[0], reason))
            after = rest[0].fallback_after
            self._look(rest[1:], None if after is None else now + timedelta(seconds=after))

    def _look(self, standbys: Sequence[Any], moment: datetime | None) -> None:
        """Look at the first one then, and at those behind it when it is their turn."""
        for index, row in enumerate(standbys):
            wanted = None if index else moment
            if row.fallback_at != wanted:
                self.look_at[row.id] = wanted


def _must_be_waited_for(row: Any) -> bool:
    """Whether an open delivery cannot be ended just now: it is under way, or it must be found out what became of it.

    One that was sent in part is under way also between the parts.
    """
    if row.part_ids:
        return True
    if row.state == DeliveryState.RETRYING:
        return row.uncertain and row.on_uncertain == "fail"
    return row.state == DeliveryState.SENDING


def _may_have_arrived(row: Any) -> bool:
    """Whether a delivery that ended without being sent may have been taken, and must then not go out again."""
    ended = row.state in {DeliveryState.FAILED, DeliveryState.EXPIRED}
    return ended and row.uncertain and row.on_uncertain == "fail"


def _reason(before: Any | None) -> str:
    if before is None:
        return "It is its turn: all targets are tried again"
    return f"The target before it was not reached: {before.error_code or before.state}"


def _advance(connection: Connection, message_ids: Sequence[str], now: datetime) -> Advanced:
    """The transaction of `advance`."""
    chains: defaultdict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(_CHAINS, {"ids": list(message_ids)}):
        chains[row.message_id].append(row)
    plan = _Plan()
    for chain in chains.values():
        plan.add(sorted(chain, key=lambda row: row.fallback_rank), now)
    return _carry_out(connection, plan, now)


def _carry_out(connection: Connection, plan: _Plan, now: datetime) -> Advanced:
    changes = CountChanges()
    told: list[NewEvent] = []
    for how, rows in plan.ended.items():
        told += ending.end(connection, rows, how, now, changes)
    _activate(connection, plan, now, changes)
    _LOOK_AT.run(connection, [{"b_id": id_, "b_at": moment} for id_, moment in plan.look_at.items()])
    changes.apply(connection)
    append_to_kept(connection, told)
    return Advanced(
        activated=[
            Takeover(
                OpenDelivery.of_project(row, now, is_due=True),
                row.message_id,
                row.project_id,
                reason,
            )
            for row, reason in plan.activated
        ],
        ended=[row.id for rows in plan.ended.values() for row in rows if row.state != DeliveryState.STANDBY],
    )


def _activate(connection: Connection, plan: _Plan, now: datetime, changes: CountChanges) -> None:
    if not plan.activated:
        return
    for row, _ in plan.activated:
        changes.move(row.project_id, row.platform_id, row.platform, row.state, DeliveryState.QUEUED)
    is_chosen = deliveries.c.id.in_([row.id for row, _ in plan.activated])
    due = {"state": DeliveryState.QUEUED, "due_at": now, "first_due_at": now, "fallback_at": None}
    connection.execute(update(deliveries).where(is_chosen).values(due))
    _INSERT_ATTEMPTS.run(connection, [_timeline_row(row.id, reason, now) for row, reason in plan.activated])


def _timeline_row(delivery_id: str, reason: str, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "delivery_id": delivery_id,
        "number": 0,
        "outcome": "activated",
        "error_code": None,
        "error_message": reason,
        "reached": "no",
        "retry_at": now,
        "started_at": now,
        "finished_at": now,
    }

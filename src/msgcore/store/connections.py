"""Leases on live connections: who holds which, how far each is, and a fair share for each process.

All times are the database's own, so that processes whose clocks differ agree on when a lease ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import UpdateBase

from msgcore.store.bulk import Among, Bulk
from msgcore.store.database import Database
from msgcore.store.pauses import PausedBy
from msgcore.store.tables import connection_holders, connections, project_platforms
from msgcore.store.tables.base import Id, Json, UtcDateTime
from msgcore.store.tables.connections import IS_WANTED
from msgcore.store.tables.platforms import IS_OF_PAUSED_PROJECT

JUDGED_AT_ONCE = 500
"""Accounts that are looked into in one transaction: each is decrypted."""
TAKEN_AT_ONCE = 500
"""Connections that a process takes at a time: each is a log-in somewhere."""
LEFT_SECONDS = 4.0
"""How long a connection is left to those who have less than their share, before any process takes it."""
FORGOTTEN_SECONDS = 60.0
"""After which a process that ended is no longer listed."""

_HAS_CHANGED = project_platforms.c.updated_at.is_distinct_from(connections.c.version)
# A pause after refused credentials is about sending, and those of receiving may be others.
_IS_PAUSED = and_(project_platforms.c.paused_at.is_not(None), project_platforms.c.paused_by != PausedBy.CREDENTIALS)
_MAY_BE_HELD = and_(IS_WANTED, project_platforms.c.is_active, not_(_IS_PAUSED), not_(IS_OF_PAUSED_PROJECT))
_WITH_PLATFORM = connections.join(project_platforms, project_platforms.c.id == connections.c.platform_id)


@dataclass(frozen=True, slots=True)
class Lease:
    """A connection that a process may hold: of which platform, and the account's `updated_at` as it is now."""

    platform: str
    version: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds now, by account id, and how many of them are more than its share."""

    leases: dict[str, Lease]
    surplus: int


def now_in(dialect: str, plus: float = 0.0) -> ColumnElement[Any]:
    """The database's time, or so many seconds later, as an `UtcDateTime` column has it."""
    if dialect == "sqlite":
        return literal_column(f"strftime('%Y-%m-%d %H:%M:%f000', 'now', '{plus:+.3f} seconds')")
    return literal_column(f"clock_timestamp() + interval '{plus:.3f} seconds'")


async def is_any_wanted(database: Database, platforms: Collection[str]) -> bool:
    """Whether there is anything to do: a connection that is wanted, or an account that nobody has looked into."""
    wanted = exists().where(IS_WANTED).select_from(connections)
    changed = (
        exists()
        .select_from(project_platforms.outerjoin(connections, project_platforms.c.id == connections.c.platform_id))
        .where(project_platforms.c.platform.in_(platforms), _HAS_CHANGED)
    )
    async with database.read() as connection:
        return bool(await connection.scalar(select(or_(wanted, changed))))


def judge(connection: Connection, platforms: Collection[str], is_wanted: Callable[[Row[Any]], bool]) -> None:
    """Note of accounts that are new or have changed whether they want a connection."""
    query = (
        select(project_platforms, IS_OF_PAUSED_PROJECT.label("project_paused"))
        .outerjoin(connections, project_platforms.c.id == connections.c.platform_id)
        .where(project_platforms.c.platform.in_(platforms), _HAS_CHANGED)
        .order_by(project_platforms.c.id)
        .limit(JUDGED_AT_ONCE)
        .with_for_update(read=True, key_share=True, of=project_platforms)  # else one may be deleted meanwhile
    )
    rows = connection.execute(query).all()
    _NOTE.run(connection, [{"id": row.id, "wanted": is_wanted(row), "seen": row.updated_at} for row in rows])


def beat(connection: Connection, holder: str, platforms: Collection[str], *, lease: float, most: int) -> Held:
    """Say that a process is there: renew all of its leases, and take what is its share of what is free.

    It takes those of `platforms` only: another version of MsgCore may know more.
    """
    dialect = connection.dialect.name
    until = now_in(dialect, lease)
    _be_listed(connection, holder, until)
    mine = select(connections.c.platform_id).where(connections.c.holder == holder)
    locked = mine.order_by(connections.c.platform_id).with_for_update()  # in one order, as `fence` does
    connection.execute(update(connections).where(connections.c.platform_id.in_(locked)).values(until=until))
    share = min(most, _share(connection))
    missing = share - len(_held_by(connection, holder))
    if missing > 0:
        _take(connection, holder, platforms, until, now_in(dialect), missing)
    else:
        _take(connection, holder, platforms, until, now_in(dialect, -LEFT_SECONDS), most - share + missing)
    leases = _held_by(connection, holder)
    return Held(leases, surplus=max(0, len(leases) - share))


def release(connection: Connection, holder: str, platform_ids: Sequence[str]) -> None:
    """Give up leases, so that another process can take them at once."""
    mine = select(connections.c.platform_id).where(
        connections.c.holder == holder, connections.c.platform_id.in_(platform_ids)
    )
    locked = mine.order_by(connections.c.platform_id).with_for_update()
    free = update(connections).where(connections.c.platform_id.in_(locked))
    connection.execute(free.values(holder=None, until=now_in(connection.dialect.name)))


def leave(connection: Connection, holder: str) -> None:
    """Give up all leases: the process ends."""
    release(connection, holder, list(_all_of(connection, holder)))
    connection.execute(delete(connection_holders).where(connection_holders.c.id == holder))


async def read_state(database: Database, platform_id: str) -> Any:
    """How far an account's connection is; None if it never was."""
    query = select(connections.c.state).where(connections.c.platform_id == platform_id)
    async with database.read() as connection:
        return await connection.scalar(query)


def fence(connection: Connection, holder: str, platform_ids: Collection[str]) -> set[str]:
    """Which of these connections the process still holds; nobody takes them until the transaction ends."""
    arguments = {"ids": sorted(platform_ids), "b_holder": holder}
    return set(connection.execute(_FENCE, arguments).scalars())


def keep_states(connection: Connection, states: Sequence[tuple[str, Any]]) -> None:
    """Note how far connections are: pairs of an account's id and its state."""
    _KEEP_STATE.run(connection, [{"b_id": platform_id, "b_state": state} for platform_id, state in states])


def _note(dialect: str) -> UpdateBase:
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(connections)
    values: dict[str, Any] = {
        "platform_id": bindparam("id", type_=Id()),
        "is_wanted": bindparam("wanted"),
        "version": bindparam("seen", type_=UtcDateTime()),
        "until": now_in(dialect),
    }
    given = statement.excluded
    return statement.values(values).on_conflict_do_update(
        index_elements=["platform_id"], set_={"is_wanted": given.is_wanted, "version": given.version}
    )


_NOTE = Bulk(_note, ("id", "wanted", "seen"))
_FENCE = (
    select(connections.c.platform_id)
    .where(Among(connections.c.platform_id), connections.c.holder == bindparam("b_holder", type_=Id()))
    .order_by(connections.c.platform_id)
    .with_for_update()
)
_KEEP_STATE = Bulk(
    lambda _: (
        update(connections)
        .where(connections.c.platform_id == bindparam("b_id", type_=Id()))
        .values(state=bindparam("b_state", type_=Json()))
    ),
    ("b_id", "b_state"),
)


def _be_listed(connection: Connection, holder: str, until: ColumnElement[Any]) -> None:
    dialect = connection.dialect.name
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(connection_holders)
    listed = statement.values(id=holder, until=until)
    connection.execute(listed.on_conflict_do_update(index_elements=["id"], set_={"until": until}))
    gone = select(connection_holders.c.id).where(connection_holders.c.until < now_in(dialect, -FORGOTTEN_SECONDS))
    gone = gone.with_for_update(skip_locked=True)
    connection.execute(delete(connection_holders).where(connection_holders.c.id.in_(gone)))


def _share(connection: Connection) -> int:
    """How many connections each of the processes that are there should hold."""
    wanted = select(func.count()).select_from(_WITH_PLATFORM).where(_MAY_BE_HELD).scalar_subquery()
    there = (
        select(func.count())
        .select_from(connection_holders)
        .where(connection_holders.c.until > now_in(connection.dialect.name))
        .scalar_subquery()
    )
    connections_wanted, processes = connection.execute(select(wanted, there)).one()
    return -(-connections_wanted // max(1, processes))


def _held_by(connection: Connection, holder: str) -> dict[str, Lease]:
    columns = (project_platforms.c.id, project_platforms.c.platform, project_platforms.c.updated_at)
    query = select(*columns).select_from(_WITH_PLATFORM).where(connections.c.holder == holder, _MAY_BE_HELD)
    return {row.id: Lease(row.platform, row.updated_at) for row in connection.execute(query)}


def _all_of(connection: Connection, holder: str) -> Sequence[str]:
    return connection.execute(select(connections.c.platform_id).where(connections.c.holder == holder)).scalars().all()


def _take(
    connection: Connection,
    holder: str,
    platforms: Collection[str],
    until: ColumnElement[Any],
    free_since: ColumnElement[Any],
    number: int,
) -> None:
    if number <= 0:
        return
    free = (
        select(connections.c.platform_id)
        .select_from(_WITH_PLATFORM)
        .where(_MAY_BE_HELD, project_platforms.c.platform.in_(platforms), connections.c.until <= free_since)
        .order_by(connections.c.until)
        .limit(min(number, TAKEN_AT_ONCE))
        .with_for_update(of=connections, skip_locked=True)
    )
    taken = update(connections).where(connections.c.platform_id.in_(free))
    connection.execute(taken.values(holder=holder, until=until))

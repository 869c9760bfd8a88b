"""The audit log: who changed what, and from where. It is only ever appended to: triggers refuse all else.

Old entries may go, those from before the moment that `system_state` has as `audit_kept_from`. `purge` sets it in
the transaction in which it deletes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import to_iso
from msgcore.core.ids import earliest_id, new_id
from msgcore.core.origin import Origin, current_origin
from msgcore.core.scopes import Principal
from msgcore.store.database import Database
from msgcore.store.purging import purge_by_id
from msgcore.store.system_state import put_state
from msgcore.store.tables import api_keys, audit_logs, users

Actor: TypeAlias = Principal | Literal["anonymous"] | None
"""Who does it. None is the operator, on the command line; `anonymous` is a request that nobody signed in for."""

MOST_BYTES = 16 * 1024
"""Of what `before` or `after` may hold; of more, only the names are kept."""


_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_LONGEST_ADDRESS = 45
_LONGEST_AGENT = 512
_KEPT_FROM = "audit_kept_from"
_LISTS_OF_NAMES = frozenset({"fields", "tooLong"})
_LONGEST_CHANGE = timedelta(hours=1)
"""An entry's id is made when it is written: after its `created_at`, when the change began, but not longer after."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What is to be written down.

    `action` is `<subject>.<verb>` (`api_key.revoked`). `before` and `after` hold what changed, never a secret; they are
    written as `as_told` has them, so that what the API has should be called as there.
    Make it where the request is known: its `origin` is that of the task that makes it.
    """

    actor: Actor
    action: str
    subject_id: str | None
    project_id: str | None
    now: datetime
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    origin: Origin = field(default_factory=current_origin)

    def row(self) -> dict[str, Any]:
        """As the table has it."""
        origin = self.origin
        kind = self.actor if isinstance(self.actor, str) else "operator" if self.actor is None else self.actor.kind
        return {
            "id": new_id(),
            "project_id": self.project_id,
            "actor_kind": kind,
            "actor_id": self.actor.id if isinstance(self.actor, Principal) else None,
            "action": self.action,
            "subject_type": self.action.partition(".")[0],
            "subject_id": self.subject_id,
            "before": _bounded(as_told(self.before)),
            "after": _bounded(as_told(self.after)),
            "ip_address": origin.address and origin.address[:_LONGEST_ADDRESS],
            "user_agent": origin.user_agent and origin.user_agent[:_LONGEST_AGENT],
            "request_id": origin.request_id,
            "created_at": self.now,
        }


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; None leaves a condition out. `since` and `until` are both inclusive."""

    project_id: str | None = None
    action: str | None = None
    actor_id: str | None = None
    subject_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL; times also as bounds of ids, which is what the indexes are sorted by."""
        table = audit_logs.c
        chosen = {
            table.project_id: self.project_id,
            table.action: self.action,
            table.actor_id: self.actor_id,
            table.subject_id: self.subject_id,
        }
        conditions: list[ColumnElement[bool]] = [
            column == value for column, value in chosen.items() if value is not None
        ]
        if self.since is not None:
            conditions += [table.id >= _id_of(self.since), table.created_at >= self.since]
        if self.until is not None:
            conditions += [table.id < _id_of(self.until, later=_LONGEST_CHANGE), table.created_at <= self.until]
        return conditions


def as_told(document: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What changed as the API tells it: our names in camelCase, times in its form, and all within as callers made it.

    What is so already stays: entries are written like this, and read like this for the sake of earlier ones.
    """
    if document is None:
        return None
    told = {_camel(name): to_iso(value) if isinstance(value, datetime) else value for name, value in document.items()}
    return told | {name: [_camel(each) for each in told[name]] for name in _LISTS_OF_NAMES & told.keys()}


async def record_audit(
    connection: AsyncConnection,
    actor: Actor,
    action: str,
    subject_id: str | None,
    *,
    project_id: str | None,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write one entry, in the transaction of the change itself. See `AuditEntry`.

    What concerns no project (signing in, say) has None as `project_id`.
    """
    entry = AuditEntry(actor, action, subject_id, project_id, now, before, after)
    await connection.execute(insert(audit_logs).values(entry.row()))


async def record_all(connection: AsyncConnection, entries: Sequence[AuditEntry]) -> None:
    """The same for several entries."""
    if entries:
        await connection.execute(insert(audit_logs), [entry.row() for entry in entries])


def write_audit(connection: Connection, entry: AuditEntry, **counted: int) -> None:
    """The same over a plain connection, for transactions that run on another thread.

    `counted` is what only the transaction knows; it is added to `before`.
    """
    if counted:
        entry = replace(entry, before=(entry.before or {}) | counted)
    connection.execute(insert(audit_logs).values(entry.row()))


async def find_last(connection: AsyncConnection, chosen: AuditFilter) -> datetime | None:
    """The latest moment of these entries."""
    return await connection.scalar(select(func.max(audit_logs.c.created_at)).where(*chosen.conditions()))


async def list_audit(
    connection: AsyncConnection, chosen: AuditFilter, *, limit: int, before: str | None
) -> Sequence[Row[Any]]:
    """A page, newest first, of entries with ids below `before`.

    `actor_name` is the key's name or the user's e-mail address, while there is such a one.
    """
    key_name = select(api_keys.c.name).where(api_keys.c.id == audit_logs.c.actor_id).scalar_subquery()
    email = select(users.c.email).where(users.c.id == audit_logs.c.actor_id).scalar_subquery()
    query = select(audit_logs, func.coalesce(key_name, email).label("actor_name")).where(*chosen.conditions())
    if before is not None:
        query = query.where(audit_logs.c.id < before)
    return (await connection.execute(query.order_by(audit_logs.c.id.desc()).limit(limit))).all()


async def purge(database: Database, before: datetime) -> int:
    """Delete up to 5,000 entries from before a moment; returns how many, to be called while any were."""
    async with database.write() as connection:
        # As the triggers compare it: SQLite as text, PostgreSQL as a time in UTC.
        moment = before.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        await put_state(connection, _KEPT_FROM, moment)
        return await purge_by_id(connection, audit_logs, before)


def _id_of(moment: datetime, *, later: timedelta = timedelta(0)) -> str:
    """The smallest id of a moment, which callers choose, and which may be one that ids cannot tell."""
    return earliest_id(min(max(moment, _EARLIEST), _LATEST) + later)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _bounded(document: dict[str, Any] | None) -> dict[str, Any] | None:
    if document is None or len(msgspec.json.encode(document)) <= MOST_BYTES:
        return document
    return {"tooLong": sorted(document)}

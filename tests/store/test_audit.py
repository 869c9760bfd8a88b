"""The audit log: only appended to, but for what is old; written in the change's transaction, and from where."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from msgcore.core.ids import earliest_id, new_id
from msgcore.core.origin import Origin, set_origin
from msgcore.core.scopes import Principal
from msgcore.store.audit import MOST_BYTES, AuditEntry, purge, record_audit, write_audit
from msgcore.store.database import Database
from msgcore.store.tables import audit_logs

NOW = datetime.now(UTC)
ANN = Principal("jwt", new_id())

FORBIDDEN = {
    "sqlite": (
        "UPDATE audit_logs SET action = 'forged'",
        "DELETE FROM audit_logs",
        "REPLACE INTO audit_logs SELECT * FROM audit_logs",
    ),
    "postgresql": (
        "UPDATE audit_logs SET action = 'forged'",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs",
        "TRUNCATE audit_logs, system_state CASCADE",
    ),
}


def entry(**other: Any) -> AuditEntry:
    return AuditEntry(**{"actor": ANN, "action": "x.done", "subject_id": "s", "project_id": "shop", "now": NOW} | other)


def row(moment: datetime) -> dict[str, Any]:
    return entry(now=moment).row() | {"id": earliest_id(moment)}


async def kept(database: Database) -> list[Any]:
    async with database.read() as connection:
        return list((await connection.execute(select(audit_logs).order_by(audit_logs.c.id))).all())


async def change(database: Database, work: Callable[[Connection], Any]) -> None:
    await database.transact(work)


async def test_entries_stay_as_they_are_until_they_are_old(database: Database) -> None:
    moments = [NOW - timedelta(days=days) for days in (400, 399, 10)]
    await change(database, lambda connection: connection.execute(audit_logs.insert(), [row(at) for at in moments]))
    before = await kept(database)

    async def nothing_else_works() -> None:
        for statement in FORBIDDEN[database.kind]:
            with pytest.raises(DBAPIError, match="only appended to"):
                await change(database, lambda connection, statement=statement: connection.execute(text(statement)))

    await nothing_else_works()
    assert await kept(database) == before
    assert [await purge(database, NOW - timedelta(days=365)) for _ in range(2)] == [2, 0]
    await nothing_else_works()
    assert await kept(database) == before[2:]
    # A longer time holds from then on, also for what a shorter one would have let go.
    await change(database, lambda connection: connection.execute(audit_logs.insert(), [row(moments[0])]))
    assert await purge(database, NOW - timedelta(days=3650)) == 0
    await nothing_else_works()


async def test_an_entry_knows_its_request_on_whichever_thread_it_is_written(database: Database) -> None:
    set_origin(Origin("192.0.2.7", "curl/8 " + "x" * 600, "r-1"))
    made, huge = (
        entry(before={"days": 3}),
        entry(after={"settings": "x" * MOST_BYTES, "is_default": True}, actor="anonymous"),
    )

    def work(connection: Connection) -> None:
        write_audit(connection, made, count=5)
        write_audit(connection, huge)

    await change(database, work)
    set_origin(Origin())
    async with database.write() as connection:
        await record_audit(connection, None, "y.done", None, project_id=None, now=NOW)
    first, second, third = await kept(database)
    assert (first.ip_address, first.user_agent[:7], len(first.user_agent)) == ("192.0.2.7", "curl/8 ", 512)
    assert (first.request_id, first.actor_id, first.before) == ("r-1", ANN.id, {"days": 3, "count": 5})
    assert (second.actor_kind, second.actor_id, second.after) == (
        "anonymous",
        None,
        {"tooLong": ["isDefault", "settings"]},
    )
    assert (third.actor_kind, third.ip_address, third.request_id, third.subject_type) == ("operator", None, None, "y")


async def test_without_the_change_there_is_no_entry(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.write() as connection:
            await record_audit(connection, ANN, "x.done", "s", project_id="shop", now=NOW)
            raise ZeroDivisionError
    assert await kept(database) == []

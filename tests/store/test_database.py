"""URLs, transactions, and what column types keep, on both databases."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from msgcore.core.errors import StartupError
from msgcore.core.ids import new_id
from msgcore.store.database import GONE_AFTER, Database, database_url
from msgcore.store.tables import audit_logs, messages, system_state

NOW = datetime(2030, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)


def message(**columns: Any) -> dict[str, Any]:
    return {"id": new_id(), "project_id": "shop", "content": {}, "created_at": NOW, **columns}


async def count(database: Database) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(system_state)) or 0)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgresql+psycopg2://u:p@h:6/db?schema=public&connection_limit=5", "postgresql+asyncpg://u:p@h:6/db"),
        ("postgresql://u@h/db?sslmode=require", "postgresql+asyncpg://u@h/db?ssl=require"),
        ("postgresql://u@/db?host=/run/postgresql", "postgresql+asyncpg://u@/db?host=%2Frun%2Fpostgresql"),
        ("sqlite:////var/lib/m.db", "sqlite+aiosqlite:////var/lib/m.db"),
    ],
)
def test_urls_get_our_driver(given: str, used: str) -> None:
    assert database_url(given).render_as_string(hide_password=False) == used


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("nonsense", "is not a database URL"),
        ("postgresql://u:s3cret@h:port/db", "is not a database URL"),
        ("mysql://u:s3cret@h/db", "names 'mysql'"),
        ("postgresql://u:s3cret@h/db?pgbouncer=true", "unknown parameter 'pgbouncer'"),
        ("sqlite://", "no SQLite file"),
        ("sqlite:///:memory:", "no SQLite file"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "no SQLite file"),
    ],
)
def test_unusable_urls_are_explained_without_the_password(given: str, complaint: str) -> None:
    with pytest.raises(StartupError, match=complaint) as caught:
        Database.open(given)
    assert str(caught.value).startswith("MSGCORE_DATABASE_URL")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        datetime(2030, 1, 1, 12, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(1970, 1, 1, tzinfo=UTC),
    ],
)
async def test_moments_come_back_aware_in_utc(database: Database, moment: datetime) -> None:
    row = message(created_at=moment)
    async with database.write() as connection:
        await connection.execute(insert(messages), row)
        found = await connection.scalar(select(messages.c.created_at).where(messages.c.created_at == moment))
    assert found == moment
    assert found is not None
    assert found.utcoffset() == timedelta(0)


async def test_a_naive_moment_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="naive"):
        async with database.write() as connection:
            await connection.execute(insert(messages), message(created_at=datetime(2030, 1, 1)))  # noqa: DTZ001


@pytest.mark.parametrize(
    "document",
    [{}, [], {"text": "Grüße 🎉 \x00 \u2028", "n": [1, 2.5, None, True], "deep": {"a": [{}]}}, "text", 0, False],
)
async def test_documents_come_back_equal(database: Database, document: Any) -> None:
    row = message(content=document)
    async with database.write() as connection:
        await connection.execute(insert(messages), row)
        found = await connection.scalar(select(messages.c.content).where(messages.c.id == row["id"]))
    assert found == document
    assert type(found) is type(document)


async def test_no_document_is_null(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(messages), message(options=None))
        assert await connection.scalar(select(func.count()).where(messages.c.options.is_(None))) == 1


async def test_ids_come_back_as_canonical_text_and_sort_by_time(database: Database) -> None:
    ids = [new_id() for _ in range(50)]
    async with database.write() as connection:
        await connection.execute(insert(messages), [message(id=message_id) for message_id in reversed(ids)])
        found = list(await connection.scalars(select(messages.c.id).order_by(messages.c.id)))
    assert found == ids


async def test_a_big_number_fits(database: Database) -> None:
    row = {
        "id": new_id(),
        "actor_kind": "user",
        "action": "a",
        "subject_type": "s",
        "sequence": 2**62,
        "created_at": NOW,
    }
    async with database.write() as connection:
        await connection.execute(insert(audit_logs), row)
        assert await connection.scalar(select(audit_logs.c.sequence)) == 2**62


async def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.write() as connection:
            await connection.execute(insert(system_state), {"key": "a", "value": "1"})
            await connection.execute(text("CREATE TABLE extra (id INTEGER)"))
            await connection.execute(
                # The driver's own transactions overlook this form.
                text("WITH source AS (SELECT 'b' AS key, '1' AS value) INSERT INTO system_state SELECT * FROM source")
            )
            raise ZeroDivisionError
    assert await count(database) == 0
    with pytest.raises(DBAPIError, match="extra"):
        async with database.read() as connection:
            await connection.execute(text("SELECT * FROM extra"))


async def test_an_error_does_not_tell_what_was_to_be_stored(database: Database) -> None:
    row = {"key": "twice", "value": "planted"}

    async def insert_on_the_loop() -> None:
        async with database.write() as connection:
            await connection.execute(insert(system_state), row)

    async def insert_on_a_thread() -> None:
        await database.transact(lambda connection: connection.execute(insert(system_state), row))

    await insert_on_the_loop()
    for again in (insert_on_the_loop, insert_on_a_thread):
        with pytest.raises(IntegrityError) as caught:
            await again()
        assert "INSERT INTO system_state" in str(caught.value)
        assert "planted" not in str(caught.value)


async def test_a_cancelled_write_leaves_nothing_and_blocks_nobody(database: Database) -> None:
    begun = asyncio.Event()

    async def write() -> None:
        async with database.write() as connection:
            await connection.execute(insert(system_state), {"key": "a", "value": "1"})
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.write() as connection:
        await connection.execute(insert(system_state), {"key": "b", "value": "1"})
    assert await count(database) == 1


async def test_many_writers_at_once_all_get_through(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(system_state), {"key": "counter", "value": "0"})

    async def increment() -> None:
        async with database.write() as connection:
            query = select(system_state.c.value).where(system_state.c.key == "counter").with_for_update()
            value = int(str(await connection.scalar(query)))
            await connection.execute(system_state.update().values(value=str(value + 1)))

    await asyncio.gather(*(increment() for _ in range(40)))
    async with database.read() as connection:
        assert await connection.scalar(select(system_state.c.value)) == "40"


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(system_state), {"key": "a", "value": "1"})
        assert await count(database) == 0
    assert await count(database) == 1


async def test_sqlite_takes_the_write_lock_at_the_start(sqlite_url: str) -> None:
    """Another process cannot write between what a transaction reads and what it writes."""
    first, second = Database.open(sqlite_url), Database.open(sqlite_url)

    async def write_second() -> None:
        async with second.write() as connection:
            await connection.execute(system_state.update().values(value="second"))

    async with first.write() as connection:
        await connection.execute(insert(system_state), {"key": "a", "value": "0"})
    async with first.write() as connection:
        await connection.scalar(select(system_state.c.value))
        other = asyncio.create_task(write_second())
        done, _ = await asyncio.wait([other], timeout=0.1)
        assert not done
        await connection.execute(system_state.update().values(value="first"))
    await other
    async with first.read() as connection:
        assert await connection.scalar(select(system_state.c.value)) == "second"
    await first.close()
    await second.close()


async def test_sqlite_refuses_to_write_where_only_reading_is_meant(sqlite_url: str) -> None:
    database = Database.open(sqlite_url)
    with pytest.raises(DBAPIError, match="readonly"):
        async with database.read() as connection:
            await connection.execute(insert(system_state), {"key": "a", "value": "1"})
    await database.close()


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_sqlite_pragmas_hold_on_every_connection(sqlite_url: str, synchronous: str, level: int) -> None:
    database = Database.open(sqlite_url, synchronous=synchronous)
    for way in (database.read, database.write):
        async with way() as connection:
            assert await connection.scalar(text("PRAGMA journal_mode")) == "wal"
            assert await connection.scalar(text("PRAGMA synchronous")) == level
            assert await connection.scalar(text("PRAGMA foreign_keys")) == 1
    await database.close()


async def test_a_server_that_went_without_a_word_is_noticed(postgres_url: str) -> None:
    """Whoever waits for its answer would do so for ever: neither the driver nor the system asks by itself."""
    database = Database.open(postgres_url)
    async with database.read() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        server = driver._transport.get_extra_info("socket")
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for name, value in GONE_AFTER.items():
            option = getattr(socket, name, None)
            assert option is None or server.getsockopt(socket.IPPROTO_TCP, option) == value
    await database.close()

"""Migrations on both databases: empty and filled, at once, interrupted, of other versions, and unreachable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from msgcore.core.errors import StartupError
from msgcore.store import migrate
from msgcore.store.database import Database
from msgcore.store.migrate import current, require_current, upgrade
from msgcore.store.partitions import ensure_partitions
from msgcore.store.tables import metadata
from servers.gateway import free_port
from servers.patience import PATIENCE
from servers.postgres import PostgresServer
from store.revisions import NOW, Rows, fill, future_config, rows, upgrade_to

FIRST = "0001"
REVISIONS = [
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0010",
    "0011",
    "0020",
    "0021",
    "0022",
    "0023",
]

UPGRADE = """
import asyncio, sys
from msgcore.store.database import Database
from msgcore.store.migrate import upgrade
async def main():
    database = Database.open(sys.argv[1])
    sys.stdin.readline()
    print(await upgrade(database))
    await database.close()
asyncio.run(main())
"""


async def index_definitions(database: Database) -> dict[str, str]:
    query = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }[database.kind]
    async with database.read() as connection:
        found = await connection.execute(text(query))
        return {name: definition for name, definition in found if "_default" not in name and "alembic" not in name}


async def table_names(database: Database) -> set[str]:
    async with database.read() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_an_empty_database_gets_every_revision_once(empty_database_url: str) -> None:
    database = Database.open(empty_database_url)
    assert await current(database) is None
    applied = await upgrade(database)
    assert applied[0] == FIRST
    assert await upgrade(database) == []
    assert await current(database) == applied[-1]
    await require_current(database)
    assert metadata.tables.keys() <= await table_names(database)
    await database.close()


async def test_revisions_make_what_the_tables_say(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        def is_no_partition(name: str | None, kind: str, _parents: object) -> bool:
            return kind != "table" or not (name or "").endswith("_default")

        context = MigrationContext.configure(connection, opts={"include_name": is_no_partition, "compare_type": True})
        return compare_metadata(context, metadata)

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_revisions_make_the_same_indexes(database: Database, empty_database_url: str) -> None:
    """Alembic does not compare the conditions of partial indexes."""
    modelled = Database.open(empty_database_url)
    if modelled.kind == database.kind:
        async with modelled.write() as connection:
            await connection.run_sync(metadata.create_all)
        assert await index_definitions(database) == await index_definitions(modelled)
    await modelled.close()


async def test_a_filled_database_keeps_every_row(empty_database_url: str) -> None:
    """From the first revision to the newest one."""
    database = Database.open(empty_database_url)
    await upgrade_to(database, FIRST)
    await ensure_partitions(database, NOW)
    await fill(database)
    before = await rows(database)
    await upgrade(database)
    assert_kept(before, await rows(database))
    assert all(len(before[table]) == 2 for table in before if table in metadata.tables)
    await require_current(database)
    await database.close()


async def test_the_next_revision_keeps_every_row(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_partitions(database, NOW)
    await fill(database)
    before = await rows(database)
    config = future_config(tmp_path)
    monkeypatch.setattr(migrate, "_config", lambda: config)
    with pytest.raises(StartupError, match="run: msgcore migrate"):
        await require_current(database)
    assert await upgrade(database) == ["next"]
    await require_current(database)
    after = await rows(database)
    assert_kept(before, after)
    assert [row["note"] for row in after["deliveries"]] == ["old", "old"]


async def test_a_revision_that_fails_leaves_nothing_behind(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database)
    before = await rows(database)
    config = future_config(tmp_path, then="raise ZeroDivisionError")
    monkeypatch.setattr(migrate, "_config", lambda: config)
    with pytest.raises(ZeroDivisionError):
        await upgrade(database)
    assert await rows(database) == before
    assert await current(database) == REVISIONS[-1]
    assert "notes" not in await table_names(database)


def test_two_processes_at_once_apply_each_revision_once(empty_database_url: str) -> None:
    command = [sys.executable, "-c", UPGRADE, empty_database_url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [error for _, error in answers] == ["", ""]
    assert sorted(output.strip() for output, _ in answers) == [str(REVISIONS), "[]"]


async def test_a_database_that_is_behind_is_refused(empty_database_url: str) -> None:
    database = Database.open(empty_database_url)
    with pytest.raises(StartupError, match=r"^the database is not up to date; run: msgcore migrate$"):
        await require_current(database)
    assert await table_names(database) == set()
    await database.close()


async def test_a_newer_database_is_refused_and_not_touched(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    for start in (require_current, upgrade):
        with pytest.raises(StartupError, match=r"newer version \(0999\) than this MsgCore; install the newer MsgCore"):
            await start(database)
    assert await current(database) == "0999"


async def test_somebody_elses_database_is_refused_and_not_touched(empty_database_url: str) -> None:
    database = Database.open(empty_database_url)
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE users (name TEXT)"))
    with pytest.raises(StartupError, match="table 'users' that MsgCore did not make"):
        await upgrade(database)
    assert await table_names(database) == {"users"}
    await database.close()


async def refusal(url: str) -> str:
    database = Database.open(url)
    messages: set[str] = set()
    for use in (upgrade, current, require_current):
        with pytest.raises(StartupError) as caught:
            await use(database)
        messages.add(str(caught.value))
    await database.close()
    (message,) = messages
    assert "\n" not in message
    return message


async def test_a_server_that_is_away_is_named_without_the_password() -> None:
    port = free_port()
    message = await refusal(f"postgresql://ann:s3cret@127.0.0.1:{port}/db")
    assert message.startswith(f"MSGCORE_DATABASE_URL: cannot connect to 127.0.0.1:{port}: ")
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("user", "query", "reason"),
    [
        ("postgres", "", 'database "missing" does not exist'),
        ("nobody", "", 'role "nobody" does not exist'),
        ("postgres", "?sslmode=require", "SSL"),
        ("postgres", "?sslmode=bogus", "sslmode"),
    ],
)
async def test_a_server_that_refuses_is_quoted_without_the_password(
    postgres_server: PostgresServer, user: str, query: str, reason: str
) -> None:
    message = await refusal(f"postgresql://{user}:s3cret@127.0.0.1:{postgres_server.port}/missing{query}")
    assert message.startswith("MSGCORE_DATABASE_URL: cannot connect to 127.0.0.1:")
    assert reason in message
    assert "s3cret" not in message


async def test_a_sqlite_file_that_cannot_be_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing/msgcore.db"
    assert f"cannot open the database {missing}: unable to open" in await refusal(f"sqlite:///{missing}")
    text_file = tmp_path / "notes.txt"
    text_file.write_text("not a database, but a text that is long enough to be taken for one" * 20)
    assert "file is not a database" in await refusal(f"sqlite:///{text_file}")
    assert text_file.read_text().startswith("not a database")


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may write everywhere: be nobody meanwhile."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.fixture
def read_only_sqlite(migrated_sqlite: Path) -> Iterator[Path]:
    """A migrated file that everybody may read and nobody may write."""
    folder = Path(tempfile.mkdtemp(prefix="msgcore-"))
    path = folder / "msgcore.db"
    shutil.copy(migrated_sqlite, path)
    path.chmod(0o444)
    folder.chmod(0o555)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


async def test_a_read_only_sqlite_file_is_named(read_only_sqlite: Path, unprivileged: None) -> None:
    del unprivileged
    before = read_only_sqlite.read_bytes()
    message = await refusal(f"sqlite:///{read_only_sqlite}")
    assert message.startswith(f"cannot open the database {read_only_sqlite}: ")
    assert "must be able to write the file" in message
    assert read_only_sqlite.read_bytes() == before


def assert_kept(before: Rows, after: Rows) -> None:
    for table, old in before.items():
        if table == "alembic_version":
            continue
        kept = [{name: row[name] for name in old[0] if name in row} for row in after[table]] if old else []
        assert sorted(map(str, kept)) == sorted(map(str, old)), table

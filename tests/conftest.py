"""Databases for every test: SQLite files and a real PostgreSQL, both migrated once and then copied."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CalledProcessError
from uuid import uuid4

import pytest

from msgcore.store.database import Database
from msgcore.store.migrate import upgrade
from servers.gateway import GatewayProcess
from servers.ntfy import NtfyServer, program
from servers.postgres import PostgresServer
from servers.processes import fork
from servers.reused_database import ReusedDatabase
from servers.synapse import SynapseServer

GatewayProcess.start_process = staticmethod(fork)

MIGRATED = "migrated"


SLOW_FIRST = ("e2e", "faults", "cli", "api", "dispatch")
"""The folders whose files take long: begun last, they would be waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files so that no worker ends long after the others."""

    def place(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=place)


def migrate(url: str) -> None:
    """Bring a database up to date, from outside of any event loop."""

    async def run() -> None:
        database = Database.open(url)
        try:
            await upgrade(database)
        finally:
            await database.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The PostgreSQL of this test process. A test that restarts or kills one starts its own."""
    with PostgresServer(fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def ntfy() -> Iterator[NtfyServer]:
    """The ntfy server of this test process; tests take topics of their own."""
    try:
        program()
    except (RuntimeError, OSError, CalledProcessError) as error:
        pytest.skip(f"no ntfy server can be had here: {error}")
    with NtfyServer() as server:
        yield server


@pytest.fixture(scope="session")
def synapse_server() -> Iterator[SynapseServer]:
    """The Matrix homeserver of this test process. Tests register users of their own."""
    with SynapseServer() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """The name of a migrated database to copy."""
    migrate(postgres_server.create_database(MIGRATED))
    return MIGRATED


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/msgcore.db"


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a fresh, migrated SQLite file."""
    return f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'msgcore.db')}"


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database without tables."""
    name = f"test_{uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def reused_postgres(postgres_server: PostgresServer, migrated_postgres: str) -> ReusedDatabase:
    """A migrated PostgreSQL database, lent to one test after the other."""
    return ReusedDatabase(postgres_server, migrated_postgres)


@pytest.fixture
def postgres_url(reused_postgres: ReusedDatabase) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database that is as new."""
    with reused_postgres.lend() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh, migrated database; the test runs once on each kind."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return request.getfixturevalue(fixture)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables; the test runs once on each kind."""
    fixture = {"sqlite": "empty_sqlite_url", "postgresql": "empty_postgres_url"}[request.param]
    return request.getfixturevalue(fixture)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, migrated database; the test runs once on each kind."""
    opened = Database.open(database_url)
    yield opened
    await opened.close()

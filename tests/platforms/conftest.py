"""Fixtures of the platforms' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from msgcore.outbound.services import AdapterServices
from msgcore.store.database import Database
from servers.adapters import adapter_services
from servers.http_sink import HttpSink, http_sink
from servers.smtp import Certificate, make_certificate


@pytest.fixture
async def services(sqlite_url: str) -> AsyncIterator[AdapterServices]:
    """For adapters that do not use the database, or that need only one."""
    database = Database.open(sqlite_url)
    async with adapter_services(database) as made:
        yield made
    await database.close()


@pytest.fixture
async def sink() -> AsyncIterator[HttpSink]:
    """A local HTTP server."""
    async with http_sink() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A self-signed certificate for this machine."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")

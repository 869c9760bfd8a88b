"""What adapters need in tests: the real session, guard and loader, pointed at loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from msgcore.core.clock import SystemClock
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.services import AdapterServices
from msgcore.outbound.session import make_session
from msgcore.security.egress import EgressGuard
from msgcore.store.database import Database
from servers.http_sink import HttpSink, http_sink
from servers.smtp import Certificate, make_certificate

LOOPBACK = ("127.0.0.0/8", "::1")
LARGEST_ATTACHMENT = 8 * 1024 * 1024


@asynccontextmanager
async def adapter_services(database: Database) -> AsyncIterator[AdapterServices]:
    """Services as a running gateway makes them, allowed to reach loopback."""
    guard = EgressGuard(LOOPBACK)
    async with make_session(guard, limit=100) as session:
        yield AdapterServices(
            http=session,
            egress=guard,
            attachments=AttachmentLoader(session, guard, LARGEST_ATTACHMENT),
            database=database,
            clock=SystemClock(),
            base_urls={},
        )


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

"""What adapters need in tests: the real session, guard and loader, allowed to reach loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgcore.core.clock import SystemClock
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.services import AdapterServices
from msgcore.outbound.session import make_session
from msgcore.security.egress import EgressGuard
from msgcore.store.database import Database

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

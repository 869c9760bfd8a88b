"""What adapters need in tests: the real transport, guard and loader, allowed to reach loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgcore.core.clock import SystemClock
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.services import AdapterServices
from msgcore.security.egress import EgressGuard
from msgcore.security.links import AttachmentLinks
from msgcore.store.database import Database

LOOPBACK = ("127.0.0.0/8", "::1")
LARGEST_ATTACHMENT = 8 * 1024 * 1024


@asynccontextmanager
async def adapter_services(database: Database) -> AsyncIterator[AdapterServices]:
    """Services as a running gateway makes them, allowed to reach loopback."""
    guard = EgressGuard(LOOPBACK)
    async with open_transport(guard, limit=100) as transport:
        yield AdapterServices(
            http=transport,
            held_http=transport,
            egress=guard,
            attachments=AttachmentLoader(transport, LARGEST_ATTACHMENT),
            database=database,
            clock=SystemClock(),
            base_urls={},
        )


def attachment_links(seconds: int = 900) -> AttachmentLinks:
    """What signs addresses of files."""
    return AttachmentLinks("s" * 32, base_url="http://localhost:7890", seconds=seconds, clock=SystemClock())

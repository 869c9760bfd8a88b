"""What talks to platforms: to send, and to set up their webhooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from msgcore.app.shared import Shared
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import PlatformAdapter
from msgcore.platforms.event_webhook import EventWebhookAdapter
from msgcore.security.egress import EgressGuard


@dataclass(frozen=True, slots=True)
class Adapters:
    """One adapter for each platform and one for webhooks, and what they were given."""

    by_platform: Mapping[str, PlatformAdapter]
    services: AdapterServices

    @classmethod
    async def open(cls, shared: Shared, resources: AsyncExitStack, *, on_stored: Callable[[str], None]) -> Adapters:
        """`on_stored` is told the id of an account for which an adapter has stored something to be read."""
        settings = shared.settings
        guard = EgressGuard(settings.egress_allow)
        transport = await resources.enter_async_context(open_transport(guard, limit=max(100, settings.concurrency)))
        held = await resources.enter_async_context(open_transport(guard, limit=0))
        services = AdapterServices(
            http=transport,
            held_http=held,
            egress=guard,
            attachments=AttachmentLoader(transport, settings.max_attachment_bytes),
            database=shared.database,
            clock=shared.clock,
            base_urls=settings.platform_base_urls,
            on_stored=on_stored,
            refresh_event=shared.links.refresh_event,
        )
        resources.callback(services.long_texts.close)
        adapters = {
            **shared.registry.build(services),
            EventWebhookAdapter.declaration.name: EventWebhookAdapter(services),
        }
        for adapter in adapters.values():
            resources.push_async_callback(adapter.close)
        return cls(adapters, services)

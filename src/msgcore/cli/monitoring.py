"""The metrics port: metrics and health on an address of their own, also of a process without an API."""

from __future__ import annotations

import asyncio

from msgcore.app import Gateway
from msgcore.cli.http_server import Address, HttpServer, require_free
from msgcore.config import Settings

LAST_SECONDS = 1.0
"""How long a stop waits for whoever is still reading metrics."""


async def serve_monitoring(gateway: Gateway, settings: Settings) -> list[asyncio.Task[None]]:
    """Listen on the metrics port, if there is one, until the gateway is closed: a stop can be watched.

    Returns the tasks that serve. Raises StartupError when the address cannot be listened on.
    """
    where = Address.of_metrics(settings)
    if where is None:
        return []
    require_free(where)
    server = HttpServer(gateway.monitoring_api(), where)
    serving = await server.start()
    gateway.before_close(lambda: server.stop(LAST_SECONDS))
    return [serving]

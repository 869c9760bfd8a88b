"""MsgCore for any ASGI server: `uvicorn msgcore.asgi:app` is the same as `msgcore serve`.

The gateway is opened when the server starts the application's lifespan, and stopped when it ends
it. Run one process: the dispatch core of a database belongs to one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from msgcore.app import Gateway
from msgcore.cli.monitoring import serve_monitoring
from msgcore.config import load_settings
from msgcore.core.errors import StartupError
from msgcore.observability.logging import configure_logging

log = structlog.stdlib.get_logger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class GatewayApplication:
    """An ASGI application whose lifespan is that of a gateway."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection (asgi.readthedocs.io, specifications 2.x and lifespan 2.0)."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._gateway is None or self._gateway.asgi is None:
            raise RuntimeError("The server did not start the application's lifespan; turn it on")
        else:
            await self._gateway.asgi(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            settings = load_settings(os.environ)
            configure_logging(settings)
            self._gateway = await Gateway.open(settings)
            await serve_monitoring(self._gateway, settings)
            await self._gateway.start()
        except StartupError as error:
            await send({"type": "lifespan.startup.failed", "message": f"msgcore: {error}"})
            return
        watching = asyncio.create_task(self._gateway.watch(), name="watch")
        watching.add_done_callback(_end_process)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        watching.cancel()
        await self._gateway.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _end_process(watching: asyncio.Task[None]) -> None:
    """Ask the server to stop: an application cannot tell it anything after its start."""
    if not watching.cancelled():
        log.critical("stopping", reason=str(watching.exception()))
        signal.raise_signal(signal.SIGTERM)


app = GatewayApplication()

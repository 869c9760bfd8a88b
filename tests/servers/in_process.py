"""A gateway in the test's own process and event loop, behind its real HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from msgcore.app import Gateway
from msgcore.cli.http_server import Address, HttpServer
from msgcore.config import Settings
from msgcore.core.clock import Clock
from msgcore.core.scopes import ApiScope
from servers.api_client import ApiClient
from servers.gateway import free_port


@dataclass
class InProcess:
    """The gateway, where it listens, and who calls it."""

    gateway: Gateway
    url: str
    api: ApiClient

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A call that must succeed; its answer."""
        reply = await asyncio.to_thread(self.api.ask, method, path, body)
        assert reply.status in {200, 201, 204}, reply
        return reply.body

    async def set_up(self) -> str:
        """Sign up, and make the project `shop` and a key that may do everything in it, which calls from then on."""
        person = {"email": "ann@example.com", "password": "Passw0rd1", "name": "Ann"}
        self.api = self.api.as_user((await self.ask("POST", "auth/signup", person))["accessToken"])
        await self.ask("POST", "projects", {"id": "shop", "name": "Shop"})
        scopes = [scope.value for scope in ApiScope]
        key = str((await self.ask("POST", "projects/shop/keys", {"name": "k", "scopes": scopes}))["key"])
        self.api = self.api.as_key(key)
        return key

    async def add_sandbox(self) -> str:
        """The path where a new sandbox takes what happens on it."""
        sandbox = {"platform": "sandbox", "name": "box", "credentials": {}}
        made = await self.ask("POST", "projects/shop/platforms", sandbox)
        found = await self.ask("GET", f"projects/shop/platforms/{made['id']}")
        return str(found["webhookUrl"].partition("/api/v1/")[2])


@asynccontextmanager
async def in_this_process(
    settings: Settings, *, worker: bool = True, clock: Clock | None = None
) -> AsyncIterator[InProcess]:
    """Open, start and serve it; stop it."""
    gateway = await Gateway.open(settings, worker=worker, clock=clock)
    where = Address("127.0.0.1", free_port())
    server = HttpServer(gateway.asgi, where)
    await gateway.start()
    await server.start()
    try:
        yield InProcess(gateway, f"http://{where}", ApiClient(f"http://{where}", {}))
    finally:
        await gateway.begin_stop()
        await server.stop(1.0)
        await gateway.stop()

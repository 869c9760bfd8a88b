"""Noticing that a client has gone while its request is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from msgcore.api.access import ApiRequest


@asynccontextmanager
async def watching(request: ApiRequest) -> AsyncGenerator[Callable[[], bool]]:
    """Tells whether the client of a request, whose body was read, has gone."""
    watcher = asyncio.create_task(_departure(request))
    try:
        yield watcher.done
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


async def _departure(request: ApiRequest) -> None:
    while cast("dict[str, Any]", await request.receive())["type"] != "http.disconnect":
        pass

"""Reading what is left of the body of a request that is refused.

The HTTP server keeps a connection whose request was answered before its body had come, and now and then reads
nothing more from it: the next request there would wait for ever.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, cast

from litestar.types import Receive, Scope

LARGEST: Final = 64 * 1024
"""Bytes that are read for it. A connection with more to come is closed by the server."""

SECONDS: Final = 1.0
"""How long a refusal waits for them."""


async def read_rest(scope: Scope, receive: Receive) -> None:
    """Read a small body to its end."""
    if not 0 < _announced(scope) <= LARGEST:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            while cast("dict[str, Any]", await receive()).get("more_body"):
                pass


def _announced(scope: Scope) -> int:
    """The bytes of the body, as the request's head says."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0

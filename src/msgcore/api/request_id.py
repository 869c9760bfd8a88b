"""The id of a request: the caller's own if it is a sane one, else a new one; sent back in `X-Request-ID`."""

from __future__ import annotations

import re
from typing import Any, cast

from litestar.types import Message, Scope

from msgcore.core.ids import new_id

_HEADER = b"x-request-id"
_KEY = "msgcore.request_id"
_SANE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def request_id(scope: Scope) -> str:
    """The id of this request; the same at each call."""
    kept = cast("dict[str, Any]", scope)
    if _KEY not in kept:
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        kept[_KEY] = given.decode() if _SANE.fullmatch(given) else new_id()
    return kept[_KEY]


async def send_request_id(message: Message, scope: Scope) -> None:
    """Litestar's `before_send` hook: adds the header to every answer, whoever made it."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", ()), (_HEADER, request_id(scope).encode())]

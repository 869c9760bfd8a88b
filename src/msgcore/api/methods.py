"""Which methods an address has: what `Allow` says, and errors about it."""

from __future__ import annotations

import re
from typing import Any

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.routes import HTTPRoute
from litestar.types import Message, Scope


def allowed_methods(app: Litestar, path: str) -> list[str]:
    """The methods of the route that the router takes for the path of a request."""
    path = path.rstrip("/") or "/"
    methods: dict[tuple[bool, ...], set[str]] = {}
    for route in app.routes:
        pattern = re.sub(r"\\\{.+?\\\}", "[^/]+", re.escape(route.path_format))
        if isinstance(route, HTTPRoute) and re.fullmatch(pattern, path):
            # Where several match, it takes the one whose own words come first in place of parameters.
            parameters = tuple(part.startswith("{") for part in route.path_format.split("/"))
            methods.setdefault(parameters, set()).update(route.methods)
    return sorted(methods[min(methods)]) if methods else []


async def send_allowed(message: Message, scope: Scope) -> None:
    """Litestar's `before_send` hook: its own answers to OPTIONS know only of the first handler of an address."""
    if scope["type"] == ScopeType.HTTP and scope["method"] == "OPTIONS" and message["type"] == "http.response.start":
        headers: list[Any] = list(message.get("headers", ()))
        if any(name == b"allow" for name, _ in headers):
            allowed = ", ".join(allowed_methods(scope["litestar_app"], scope["path"])).encode()
            message["headers"] = [*(each for each in headers if each[0] != b"allow"), (b"allow", allowed)]

"""Headers that every answer has: what browsers must not do with it, whoever made it and whatever it holds.

Sources: the Fetch standard, Content Security Policy Level 3, and RFC 6797 for HSTS.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from litestar.types import ASGIApp, Receive, Scope, Send

from msgcore.api.session_guard import listed_origins
from msgcore.config import Settings

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # addresses hold ids, and those of webhooks a token
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),  # what CORS allows is not affected
    (b"cache-control", b"no-store"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
"""A year, and not for other names of the domain: those are not ours."""

_ALLOWED: Final = b"access-control-allow-origin"
_CREDENTIALS: Final = (b"access-control-allow-credentials", b"true")


class SecuredAnswers:
    """An ASGI application that adds them to each answer of `api`; what an answer has by itself stays as it is."""

    def __init__(self, api: ASGIApp, settings: Settings) -> None:
        self._api = api
        at = urlsplit(settings.api_url)
        # Not for a machine's own name, all of whose ports a browser would want https of.
        is_https = at.scheme == "https" and at.hostname != "localhost"
        self._headers = (*_HEADERS, _HSTS) if is_https else _HEADERS
        self._listed = listed_origins(settings)
        self._names = frozenset(name for name, _ in self._headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return

        def adding(message: Any) -> Any:
            if message["type"] == "http.response.start":
                own = message["headers"]
                names = [name for name, _ in own]
                more = self._headers
                if not self._names.isdisjoint(names):  # as few answers have
                    more = [header for header in more if header[0] not in names]
                if self._listed and _ALLOWED in names and own[names.index(_ALLOWED)][1] in self._listed:
                    more = [*more, _CREDENTIALS]  # pages that may use sessions; never with `*`
                message["headers"] = [*own, *more]
            return send(message)

        await self._api(scope, receive, adding)

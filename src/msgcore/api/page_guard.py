"""What pages of other sites may not ask for, where no credential is needed: to sign up or in, and to accept a link.

A page may send a request to any address that its visitor's browser reaches, also to the visitor's own machine. Without
this it could make itself the administrator of an installation that nobody has signed up at, or let the browsers of
visitors guess passwords. Programs send no `Origin` and are not concerned.

Sources: the Fetch standard, "`Origin` header" and "CORS-safelisted request-header"; Fetch Metadata Request Headers.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from litestar.config.cors import CORSConfig
from litestar.types import Scope

from msgcore.api.web_origin import OWN_SITES, header_of, is_called_at, own_scheme, web_origin
from msgcore.config import Settings
from msgcore.core.errors import ForbiddenError

_LOCALHOST: Final = "localhost"


class PageGuard:
    """Refuses what a browser sends from a page that is neither the gateway's, nor the dashboard's, nor allowed."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = CORSConfig(allow_origins=list(settings.cors_origins))
        known = (settings.api_url, settings.frontend_url or settings.api_url)
        self._own = frozenset(web_origin(url) for url in known)
        self._scheme = own_scheme(settings)
        self._host = urlsplit(settings.api_url).hostname

    def refuse_foreign(self, scope: Scope) -> None:
        """Raise ForbiddenError for what a page of another origin asks for."""
        origin = header_of(scope, b"origin")
        if not (self._is_known(scope, origin) or is_called_at(scope, origin, self._scheme)):
            raise _refusal(origin)

    def refuse_unproven(self, scope: Scope) -> None:
        """The same, where the host that the request names proves nothing.

        By rebinding a name of theirs to our address, others make their page one of the origin that we are called at. A
        literal address, `localhost` and the name in `MSGCORE_API_URL` are not theirs to rebind.
        """
        origin = header_of(scope, b"origin")
        proven = is_called_at(scope, origin, self._scheme) and self._is_of_safe_host(origin.decode("latin-1"))
        if not (proven or self._is_known(scope, origin)):
            raise _refusal(origin)

    def _is_known(self, scope: Scope, origin: bytes) -> bool:
        if not origin:
            return header_of(scope, b"sec-fetch-site") in OWN_SITES
        return origin in self._own or self._allowed.is_origin_allowed(origin.decode("latin-1"))

    def _is_of_safe_host(self, origin: str) -> bool:
        with suppress(ValueError):  # no URL, or a name and no address
            host = urlsplit(origin).hostname or ""
            return host in (_LOCALHOST, self._host) or bool(ip_address(host))
        return False


def _refusal(origin: bytes) -> ForbiddenError:
    shown = origin[:100].decode("latin-1") if origin else "another site"
    return ForbiddenError(
        f"Not for pages of {shown}: let MSGCORE_API_URL be this server's public address, or list the page's origin in "
        "MSGCORE_CORS_ORIGINS"
    )

"""Where a browser's request comes from: its `Origin`, and which origins are the gateway's own.

Sources: the Fetch standard, "`Origin` header"; Fetch Metadata Request Headers, "The Sec-Fetch-Site HTTP Request
Header".
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from litestar.types import Scope

from msgcore.config import Settings

OWN_SITES: Final = frozenset((b"same-origin", b"none", b""))
"""`Sec-Fetch-Site` of own pages, the address bar, and what is no browser. `same-site` are neighbours, not we."""

_PORTS: Final = {"http": 80, "https": 443}


def is_secure(settings: Settings) -> bool:
    """Whether the gateway is called by https."""
    return urlsplit(settings.api_url).scheme == "https" or settings.tls_cert is not None


def own_scheme(settings: Settings) -> bytes:
    """How the origins begin at which the gateway is called."""
    return b"https://" if is_secure(settings) else b"http://"


def web_origin(url: str) -> bytes:
    """The origin of a URL as browsers write it: in lower case, and without the scheme's own port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}".encode()


def is_called_at(scope: Scope, origin: bytes, scheme: bytes) -> bool:
    """Whether an origin is that at which this request calls the gateway, by the host that it names."""
    return origin == scheme + header_of(scope, b"host")


def header_of(scope: Scope, wanted: bytes) -> bytes:
    """The first header of this name, which is in lower case; empty if there is none."""
    return next((value for name, value in scope["headers"] if name == wanted), b"")

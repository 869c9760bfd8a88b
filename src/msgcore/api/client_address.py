"""The address that a request comes from: for limits, logs and the audit log alike.

Where proxies are trusted, `TrustedProxies` stands around the whole application and puts the caller's address in
the place of the proxy's; so everybody reads it from the scope, and nobody has to know of proxies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Network, ip_network
from typing import Any, Final, cast

from litestar.types import ASGIApp, Receive, Scope, Send

from msgcore.config import Settings
from msgcore.security.addresses import Address, parse_address

UNKNOWN: Final = "unknown"
"""The address of a caller whose server tells none, as on a Unix socket."""

_ONE_SITE: Final = 64
"""Bits of an IPv6 address that tell one network from another (RFC 6177): the rest its users choose as they like."""

_MOST_HOPS: Final = 32
_REMEMBERED: Final = 4096


def client_address(scope: Scope) -> str:
    """The caller's IP address, an IPv4 one in its short form; `unknown` where there is none."""
    client = cast("Any", scope).get("client")
    return _plain(client[0]) if client else UNKNOWN


@lru_cache(_REMEMBERED)
def address_group(address: str) -> str:
    """What to count an address by: an IPv4 address itself, and the /64 of an IPv6 one."""
    parsed = parse_address(address)
    if parsed is None or isinstance(parsed, IPv4Address):
        return address
    return str(IPv6Network((int(parsed), _ONE_SITE), strict=False))


def caller_group(scope: Scope) -> str:
    """What a request's caller is counted by."""
    return address_group(client_address(scope))


class TrustedProxies:
    """An ASGI application around all others that takes a trusted proxy's word for who calls."""

    def __init__(self, app: ASGIApp, networks: Sequence[str], header: str) -> None:
        """`header` is the one that these proxies write: `x-forwarded-for` or `forwarded`."""
        self._app = app
        self._networks = [ip_network(text) for text in networks]
        self._header = header.encode()
        self._hops = _forwarded_hops if header == "forwarded" else _plain_hops
        self._is_trusted = lru_cache(_REMEMBERED)(self._contains)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        kept = cast("dict[str, Any]", scope)
        client = kept.get("client")
        if client and self._is_trusted(client[0]):
            kept["client"] = (self._caller(client[0], kept["headers"]), 0)
        await self._app(scope, receive, send)

    def _caller(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The right-most address that no trusted proxy has. Each wrote down whom it heard from, on the right."""
        lines = [value.decode("latin-1") for name, value in headers if name == self._header]
        caller = peer
        for _, hop in zip(range(_MOST_HOPS), self._hops(",".join(lines)), strict=False):
            address = _address_of(hop)
            if address is None:  # `unknown`, an obfuscated name or nonsense: beyond that nothing is known
                break
            caller = str(address)
            if not self._is_trusted(caller):
                break
        return caller

    def _contains(self, text: str) -> bool:
        address = _address_of(text)
        return address is not None and any(address in network for network in self._networks)


def behind_trusted_proxies(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The application with callers' own addresses, as far as the settings trust anybody."""
    if not settings.trusted_proxies:
        return app
    return TrustedProxies(app, settings.trusted_proxies, settings.proxy_header)


def _plain_hops(line: str) -> Iterator[str]:
    """The elements of X-Forwarded-For, the last one first."""
    while line:
        line, _, hop = line.rpartition(",")
        yield hop.strip()


def _forwarded_hops(line: str) -> Iterator[str]:
    """The `for` of each element of Forwarded (RFC 7239), the last one first; empty where an element has none.

    No address has a comma or a semicolon, so a quoted string with one in it is nobody's address either way.
    """
    for element in _plain_hops(line):
        pairs = (pair.strip().partition("=") for pair in element.split(";"))
        yield next((value.strip().strip('"') for name, _, value in pairs if name.strip().lower() == "for"), "")


def _address_of(hop: str) -> Address | None:
    """The address of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`; an IPv4 one where it is one."""
    if hop.startswith("["):
        hop = hop.partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    address = parse_address(hop)
    mapped = None if address is None or isinstance(address, IPv4Address) else address.ipv4_mapped
    return mapped or address


@lru_cache(_REMEMBERED)
def _plain(text: str) -> str:
    return str(_address_of(text) or text)

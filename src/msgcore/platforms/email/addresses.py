"""E-mail addresses: which ones are taken, and how they go over the wire.

Syntax: RFC 5321 section 4.1.2 (dot-string local parts; quoted ones are refused), lengths section
4.5.3.1, non-ASCII local parts RFC 6531, non-ASCII domains IDNA 2008.
"""

from __future__ import annotations

import re
from functools import lru_cache

import idna

MAX_ADDRESS = 254
MAX_LOCAL = 64
EXAMPLE = "name@example.com"

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a1-\u1fff\u2030-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?!\d+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LITERAL = re.compile(r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|IPv6:[0-9A-Fa-f:.]{2,45})\]", re.ASCII)


@lru_cache(maxsize=10_000)
def wire_address(text: str) -> str | None:
    """The address with its domain in ASCII, as SMTP and headers carry it; None if it is not one."""
    local, at, domain = text.rpartition("@")
    if not at or not _LOCAL.fullmatch(local):
        return None
    ascii_domain = _wire_domain(domain)
    if ascii_domain is None:
        return None
    address = f"{local}@{ascii_domain}"
    if len(local.encode()) > MAX_LOCAL or len(address.encode()) > MAX_ADDRESS:
        return None
    return address


def _wire_domain(domain: str) -> str | None:
    if _LITERAL.fullmatch(domain) or domain == "localhost":
        return domain
    try:
        encoded = domain if domain.isascii() else idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return None
    return encoded if _DOMAIN.fullmatch(encoded.lower()) else None

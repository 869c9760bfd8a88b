"""Whose address a request has: the word of proxies is taken from those who are trusted, and from nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from msgcore.api.client_address import UNKNOWN, address_group, behind_trusted_proxies, client_address
from msgcore.api.origin import address_of
from msgcore.config import Settings

PROXY, INNER = "10.0.0.1", "10.0.0.2"
XFF, FORWARDED = "x-forwarded-for", "forwarded"

ADDRESSES = [
    ("a header of a stranger", PROXY, (), [(XFF, "192.0.2.9")], PROXY),
    ("no header", PROXY, ("10.0.0.0/8",), [], PROXY),
    ("one proxy", PROXY, ("10.0.0.0/8",), [(XFF, "192.0.2.9")], "192.0.2.9"),
    ("two proxies", PROXY, ("10.0.0.0/8",), [(XFF, f"192.0.2.9, {INNER}")], "192.0.2.9"),
    ("what the caller wrote itself", PROXY, ("10.0.0.0/8",), [(XFF, "198.51.100.1, 192.0.2.9")], "192.0.2.9"),
    ("in a header of its own", PROXY, ("10.0.0.0/8",), [(XFF, "198.51.100.1"), (XFF, "192.0.2.9")], "192.0.2.9"),
    ("the other header", PROXY, ("10.0.0.0/8",), [(FORWARDED, "for=198.51.100.1")], PROXY),
    ("a caller that is not behind the proxy", "192.0.2.7", ("10.0.0.0/8",), [(XFF, "198.51.100.1")], "192.0.2.7"),
    ("only trusted ones", PROXY, ("10.0.0.0/8",), [(XFF, f"10.0.0.9, {INNER}")], "10.0.0.9"),
    ("nonsense", PROXY, ("10.0.0.0/8",), [(XFF, f"192.0.2.9, unknown, {INNER}")], INNER),
    ("nothing between commas", PROXY, ("10.0.0.0/8",), [(XFF, "192.0.2.9,,")], PROXY),
    ("more hops than anybody has", PROXY, ("10.0.0.0/8",), [(XFF, "192.0.2.9" + f",{INNER}" * 99)], INNER),
    ("a port", PROXY, ("10.0.0.1/32",), [(XFF, "192.0.2.9:4711")], "192.0.2.9"),
    ("IPv6", "2001:db8::1", ("2001:db8::/64",), [(XFF, "2001:db8:1::A")], "2001:db8:1::a"),
    ("IPv6 with a port", "::1", ("::1/128",), [(XFF, "[2001:db8:1::a]:4711")], "2001:db8:1::a"),
    ("IPv4 in IPv6", "::ffff:10.0.0.1", ("10.0.0.0/8",), [(XFF, "::ffff:192.0.2.9")], "192.0.2.9"),
    ("an IPv4 caller on an IPv6 socket", "::ffff:192.0.2.9", (), [], "192.0.2.9"),
    ("a server that tells no address", None, ("10.0.0.0/8",), [(XFF, "192.0.2.9")], UNKNOWN),
]


async def seen(peer: str | None, networks: tuple[str, ...], headers: list[tuple[str, str]], header: Any = XFF) -> str:
    found: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(client_address(scope))
        assert (address_of(scope) or UNKNOWN) == found[0], "as the audit log has it"

    async def unused(*_: Any) -> Any:
        raise AssertionError

    scope: Any = {
        "type": "http",
        "client": None if peer is None else (peer, 4711),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    wrapped = behind_trusted_proxies(app, Settings(trusted_proxies=networks, proxy_header=header))
    await wrapped(scope, unused, unused)
    return found[0]


@pytest.mark.parametrize(
    ("peer", "networks", "headers", "expected"), [row[1:] for row in ADDRESSES], ids=[row[0] for row in ADDRESSES]
)
async def test_who_calls(
    peer: str | None, networks: tuple[str, ...], headers: list[tuple[str, str]], expected: str
) -> None:
    assert await seen(peer, networks, headers) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("for=192.0.2.9", "192.0.2.9"),
        ('For="192.0.2.9:4711";proto=https;by=203.0.113.4', "192.0.2.9"),
        ('proto=https; for="[2001:db8:1::a]:4711"', "2001:db8:1::a"),
        (f"for=198.51.100.1, for=192.0.2.9, for={INNER}", "192.0.2.9"),
        ('for="198.51.100.1, for=192.0.2.9', "192.0.2.9"),
        ("for=192.0.2.9, for=_hidden", PROXY),
        ("for=192.0.2.9, proto=https", PROXY),
    ],
)
async def test_the_standard_header(line: str, expected: str) -> None:
    headers = [(FORWARDED, line), (XFF, "203.0.113.77")]
    assert await seen(PROXY, ("10.0.0.0/8",), headers, FORWARDED) == expected


def test_ipv6_callers_are_counted_by_their_network() -> None:
    assert address_group("2001:db8:1:2:3::a") == address_group("2001:db8:1:2::") == "2001:db8:1:2::/64"
    assert address_group("2001:db8:1:3::a") != address_group("2001:db8:1:2::a")
    assert [address_group(text) for text in ("192.0.2.9", UNKNOWN)] == ["192.0.2.9", UNKNOWN]

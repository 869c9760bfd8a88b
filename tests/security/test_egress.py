"""The egress guard: every known way around an address check, against a listening server."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgcore.core.errors import DeliveryError, PermanentError, StartupError, TemporaryError
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.security.addresses import is_public, parse_address, reached_address
from msgcore.security.egress import EgressDeniedError, EgressGuard, url_problem
from servers.dns import FakeDns, addr_info

DENIED = [
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.255",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "168.63.129.16",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::127.0.0.1",
    "::10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "::ffff:0.0.0.0",
    "64:ff9b::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2002:7f00:0001::1",
    "2002:a00:1::",
    "2002:c0a8:1::1",
    "2002:a9fe:a9fe::",
    "2001::1",
    "2001:0:7f00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:10::1",
    "2001:20::1",
    "2001:2::1",
    "2001:db8::1",
    "3fff::1",
    "fe80::1",
    "fe80::1%eth0",
    "fe90::1",
    "febf::1",
    "fec0::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fdff::1",
    "ff02::1",
    "ff0e::1",
    "100::1",
    "5f00::1",
    "4000::1",
    "e000::1",
]

ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "126.255.255.255",
    "128.0.0.0",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]


@pytest.mark.parametrize("text", DENIED)
def test_addresses_that_are_not_public(text: str) -> None:
    with pytest.raises(EgressDeniedError) as raised:
        EgressGuard().check_address(text)
    assert raised.value.code == "egress_denied"
    assert text in raised.value.message
    assert "MSGCORE_EGRESS_ALLOW" in raised.value.message


@pytest.mark.parametrize("text", ALLOWED)
def test_addresses_that_are_public(text: str) -> None:
    EgressGuard().check_address(text)


@given(st.ip_addresses())
def test_nothing_that_python_knows_as_special_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    reached = reached_address(address)
    special = reached.is_private or reached.is_loopback or reached.is_link_local or reached.is_multicast
    if special or reached.is_reserved or reached.is_unspecified:
        assert not is_public(reached)


@given(st.ip_addresses(v=4))
def test_every_disguise_is_judged_like_the_address_behind_it(address: ipaddress.IPv4Address) -> None:
    guard, number = EgressGuard(), int(address)
    for disguise in ((0xFFFF << 32) | number, (0x2002 << 112) | (number << 80), (0x64FF9B << 96) | number):
        assert guard.allows(ipaddress.IPv6Address(disguise)) == guard.allows(address)


@dataclass
class Allows:
    allow: Sequence[str]
    allowed: Sequence[str]
    denied: Sequence[str]


ALLOW_LISTS = [
    Allows([], [], ["127.0.0.1", "::1"]),
    Allows(["", " "], [], ["127.0.0.1"]),
    Allows(["127.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.1"], ["127.0.0.2", "::1", "10.0.0.1"]),
    Allows(["127.0.0.0/8", " ::1 "], ["127.9.9.9", "::1"], ["10.0.0.1", "::2"]),
    Allows(["10.1.0.0/16"], ["10.1.2.3", "64:ff9b::10.1.2.3"], ["10.2.0.1"]),
    Allows(["fd00::/8"], ["fd12::1"], ["fc00::1", "fe80::1"]),
    Allows(["0.0.0.0/0"], ["127.0.0.1", "169.254.169.254"], ["::1"]),
]


@pytest.mark.parametrize("case", ALLOW_LISTS, ids=lambda case: ",".join(case.allow))
def test_the_allow_list(case: Allows) -> None:
    guard = EgressGuard(case.allow)
    for text in (*case.allowed, "8.8.8.8"):
        guard.check_address(text)
    for text in case.denied:
        with pytest.raises(EgressDeniedError):
            guard.check_address(text)


@pytest.mark.parametrize(
    "entry", ["localhost", "10.0.0.0/33", "10.0.0.1/8", "300.1.1.1", "fd00::/200", "*", "10.0.0.0-10.0.0.9"]
)
def test_a_bad_allow_entry_stops_the_start(entry: str) -> None:
    with pytest.raises(StartupError) as raised:
        EgressGuard(["127.0.0.1", entry])
    assert "MSGCORE_EGRESS_ALLOW" in str(raised.value)
    assert entry in str(raised.value)
    assert "\n" not in str(raised.value)


# --- connections: each form against a server that listens on every address of this machine


@dataclass
class Trap:
    """A listener that must never be reached."""

    port: int
    reached: asyncio.Event


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    reached = asyncio.Event()

    async def on_connection(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    server = await asyncio.start_server(on_connection, sock=listener)
    yield Trap(listener.getsockname()[1], reached)
    server.close()


LOCAL_HOSTS = [
    "127.0.0.1",
    "127.0.0.1.",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost..",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0177.1",
    "00000177.0.0.1",
    "0",
    "0.0.0.0",
    "0x0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[::1%25lo]",
    "１２７.0.0.1",
    "①②⑦.⓪.⓪.①",
    "ｌｏｃａｌｈｏｓｔ",
    "localhoﬆ",
    "127。0。0。1",
    "localhost%00.example.com",
    "127.0.0.1%20",
]


@pytest.mark.parametrize("host", LOCAL_HOSTS)
async def test_no_spelling_of_this_machine_is_reached_by_http(host: str, trap: Trap) -> None:
    async with open_transport(EgressGuard(), limit=10) as transport:
        with pytest.raises(DeliveryError) as raised:
            await transport.request("GET", f"http://{host}:{trap.port}/", timeout=5)
        assert raised.value.code in ("egress_denied", "url_invalid", "connection_failed")
    assert not trap.reached.is_set()


@pytest.mark.parametrize("host", [host for host in LOCAL_HOSTS if "%" not in host])
async def test_no_spelling_of_this_machine_is_reached_by_a_socket(host: str, trap: Trap) -> None:
    with pytest.raises((EgressDeniedError, OSError)):
        await EgressGuard().open_socket(host, trap.port, 5)
    assert not trap.reached.is_set()


async def test_what_is_allowed_is_reached(trap: Trap) -> None:
    guard = EgressGuard(["127.0.0.0/8", "::1"])
    for host in ("127.0.0.1", "localhost", "[::1]"):
        trap.reached.clear()
        sock = await guard.open_socket(host, trap.port, 5)
        await asyncio.wait_for(trap.reached.wait(), 5)
        assert not sock.getblocking()
        sock.close()
        trap.reached.clear()
        async with open_transport(guard, limit=10) as transport:
            with pytest.raises(TemporaryError) as raised:
                await transport.request("POST", f"http://{host}:{trap.port}/")
            assert (raised.value.code, raised.value.reached) == ("connection_lost", "maybe")
        assert trap.reached.is_set()


REBINDINGS = [
    [["127.0.0.1"]],
    [["::1"]],
    [["::ffff:127.0.0.1"]],
    [["10.0.0.1", "127.0.0.1", "::1"]],
    [["64:ff9b::7f00:1"]],
    [["fe80::1%lo"]],
    [["not an address"]],
    [[]],
]


@pytest.mark.parametrize("answers", REBINDINGS, ids=str)
async def test_a_name_that_resolves_inside_is_denied(answers: list[list[str]], trap: Trap) -> None:
    guard = EgressGuard(resolve=FakeDns(*answers))
    with pytest.raises(EgressDeniedError) as by_socket:
        await guard.open_socket("evil.example", trap.port, 5)
    async with open_transport(guard, limit=10) as transport:
        with pytest.raises(EgressDeniedError) as by_http:
            await transport.request("GET", f"http://evil.example:{trap.port}/")
    assert not trap.reached.is_set()
    for raised in (by_socket, by_http):
        assert "evil.example" in raised.value.message
        for text in answers[0]:
            assert text not in raised.value.message, "what is inside is not told"


async def test_only_the_allowed_addresses_of_a_name_are_tried(trap: Trap) -> None:
    guard = EgressGuard(["127.0.0.1"], resolve=FakeDns(["127.0.0.2", "::1", "127.0.0.1"]))
    sock = await guard.open_socket("mixed.example", trap.port, 5)
    assert sock.getpeername()[0] == "127.0.0.1"
    sock.close()


async def test_the_socket_itself_is_the_last_check() -> None:
    guard = EgressGuard()
    for text in ("127.0.0.1", "::1", "10.0.0.1"):
        with pytest.raises(EgressDeniedError):
            guard.make_socket(addr_info(text, 80))
    guard.make_socket(addr_info("8.8.8.8", 80)).close()


async def test_a_name_that_is_none_is_an_os_error() -> None:
    for host in ("no-such-host.invalid", "a" * 64 + ".example", "..", ""):
        with pytest.raises((OSError, EgressDeniedError)):
            await EgressGuard().open_socket(host, 80, 10)


async def test_names_that_hang_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, real = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "hanging.example":
            hanging.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("msgcore.security.egress.RESOLVE_SECONDS", 0.05)
    guard = EgressGuard(["127.0.0.0/8", "::1"])
    lost = await asyncio.gather(*(guard.resolve("hanging.example", 80) for _ in range(20)), return_exceptions=True)
    monkeypatch.setattr("msgcore.security.egress.RESOLVE_SECONDS", 10)
    try:
        assert {type(error) for error in lost} == {TimeoutError}
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "other work"), 10) == "other work"
        assert await guard.resolve("localhost", 80)
    finally:
        hanging.set()


# --- URLs

URLS = [
    ("https://example.com/hook?x=1#y", None),
    ("http://example.com:8080/", None),
    ("HTTPS://EXAMPLE.COM/", None),
    ("https://bücher.example/", None),
    ("", "must start with"),
    ("example.com", "must start with"),
    ("//example.com/", "must start with"),
    ("ftp://example.com/", "must start with"),
    ("file:///etc/passwd", "must start with"),
    ("gopher://example.com/", "must start with"),
    ("javascript:alert(1)", "must start with"),
    ("https://", "has no host"),
    ("https:///path", "has no host"),
    ("https://:80/", "has no host"),
    ("https://user@example.com/", "user name"),
    ("https://user:pass@example.com/", "user name"),
    ("https://example.com@127.0.0.1/", "user name"),
    ("https://example.com\\@127.0.0.1/", "backslashes"),
    ("https://example.com/ x", "spaces"),
    ("https://example.com/\r\nX: y", "spaces"),
    ("https://example.com/\x00", "control"),
    ("https://exam\u2028ple.com/", "control"),
    ("https://example.com:0/", "port 0"),
    ("https://example.com:25/", "port 25"),
    ("https://example.com:6379/", "port 6379"),
    ("https://example.com:65536/", "malformed"),
    ("https://example.com:port/", "malformed"),
    ("https://[::1/", "malformed"),
    ("https://example.com/" + "x" * 5000, "at most"),
]


@pytest.mark.parametrize(("url", "problem"), URLS)
def test_urls(url: str, problem: str | None) -> None:
    found = url_problem(url)
    assert (found is None) if problem is None else (found is not None and problem in found)
    if problem is not None:
        with pytest.raises(PermanentError) as raised:
            EgressGuard().check_url(url)
        assert raised.value.code == "url_invalid"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]"])
def test_a_url_with_an_inner_address_is_denied_before_any_connection(host: str) -> None:
    with pytest.raises(EgressDeniedError) as raised:
        EgressGuard().check_url(f"https://{host}/")
    assert host.strip("[]") in raised.value.message
    EgressGuard(["0.0.0.0/0", "::/0"]).check_url(f"https://{host}/")


@pytest.mark.parametrize("text", ["", "example.com", "127.1", "0x7f.0.0.1", "1.2.3.4.5", "[", "::g"])
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None

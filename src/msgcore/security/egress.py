"""The guard on connections to hosts that users name (server-side request forgery).

A name is no safer than what it resolves to, and may resolve to something else a moment later, so
the address of each socket is checked right where the socket is made: nothing resolves in between.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import aiohappyeyeballs

from msgcore.core.errors import PermanentError, StartupError
from msgcore.security.addresses import Address, Network, is_public, parse_address, reached_address

AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""What `getaddrinfo` gives: family, type, protocol, canonical name, socket address."""

Resolve = Callable[[str, int], Awaitable[Sequence[AddrInfo]]]

HAPPY_EYEBALLS_DELAY = 0.25
RESOLVE_SECONDS = 10.0
RESOLVE_THREADS = 32
MAX_URL = 4096

# A user's URL must not speak to other protocols' servers: https://fetch.spec.whatwg.org/#port-blocking
BAD_PORTS = frozenset(
    (
        0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104,
        109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526,
        530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045,
        4190, 5060, 5061, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    )
)  # fmt: skip
MAIL_PORTS = frozenset((25, 110, 143, 465, 587, 993, 995))
"""Of these, the ones that belong to mail."""


class EgressDeniedError(PermanentError):
    """The host is, or resolves to, an address that this server does not connect to.

    The message names the host as it was given, never what it resolved to: that would map the
    operator's network for whoever asks.
    """

    def __init__(self, host: str) -> None:
        super().__init__(
            "egress_denied",
            f"{host} is not on the public internet; the operator of this server can allow its network "
            "with MSGCORE_EGRESS_ALLOW",
        )


class PortDeniedError(PermanentError):
    """The port belongs to servers of another protocol, which may take what is said for commands of theirs."""

    def __init__(self, port: int) -> None:
        super().__init__("egress_denied", f"Port {port} belongs to another protocol and is not connected to")


class EgressGuard:
    """Decides which addresses may be connected to, and makes the sockets that keep to it.

    `allow` lists networks (CIDR) or single addresses outside the public internet that are allowed;
    a bad entry raises StartupError. `resolve` replaces the system's resolver.
    """

    def __init__(self, allow: Sequence[str] = (), *, resolve: Resolve | None = None) -> None:
        self._allow = tuple(_read_network(text) for text in allow if text.strip())
        self._resolve = resolve or _SystemResolver()

    def allows(self, address: Address) -> bool:
        """Whether connections to an address may be made."""
        reached = reached_address(address)
        return is_public(reached) or any(reached in network or address in network for network in self._allow)

    def check_address(self, text: str, host: str | None = None) -> None:
        """Raise EgressDeniedError unless `text` is an address that may be connected to.

        `host` is what the user called it, for the message.
        """
        address = parse_address(text)
        if address is None or not self.allows(address):
            raise EgressDeniedError(host or text)

    def check_url(self, url: str) -> None:
        """Raise PermanentError for a URL that `url_problem` refuses, or whose literal address is denied.

        What a name resolves to is checked when the connection is made.
        """
        problem = url_problem(url)
        if problem is not None:
            raise PermanentError("url_invalid", f"The URL {problem}")
        host = urlsplit(url).hostname or ""
        if parse_address(host) is not None:
            self.check_address(host)

    async def resolve(self, host: str, port: int) -> list[AddrInfo]:
        """The allowed addresses of a host.

        Raises EgressDeniedError where none is allowed, OSError where the name is not known, and
        TimeoutError after `RESOLVE_SECONDS`.
        """
        literal = parse_address(host)
        if literal is not None:
            self.check_address(host)
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await self._resolve(str(literal or host), port)
        allowed = [info for info in found if self._allows_socket_address(info[4])]
        if not allowed:
            raise EgressDeniedError(host)
        return allowed

    async def open_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ASYNC109 - of the whole race
        """A connected, non-blocking TCP socket to a mail server (happy eyeballs over its addresses, RFC 8305).

        Raises EgressDeniedError, PortDeniedError, OSError, or TimeoutError after `timeout` seconds.
        """
        if port in BAD_PORTS - MAIL_PORTS:
            raise PortDeniedError(port)
        async with asyncio.timeout(timeout):
            return await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType]
                await self.resolve(host, port),
                happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY,
                socket_factory=self.make_socket,
            )

    def make_socket(self, info: AddrInfo) -> socket.socket:
        """An unconnected socket for an address; the last check, where nothing resolves any more.

        Raises EgressDeniedError.
        """
        if not self._allows_socket_address(info[4]):
            raise EgressDeniedError("The address")
        return socket.socket(info[0], info[1], info[2])

    def _allows_socket_address(self, socket_address: tuple[Any, ...]) -> bool:
        address = parse_address(str(socket_address[0]))
        return address is not None and self.allows(address)


def url_problem(url: str) -> str | None:  # noqa: PLR0911 - one return a rule
    """What is wrong with a user's URL, as the end of a sentence; None where it may be tried."""
    if len(url) > MAX_URL:
        return f"must have at most {MAX_URL} characters"
    if not url.isprintable() or any(character.isspace() or character == "\\" for character in url):
        return "must not hold spaces, backslashes or control characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is malformed; give one such as https://example.com/hook"
    if parts.scheme not in ("http", "https"):
        return "must start with https:// or http://"
    if not parts.hostname:
        return "has no host; give one such as https://example.com/hook"
    if "@" in parts.netloc:
        return "must not hold a user name or password"
    if port in BAD_PORTS:
        return f"must not use port {port}, which belongs to another protocol"
    return None


def _read_network(text: str) -> Network:
    try:
        return ip_network(text.strip())
    except ValueError as error:
        raise StartupError(
            f"MSGCORE_EGRESS_ALLOW: {text.strip()!r} is no network ({error}); "
            "list networks or addresses such as 10.0.0.0/8,192.168.1.5,fd00::/8"
        ) from None


class _SystemResolver:
    """`getaddrinfo` on threads of its own: names whose servers do not answer hold up other names at worst."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVE_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[AddrInfo]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, _get_address_info, host, port)
        except UnicodeError:  # a label that is empty or too long
            raise socket.gaierror(socket.EAI_NONAME, "Not a host name") from None


def _get_address_info(host: str, port: int) -> Sequence[AddrInfo]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

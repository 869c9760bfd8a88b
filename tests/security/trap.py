"""A server on every address of this machine. One of them stands for the internet, and all others must stay unheard."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from msgcore.security.egress import AddrInfo
from security.disguises import NAMES
from servers.dns import addr_info

OUTSIDE = "127.0.0.9"
"""The one address that the guard is told to allow."""


@dataclass
class Trap:
    """`answer` is what the internet says, `locations` where it sends who asks for `/0`, `/1` and so on.

    `caught` has the addresses inside that were connected to.
    """

    port: int = 0
    answer: bytes = b""
    locations: Sequence[str] = ()
    visits: int = 0
    caught: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str(writer.get_extra_info("sockname")[0]).removeprefix("::ffff:")
        if address != OUTSIDE:
            self.caught.append(address)
        else:
            self.visits += 1
            with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
                async with asyncio.timeout(0.2):  # whoever waits for a greeting says nothing
                    writer.write(self._answer_to(await reader.readuntil(b"\r\n\r\n")))
        writer.close()

    def _answer_to(self, head: bytes) -> bytes:
        path = head.split()[1].removeprefix(b"/").partition(b"/")[0]
        if not path.isdigit():
            return self.answer
        location = self.locations[int(path)].encode(errors="surrogatepass")
        return b"HTTP/1.1 307 Away\r\nLocation: %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % location


@asynccontextmanager
async def open_trap() -> AsyncIterator[Trap]:
    """The trap, on a port of its own."""
    trap = Trap()
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    trap.port = listener.getsockname()[1]
    server = await asyncio.start_server(trap.handle, sock=listener)
    yield trap
    server.close()


async def resolve(host: str, port: int) -> Sequence[AddrInfo]:
    """As the system's resolver, but for names that only `NAMES` knows: nothing is asked of the network."""
    try:
        name = host.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "Not a host name") from None
    if name in NAMES:
        return [addr_info(text, port) for text in NAMES[name]]
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)


class Rebinding:
    """A name that is outside when it is looked up first, and inside ever after."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, _host: str, port: int) -> Sequence[AddrInfo]:
        self.asked += 1
        return [addr_info(OUTSIDE if self.asked == 1 else "127.0.0.1", port)]

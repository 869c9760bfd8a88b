"""What adapters speak HTTP with: one small interface, with the egress guard inside.

Nothing here names an HTTP library: `aiohttp_transport.py`, with `payloads.py`, is the one place that does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

LARGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read unless the caller asks for more."""


class TooLargeError(Exception):
    """A body is larger than its reader accepts."""


class SocketClosedError(Exception):
    """The other end of a WebSocket has closed it; `code` is None where the connection just ended."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(reason or f"closed with code {code}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a multipart/form-data body; one with a filename is a file."""

    name: str
    data: bytes
    filename: str | None = None
    mime_type: str | None = None


class Response(NamedTuple):
    """An answer that was read.

    `body` is None where it could not be had whole: larger than asked for, too slow, broken off, or not
    what its encoding says. The status stands all the same: after a 2xx the message is sent.
    `headers` are looked up without regard to case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class Download(Protocol):
    """An answer whose body is not read yet."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Looked up without regard to case."""
        ...

    async def read(self, max_bytes: int) -> bytes:
        """The body, decompressed, of at most `max_bytes` bytes.

        Raises TooLargeError as soon as it is larger, and TemporaryError where it breaks off.
        """
        ...

    def pieces(self, max_bytes: int) -> AsyncIterator[bytes]:
        """The same piece by piece, for bodies that are better not in memory."""
        ...


class Socket(Protocol):
    """A WebSocket that is open. One task at a time may receive."""

    async def receive(self) -> bytes:
        """The next message, a text as UTF-8. May be cancelled without losing one.

        Raises SocketClosedError, and TooLargeError for a message of more bytes than were allowed for, after which
        the connection is of no use any more.
        """
        ...

    async def send(self, text: str) -> None:
        """Send a message. Raises SocketClosedError."""
        ...


class Transport(Protocol):
    """Makes HTTP requests to URLs that users name, and only to addresses that the egress guard allows.

    Redirects are answers and are not followed, no request is sent twice unless its method is one that may be
    repeated (RFC 9110, 9.2.2: GET, PUT, DELETE), and neither
    cookies nor proxies from the environment are used: requests of one tenant must not colour those of
    another. TLS certificates are verified. A cancelled request closes its connection.

    All calls raise PermanentError (`url_invalid`, `egress_denied`) and TemporaryError, whose `reached` is
    `no` only where nothing can have been sent: `connection_failed`, `timeout`, `connection_lost`.
    """

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Sequence[Part] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - cheaper than a context for each request
        max_bytes: int = LARGEST_ANSWER,
    ) -> Response:
        """The answer to one request, with up to `max_bytes` bytes of its body.

        `timeout` bounds the whole exchange in seconds. Without one only making the connection is bounded,
        and the body of an answer once its head is there: the dispatch core bounds each attempt.
        """
        ...

    def download(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> AbstractAsyncContextManager[Download]:
        """A GET whose body is read as the caller likes; what is left unread is dropped with the connection."""
        ...

    async def poll(
        self, url: str, body: bytes, *, headers: Mapping[str, str], seconds: float, max_bytes: int
    ) -> Response:
        """The answer to a POST that is held back until there is something to tell, for `seconds` at most.

        It does not count among the requests under way.
        """
        ...

    def listen(self, url: str, *, headers: Mapping[str, str], silence: float) -> AbstractAsyncContextManager[Download]:
        """A GET whose answer goes on for as long as there is something to tell; its body is read as it comes.

        After `silence` seconds without a byte it has ended (TemporaryError, `timeout`). It does not count among the
        requests under way.
        """
        ...

    def socket(
        self, url: str, *, max_bytes: int, leave_with: int = 1000, heartbeat: float | None = None
    ) -> AbstractAsyncContextManager[Socket]:
        """A WebSocket to a `ws:` or `wss:` URL, whose messages have at most `max_bytes` bytes.

        It is closed with the code `leave_with` at the end, without waiting long for an answer. It does not count
        among the requests under way. Raises what requests raise, and TemporaryError (`socket_refused`) where it is
        answered by something else. After `heartbeat` seconds without a sound it is pinged, and it has ended if half as
        many pass without one again.
        """
        ...

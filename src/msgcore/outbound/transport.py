"""What adapters speak HTTP with: one small interface, with the egress guard inside.

Nothing here names an HTTP library: `aiohttp_transport.py` is the one place that does.
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


class Transport(Protocol):
    """Makes HTTP requests to URLs that users name, and only to addresses that the egress guard allows.

    Redirects are answers and are not followed, no request is sent twice unless its method is one that may be
    repeated (RFC 9110, 9.2.2: GET, PUT, DELETE), and neither
    cookies nor proxies from the environment are used: requests of one tenant must not colour those of
    another. TLS certificates are verified. A cancelled request closes its connection.

    Both calls raise PermanentError (`url_invalid`, `egress_denied`) and TemporaryError, whose `reached` is
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

"""A load generator that leaves the processor to the server: raw HTTP/1.1 on keep-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop


@dataclass
class LoadResult:
    """What came back: statuses, seconds in all, and each request's latency in seconds.

    `failure` is the body of the newest answer that was no success; `broken` counts connections that the
    server closed instead of answering.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    failure: bytes = b""
    broken: int = 0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def succeeded(self) -> int:
        """Answers with a 2xx status."""
        return sum(number for status, number in self.statuses.items() if 200 <= status < 300)

    def percentile(self, share: float) -> float:
        """Latency in milliseconds that this share of requests did not exceed."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def line(self) -> str:
        """One line for people."""
        return (
            f"{self.rate:8.0f} req/s   p50 {self.percentile(0.5):6.2f} ms   p99 {self.percentile(0.99):6.2f} ms   "
            f"statuses {dict(self.statuses)}"
        )


def request_bytes(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
    """A whole HTTP/1.1 request."""
    parts = urlsplit(url)
    lines = [f"{method} {parts.path or '/'} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], result: LoadResult, finished: asyncio.Future[None]) -> None:
        self._requests = requests
        self._result = result
        self._finished = finished
        self._buffer = b""
        self._sent_at: float | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, not a child of asyncio's
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            self._sent_at = None
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if not _is_whole(head, rest):
            return
        assert self._sent_at is not None
        self._result.latencies.append(time.perf_counter() - self._sent_at)
        status = int(head[9:12])
        self._result.statuses[status] += 1
        if not 200 <= status < 300:
            self._result.failure = rest
        self._buffer = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._result.broken += self._sent_at is not None
        if not self._finished.done():
            self._finished.set_result(None)


def _is_whole(head: bytes, body: bytes) -> bool:
    """Whether all of an answer's body is there."""
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        match name.lower():
            case b"content-length":
                length = int(value)
            case b"transfer-encoding":
                return body.endswith(b"0\r\n\r\n")
            case _:
                pass
    return len(body) >= length


async def run_load(url: str, requests: Iterator[bytes], *, connections: int = 32) -> LoadResult:
    """Send all requests over so many connections, one at a time on each; loopback only."""
    parts = urlsplit(url)
    if parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise SystemExit("the load generator talks to loopback only")
    loop = asyncio.get_running_loop()
    result = LoadResult()
    started = time.perf_counter()
    finished = [loop.create_future() for _ in range(connections)]
    for future in finished:
        await loop.create_connection(
            lambda f=future: _Connection(requests, result, f), parts.hostname, parts.port or 80
        )
    await asyncio.gather(*finished)
    result.seconds = time.perf_counter() - started
    return result


def load(url: str, requests: Iterator[bytes], *, connections: int = 32) -> LoadResult:
    """`run_load` in a loop of its own."""
    return uvloop.run(run_load(url, requests, connections=connections))

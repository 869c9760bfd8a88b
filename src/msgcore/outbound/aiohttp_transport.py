"""The transport on aiohttp: one pooled session whose resolver and sockets are the egress guard's."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from typing import Literal
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from msgcore import __version__
from msgcore.core.errors import DeliveryError, PermanentError, TemporaryError
from msgcore.outbound.payloads import Payload, as_payload, header_error
from msgcore.outbound.transport import (
    LARGEST_ANSWER,
    Download,
    Part,
    Response,
    Socket,
    SocketClosedError,
    TooLargeError,
    Transport,
)
from msgcore.security.egress import BAD_PORTS, HAPPY_EYEBALLS_DELAY, AddrInfo, EgressGuard, PortDeniedError

USER_AGENT = f"MsgCore/{__version__}"
CONNECT_SECONDS = 10.0
BODY_SECONDS = 5.0
"""How long the body of an answer may take once its head is there: mostly an id could still come."""
UPGRADE_SECONDS = 20.0
"""Until a WebSocket is open, with its connection."""
GOODBYE = aiohttp.ClientWSTimeout(ws_close=1.0)  # pyright: ignore[reportCallIssue] - attrs without types
KEEP_ALIVE_SECONDS = 15.0
MOST_IDLE = 512
"""Connections kept for another request. aiohttp bounds only those in use, and each host has its own: without
this, ten thousand hosts within `KEEP_ALIVE_SECONDS` would keep as many files open."""
DNS_CACHE_SECONDS = 30
KNOWN_URLS = 4096
CHUNK = 65536

BY_DEFAULT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)

_LOST = (aiohttp.ClientError, OSError)
# Errors that come before the request is written.
_NOT_REACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


@asynccontextmanager
async def open_transport(
    guard: EgressGuard, *, limit: int, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Transport]:
    """A transport of at most `limit` requests under way (0: no limit), to addresses that `guard` allows.

    `tls` verifies servers in place of the system's certificates.
    """
    async with AsyncExitStack() as open_ones:
        requests, held = [
            await open_ones.enter_async_context(
                aiohttp.ClientSession(
                    connector=_GuardedConnector(guard, at_once, tls),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                    trust_env=False,
                    trace_configs=traces,
                )
            )
            for at_once, traces in (
                (limit, None),
                (0, [_without_redirects()]),
            )  # what is held open must not take the places of requests
        ]
        yield _AiohttpTransport(requests, held, guard)


class _AiohttpTransport:
    def __init__(self, session: aiohttp.ClientSession, held: aiohttp.ClientSession, guard: EgressGuard) -> None:
        self._session = session
        self._held = held
        self._guard = guard
        # Most requests go where others went lately.
        self._target = lru_cache(KNOWN_URLS)(self._check)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Sequence[Part] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - one timer of aiohttp's, and only where wanted
        max_bytes: int = LARGEST_ANSWER,
    ) -> Response:
        target = self._target(url)
        answer = await self._send(method, target, headers, as_payload(body), timeout)
        return Response(answer.status, answer.headers, await _read_at_once(answer, max_bytes))

    async def poll(
        self, url: str, body: bytes, *, headers: Mapping[str, str], seconds: float, max_bytes: int
    ) -> Response:
        answer = await self._send("POST", self._target(url), headers, as_payload(body), seconds, self._held)
        return Response(answer.status, answer.headers, await _read_at_once(answer, max_bytes))

    @asynccontextmanager
    async def download(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - one timer of aiohttp's, and only where wanted
    ) -> AsyncGenerator[Download]:
        answer = await self._send("GET", self._target(url), headers, None, timeout)
        async with answer:
            yield _Download(answer)

    @asynccontextmanager
    async def listen(self, url: str, *, headers: Mapping[str, str], silence: float) -> AsyncGenerator[Download]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        target = self._target(url)
        try:
            answer = await self._held.get(target, headers=headers, allow_redirects=False, timeout=timeout)
        except _LOST as error:
            raise _as_delivery_error(error, target.host or "") from error
        async with answer:
            yield _Download(answer)

    @asynccontextmanager
    async def socket(
        self, url: str, *, max_bytes: int, leave_with: int = 1000, heartbeat: float | None = None
    ) -> AsyncGenerator[Socket]:
        if not url.startswith(("ws://", "wss://")):
            raise PermanentError("url_invalid", "The URL of a WebSocket must start with wss:// or ws://")
        target = self._target(f"http{url[2:]}")
        try:
            async with asyncio.timeout(UPGRADE_SECONDS):
                opened = await self._held.ws_connect(
                    target, max_msg_size=max_bytes, timeout=GOODBYE, decode_text=False, heartbeat=heartbeat
                )
        except _LOST as error:
            raise _as_delivery_error(error, target.host or "") from error
        try:
            yield _Socket(opened)
        finally:
            await opened.close(code=leave_with)

    def _check(self, url: str) -> URL:
        self._guard.check_url(url)
        try:
            return URL(url)
        except ValueError:
            raise PermanentError("url_invalid", "The URL is malformed") from None

    async def _send(
        self,
        method: str,
        target: URL,
        headers: Mapping[str, str] | None,
        body: Payload,
        seconds: float | None,
        session: aiohttp.ClientSession | None = None,
    ) -> aiohttp.ClientResponse:
        timeout = BY_DEFAULT if seconds is None else _bounded(seconds)
        try:
            return await (session or self._session).request(
                method, target, data=body, headers=headers, allow_redirects=False, timeout=timeout
            )
        except _LOST as error:
            raise _as_delivery_error(error, target.host or "") from error
        except ValueError:  # aiohttp's word for line breaks in headers
            raise header_error() from None


class _Download:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    async def read(self, max_bytes: int) -> bytes:
        return b"".join([piece async for piece in self.pieces(max_bytes)])

    async def pieces(self, max_bytes: int) -> AsyncGenerator[bytes]:
        if (self._answer.content_length or 0) > max_bytes:
            raise TooLargeError
        try:
            async for piece in _bounded_pieces(self._answer, max_bytes):
                yield piece
        except _LOST as error:
            raise _as_delivery_error(error, self._answer.url.host or "") from error


class _Socket:
    def __init__(self, opened: aiohttp.ClientWebSocketResponse[Literal[False]]) -> None:
        self._opened = opened

    async def receive(self) -> bytes:
        message = await self._opened.receive()
        match message.type:
            case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                return message.data
            case aiohttp.WSMsgType.CLOSE:
                raise SocketClosedError(message.data or None, message.extra or "")
            case aiohttp.WSMsgType.ERROR if self._opened.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                raise TooLargeError
            case _:
                raise SocketClosedError(None, "the connection broke")

    async def send(self, text: str) -> None:
        try:
            await self._opened.send_str(text)
        except _LOST as error:
            raise SocketClosedError(None, "the connection broke") from error


class _GuardedConnector(aiohttp.TCPConnector):
    """Connects only where the guard allows, and keeps a bounded number of idle connections."""

    def __init__(self, guard: EgressGuard, limit: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            resolver=_GuardedResolver(guard),
            socket_factory=self._make_socket,
            limit=limit,
            ssl=tls or True,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            ttl_dns_cache=DNS_CACHE_SECONDS,
            happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY,
        )
        self._guard = guard
        self._open: WeakSet[socket.socket] = WeakSet()

    def _make_socket(self, info: AddrInfo) -> socket.socket:
        # The last word on an address: literal ones never pass a resolver, and cached names pass it once. And on a
        # port, which is aiohttp's reading of the URL and need not be the one that was checked.
        if info[4][1] in BAD_PORTS:
            raise PortDeniedError(info[4][1])
        made = self._guard.make_socket(info)
        self._open.add(made)
        return made

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        if len(self._open) - len(self._acquired) > MOST_IDLE:
            self._drop_longest_idle()

    def _drop_longest_idle(self) -> None:
        # A host's entry is made anew when its first connection becomes idle, so the first is about the oldest.
        key = next(iter(self._conns), None)
        if key is None:
            return
        idle = self._conns[key]
        protocol, _ = idle.popleft()
        if not idle:
            del self._conns[key]
        protocol.close()


class _GuardedResolver(AbstractResolver):
    """Gives aiohttp only the addresses that the guard allows."""

    def __init__(self, guard: EgressGuard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(info[4][0]),
                port=port,
                family=socket.AddressFamily(info[0]),
                proto=info[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for info in await self._guard.resolve(host, port)
            if family in (socket.AF_UNSPEC, info[0])
        ]

    async def close(self) -> None:
        """Nothing is kept."""


def _without_redirects() -> aiohttp.TraceConfig:
    """For upgrades to WebSockets: aiohttp gives no other way to refuse redirects of those."""

    async def refuse(_session: object, _context: object, params: aiohttp.TraceRequestRedirectParams) -> None:
        answer = params.response
        answer.close()
        raise _not_a_socket(answer.url.host, answer.status)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


def _not_a_socket(host: str | None, status: int) -> TemporaryError:
    return TemporaryError("socket_refused", f"{host} answered {status} in place of a WebSocket")


def _bounded(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)


async def _read_at_once(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes | None:
    """The body if all of it can be had in reasonable time and size; None if not."""
    try:
        if answer.content.is_eof():  # it came with the head, as most do: no timer needed
            return await _read_bounded(answer, max_bytes)
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_bounded(answer, max_bytes)
    except (TooLargeError, *_LOST):
        return None
    finally:
        answer.close()  # where it was read to its end, the connection is back in the pool already


async def _read_bounded(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    return b"".join([piece async for piece in _bounded_pieces(answer, max_bytes)])


async def _bounded_pieces(answer: aiohttp.ClientResponse, max_bytes: int) -> AsyncGenerator[bytes]:
    """At most `max_bytes` bytes, decompressed piece by piece; raises TooLargeError as soon as there is more."""
    left = max_bytes
    async for piece in answer.content.iter_chunked(CHUNK):
        left -= len(piece)
        if left < 0:
            answer.close()
            raise TooLargeError
        yield piece


def _as_delivery_error(error: aiohttp.ClientError | OSError, host: str) -> DeliveryError:
    if isinstance(error, aiohttp.InvalidURL):
        return PermanentError("url_invalid", f"{host} is not a valid host")
    if isinstance(error, _NOT_REACHED):
        return TemporaryError("connection_failed", f"Cannot connect to {host}: {_reason(error)}")
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return _not_a_socket(host, error.status)
    if isinstance(error, TimeoutError):
        return TemporaryError("timeout", f"{host} did not answer in time", reached="maybe")
    return TemporaryError("connection_lost", f"The connection to {host} broke before it answered", reached="maybe")


def _reason(error: Exception) -> str:
    # The system's own words hold the resolved address; these do not.
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorDNSError():
            return "the name is not known"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not valid"
        case aiohttp.ClientConnectorSSLError():
            return "the TLS handshake failed"
        case _:
            return "refused or unreachable"

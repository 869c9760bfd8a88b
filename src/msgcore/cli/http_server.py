"""The HTTP server: granian, embedded in the event loop that the gateway runs on.

Granian binds with SO_REUSEPORT, so a second server on a port in use would silently take half of
its connections. `require_free` asks the kernel without that option, before anything is opened.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from msgcore.cli.open_files import allow_open_files
from msgcore.config import Settings
from msgcore.core.errors import StartupError

logger = structlog.get_logger(__name__)

_BACKLOG = 2048
_READY_SECONDS = 10.0
_OTHER_FILES = 512
"""Open files that are left for all that is no connection of a caller's."""
LARGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers, or a few more; beyond, the server answers 414 or 431 by itself, as for over
100 headers."""
_LEAVE_LOGGING_ALONE: dict[str, Any] = {"incremental": True, "handlers": {}, "loggers": {"_granian": {}}}


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; `named` is how the names of the two settings that say so begin.

    `certificate` are the files of a certificate chain and its key, for https.
    """

    host: str
    port: int
    named: str = "MSGCORE"
    certificate: tuple[Path, Path] | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"{'http' if self.certificate is None else 'https'}://{self}"

    @classmethod
    def of_api(cls, settings: Settings) -> Address:
        """Where the API listens."""
        chain, key = settings.tls_cert, settings.tls_key
        return cls(settings.host, settings.port, certificate=None if chain is None or key is None else (chain, key))

    @classmethod
    def of_metrics(cls, settings: Settings) -> Address | None:
        """Where the metrics port listens, if there is one."""
        if settings.metrics_port is None:
            return None
        return cls(settings.metrics_host, settings.metrics_port, "MSGCORE_METRICS")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be, and for how many seconds one may have no whole head of a request."""

    connections: int = 256
    idle_seconds: float = 30.0

    @classmethod
    def of_api(cls, settings: Settings) -> Bounds:
        """Those of the API, as far as the system allows so many open files."""
        most = max(16, allow_open_files() - _OTHER_FILES)
        if most < settings.max_connections:
            logger.warning("fewer connections than MSGCORE_MAX_CONNECTIONS", most=most, remedy="raise ulimit -n")
        return cls(min(most, settings.max_connections), settings.idle_seconds)


def require_free(where: Address) -> None:
    """Raise StartupError, naming the setting, when the address cannot be listened on."""
    _require_certificate(where)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"{where.named}_PORT: {where} is already in use; stop what listens there or set another port"
            ) from None
        if error.errno == errno.EACCES:
            raise StartupError(f"{where.named}_PORT: {where} is not permitted; use a port above 1023") from None
        raise StartupError(
            f"{where.named}_HOST: {where.host} is not an address of this machine; use 127.0.0.1, or 0.0.0.0 for all"
        ) from None


def _require_certificate(where: Address) -> None:
    """Raise StartupError when the files are no certificate and its key: granian only says so in a panic."""
    if where.certificate is None:
        return
    chain, key = where.certificate
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise StartupError(
            f"MSGCORE_TLS_CERT, MSGCORE_TLS_KEY: {chain} and {key} are not a certificate and its key that can be read "
            f"({error}); use PEM files, the key without a password"
        ) from None


def _no_password() -> str:
    """In place of asking for one on the terminal."""
    raise ValueError("the key has a password")


class HttpServer:
    """Serves one ASGI application until it is stopped."""

    def __init__(self, asgi: Any, where: Address, bounds: Bounds | None = None) -> None:
        self._where = where
        bounds = bounds or Bounds()
        chain, key = where.certificate or (None, None)
        self._server = Server(
            asgi,
            address=_numeric(where.host),
            port=where.port,
            interface=Interfaces.ASGI,
            # Granian ends no connection of HTTP/2 that does nothing, nor one that could still become such.
            http=HTTPModes.http1,
            backlog=_BACKLOG,
            backpressure=bounds.connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=max(1, round(bounds.idle_seconds * 1000)), max_buffer_size=LARGEST_HEAD
            ),
            ssl_cert=chain,
            ssl_key=key,
            ssl_protocol_min=SSLProtocols.tls12,
            log_level=LogLevels.error,
            log_dictconfig=_LEAVE_LOGGING_ALONE,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> asyncio.Task[None]:
        """Listen; returns, once connections are taken, the task that ends when serving ends.

        Raises StartupError when the address was taken since `require_free`.
        """
        self._task = asyncio.create_task(self._server.serve(), name="http-server")
        ready = asyncio.create_task(self._wait_until_listening())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            ready.cancel()
            reason = str(self._task.exception() or "it stopped").partition("\n")[0]
            raise StartupError(
                f"{self._where.named}_HOST, {self._where.named}_PORT: cannot listen on {self._where} ({reason})"
            )
        await ready
        return self._task

    async def stop(self, seconds: float) -> None:
        """Refuse new connections, and let the requests in progress end for so many seconds."""
        if self._task is None or self._task.done():
            return
        self._server.stop()
        _, waiting = await asyncio.wait({self._task}, timeout=seconds)
        if waiting:
            logger.warning("requests cut off by the stop", seconds=seconds)
            self._task.cancel()

    async def _wait_until_listening(self) -> None:
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_connection(_reachable(self._where.host), self._where.port)
                except OSError:
                    await asyncio.sleep(0.005)
                else:
                    writer.close()
                    return


def _numeric(host: str) -> str:
    """The address behind a name; granian takes numbers only."""
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4][0])


def _reachable(host: str) -> str:
    """An address to connect to, for one to listen on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound

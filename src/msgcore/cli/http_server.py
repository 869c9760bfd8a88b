"""The HTTP server: granian, embedded in the event loop that the gateway runs on.

Granian binds with SO_REUSEPORT, so a second server on a port in use would silently take half of
its connections. `require_free` asks the kernel without that option, before anything is opened.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass
from typing import Any

import structlog
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server

from msgcore.config import Settings
from msgcore.core.errors import StartupError

logger = structlog.get_logger(__name__)

_BACKLOG = 2048
_READY_SECONDS = 10.0
_LEAVE_LOGGING_ALONE: dict[str, Any] = {"incremental": True, "handlers": {}, "loggers": {"_granian": {}}}


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; `named` is how the names of the two settings that say so begin."""

    host: str
    port: int
    named: str = "MSGCORE"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def of_api(cls, settings: Settings) -> Address:
        """Where the API listens."""
        return cls(settings.host, settings.port)

    @classmethod
    def of_metrics(cls, settings: Settings) -> Address | None:
        """Where the metrics port listens, if there is one."""
        if settings.metrics_port is None:
            return None
        return cls(settings.metrics_host, settings.metrics_port, "MSGCORE_METRICS")


def require_free(where: Address) -> None:
    """Raise StartupError, naming the setting, when the address cannot be listened on."""
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


class HttpServer:
    """Serves one ASGI application until it is stopped."""

    def __init__(self, asgi: Any, where: Address) -> None:
        self._where = where
        self._server = Server(
            asgi,
            address=_numeric(where.host),
            port=where.port,
            interface=Interfaces.ASGI,
            backlog=_BACKLOG,
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

"""`msgcore serve`, `api` and `worker`: run a gateway until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from pathlib import Path
from types import FrameType

import structlog
import uvloop

from msgcore.app import Gateway
from msgcore.cli.http_server import Address, Bounds, HttpServer, require_free
from msgcore.cli.monitoring import serve_monitoring
from msgcore.cli.welcome import created_lines, next_steps, ready_line
from msgcore.config import Settings
from msgcore.core.errors import StartupError
from msgcore.security.secrets_file import SECRETS_FILE

logger = structlog.get_logger(__name__)

_DRAIN_SECONDS = 5.0
"""Longest time that requests in progress hold up a stop; deliveries have `shutdown_seconds` after it."""


def run(settings: Settings, *, api: bool, worker: bool) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends the process at once.

    Raises StartupError when the gateway cannot start, or when its HTTP server ends by itself.
    """
    uvloop.run(_run(settings, api=api, worker=worker))


async def _run(settings: Settings, *, api: bool, worker: bool) -> None:
    stop_asked = _on_first_signal(settings, api=api, worker=worker)
    if api:
        require_free(Address.of_api(settings))
    missing = [path for path in _own_files(settings) if not path.exists()]
    gateway = await Gateway.open(settings, api=api, worker=worker)
    watching = asyncio.create_task(gateway.watch(), name="watch")
    try:
        running = [watching, *await serve_monitoring(gateway, settings)]
        _collect_garbage_less_often()
        await gateway.start()
        if api:
            created = [path for path in missing if path.exists()]
            await _serve_http(gateway, settings, stop_asked, running, created)
        else:
            _say("msgcore worker ready")
            await _until_asked(stop_asked, *running)
    finally:
        watching.cancel()
        await gateway.stop()


async def _until_asked(stop_asked: asyncio.Event, *running: asyncio.Task[None]) -> None:
    """Wait for a signal. Raises StartupError when something that should go on until then ends before."""
    asked = asyncio.create_task(stop_asked.wait())
    ended, _ = await asyncio.wait({asked, *running}, return_when=asyncio.FIRST_COMPLETED)
    if asked not in ended:
        asked.cancel()
        for task in ended:
            await task  # raises what ended it
            raise StartupError(f"{task.get_name()} ended by itself; the log says why")


async def _serve_http(
    gateway: Gateway,
    settings: Settings,
    stop_asked: asyncio.Event,
    running: list[asyncio.Task[None]],
    created: list[Path],
) -> None:
    server = HttpServer(gateway.asgi, Address.of_api(settings), Bounds.of_api(settings))
    serving = await server.start()
    try:
        _greet(settings, created)
        await _until_asked(stop_asked, serving, *running)
    finally:
        await gateway.begin_stop()
        await server.stop(_drain_seconds(settings))


def _collect_garbage_less_often() -> None:
    """Messages under way are many objects in few cycles, and the collector's defaults walk them again and again.

    Measured with a backlog of 20,000: a quarter to a half more deliveries a second (bench/delivery.py).
    """
    gc.collect()
    gc.freeze()  # what the start made stays for good
    gc.set_threshold(20_000, 20, 20)


def _greet(settings: Settings, created: list[Path]) -> None:
    url = Address.of_api(settings).url
    if created:
        _say(*created_lines(created), ready_line(url), next_steps(url))
    else:
        _say(ready_line(url))


def _own_files(settings: Settings) -> list[Path]:
    """What a first start makes."""
    return [settings.data_dir, settings.data_dir / SECRETS_FILE, settings.data_dir / "msgcore.db"]


def _on_first_signal(settings: Settings, *, api: bool, worker: bool) -> asyncio.Event:
    """An event set by the first SIGTERM or SIGINT; the second ends the process with 128 + its number."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        event.set()
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, _leave)
        _log_stop(settings, api=api, worker=worker)  # not before the hint in it is true

    for number in signals:
        loop.add_signal_handler(number, first)
    return event


def _log_stop(settings: Settings, *, api: bool, worker: bool) -> None:
    """Say at once what a stop waits for, since it may take a while and print nothing else."""
    waits_for = {"requests in progress": _drain_seconds(settings)} if api else {}
    if worker:
        waits_for["deliveries in flight"] = settings.shutdown_seconds
    logger.info(
        "stopping",
        waits_for=" and ".join(waits_for),
        waits_at_most=f"{sum(waits_for.values()):g} seconds",
        hint="a second signal ends it at once",
    )


def _drain_seconds(settings: Settings) -> float:
    return min(_DRAIN_SECONDS, settings.shutdown_seconds)


def _leave(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)

"""The embedded HTTP server: bind errors in one line, readiness, and a stop that lets requests end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from msgcore.cli.http_server import Address, HttpServer, require_free
from msgcore.config import Settings
from msgcore.core.errors import StartupError
from servers.gateway import free_port
from servers.patience import PATIENCE
from servers.tls import Authority

Message = dict[str, Any]


class App:
    """Answers `ok`; `/held` waits until the test lets it go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(
        self,
        scope: Message,
        _receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/held":
            self.entered.set()
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def where() -> Address:
    return Address("127.0.0.1", free_port())


@pytest.fixture
def app() -> App:
    return App()


async def get(where: Address, path: str = "/") -> str:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{where.port}{path}") as answer:
        return await answer.text()


async def test_it_answers_as_soon_as_start_returns(app: App, where: Address) -> None:
    server = HttpServer(app, where)
    await server.start()
    assert await get(where) == "ok"
    await server.stop(5)


async def test_a_name_can_be_listened_on(app: App) -> None:
    where = Address("localhost", free_port())
    require_free(where)
    server = HttpServer(app, where)
    await server.start()
    await server.stop(5)


async def test_https(app: App, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server_context()
    files = {"tls_cert": tmp_path / "server.pem", "tls_key": tmp_path / "server.key"}
    where = Address.of_api(Settings(port=free_port(), **files))
    assert where.url == f"https://127.0.0.1:{where.port}"
    require_free(where)
    server = HttpServer(app, where)
    await server.start()
    trusting = ssl.create_default_context(cafile=str(authority.file))
    async with aiohttp.ClientSession() as http:
        async with http.get(where.url, ssl=trusting) as answer:
            assert await answer.text() == "ok"
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://127.0.0.1:{where.port}")
    await server.stop(5)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_files_that_are_no_certificate_and_key(content: bytes | None, tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    if content is not None:
        chain.write_bytes(content)
        key.write_bytes(content)
    with pytest.raises(StartupError, match=r"^MSGCORE_TLS_CERT, MSGCORE_TLS_KEY: .* are not a certificate") as caught:
        require_free(Address("127.0.0.1", free_port(), certificate=(chain, key)))
    assert "\n" not in str(caught.value)


async def test_stop_refuses_new_connections_and_lets_requests_end(app: App, where: Address) -> None:
    server = HttpServer(app, where)
    await server.start()
    held = asyncio.create_task(get(where, "/held"))
    await app.entered.wait()
    stopping = asyncio.create_task(server.stop(30))
    while await _is_open(where):
        await asyncio.sleep(0.005)
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(where)
    assert not stopping.done()
    app.release.set()
    assert await held == "ok"
    await stopping


async def test_stop_is_bounded(app: App, where: Address) -> None:
    server = HttpServer(app, where)
    serving = await server.start()
    held = asyncio.create_task(get(where, "/held"))
    await app.entered.wait()
    async with asyncio.timeout(PATIENCE):
        await server.stop(0.05)
    assert serving.cancelling()
    app.release.set()
    await asyncio.wait({held})
    await server.stop(1)


async def test_a_port_in_use_is_named(app: App, where: Address) -> None:
    """Also when the other one shares its port, as granian itself does."""
    server = HttpServer(app, where)
    await server.start()
    with pytest.raises(StartupError, match=rf"^MSGCORE_PORT: 127\.0\.0\.1:{where.port} is already in use; stop"):
        require_free(where)
    await server.stop(5)
    require_free(where)


async def test_an_address_of_another_machine_is_named(app: App) -> None:
    where = Address("192.0.2.1", free_port())
    with pytest.raises(StartupError, match=r"^MSGCORE_HOST: 192\.0\.2\.1 is not an address of this machine"):
        require_free(where)
    with pytest.raises(StartupError, match=r"^MSGCORE_HOST, MSGCORE_PORT: cannot listen on 192\.0\.2\.1") as caught:
        await HttpServer(app, where).start()
    assert "\n" not in str(caught.value)


async def test_the_metrics_port_is_named_by_its_own_settings() -> None:
    nowhere = Address.of_metrics(Settings(metrics_port=9, metrics_host="192.0.2.1"))
    assert nowhere is not None
    with pytest.raises(StartupError, match=r"^MSGCORE_METRICS_HOST: 192\.0\.2\.1 is not"):
        require_free(nowhere)
    assert Address.of_metrics(Settings()) is None


async def test_a_port_taken_between_check_and_start_is_an_error(app: App, where: Address) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", where.port))
        other.listen()
        with pytest.raises(StartupError, match="cannot listen on"):
            await HttpServer(app, where).start()


async def _is_open(where: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", where.port)
    except OSError:
        return False
    writer.close()
    return True

"""A client that asks for a stream and reads nothing of it is let go; one that reads is not."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from msgcore.api import stalled
from msgcore.blobs import store
from msgcore.config import Settings
from msgcore.store.events import NewEvent, append
from servers.in_process import InProcess, in_this_process
from servers.patience import PATIENCE

NUMBER, SIZE = 16, 1_000_000
"""Events that together are more than the kernel takes for a connection that nobody reads (some 4 MB on loopback)."""
FILE = 12_000_000
END = b"0\r\n\r\n"


@pytest.fixture
async def served(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InProcess]:
    monkeypatch.setattr(stalled, "TAKE_SECONDS", 1.0)
    async with in_this_process(Settings(data_dir=tmp_path / "data", database_url=sqlite_url)) as made:
        yield made


@asynccontextmanager
async def asking(served: InProcess, key: str) -> AsyncIterator[socket.socket]:
    """A client that asked for the stream, and has read nothing of it."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.setblocking(False)
        request = (
            f"GET /api/v1/projects/shop/events?after=0 HTTP/1.1\r\nHost: {host}\r\n"
            f"Accept: text/event-stream\r\nX-API-Key: {key}\r\n\r\n"
        )
        await asyncio.get_running_loop().sock_sendall(client, request.encode())
        yield client


async def read(client: socket.socket) -> bytes:
    """What there is, up to the end of the connection."""
    found = bytearray()
    async with asyncio.timeout(PATIENCE):
        while some := await asyncio.get_running_loop().sock_recv(client, 1 << 20):
            found += some
    return bytes(found)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_who_reads_nothing_is_let_go(served: InProcess) -> None:
    key = await served.set_up()
    new = [NewEvent("shop", "test", {"text": "x" * SIZE}, datetime.now(UTC)) for _ in range(NUMBER)]
    await served.gateway.database.transact(lambda connection: append(connection, new))
    assert served.gateway._event_streams is not None
    waiting = served.gateway._event_streams._bus._waiting
    async with asking(served, key) as idle, asking(served, key) as reader:
        seen = b""
        async with asyncio.timeout(PATIENCE):
            while seen.count(b"\nid: ") < NUMBER:
                seen += await asyncio.get_running_loop().sock_recv(reader, 1 << 20)
        await until(lambda: len(waiting["shop"]) == 1)
        got = await read(idle)
        assert len(got) < NUMBER * SIZE
        assert not got.endswith(END), "it is told that this is not all"
        assert len(waiting["shop"]) == 1, "the other one goes on"


async def test_who_takes_nothing_of_a_file_is_let_go_and_the_file_closed(
    served: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.set_up()
    path = await served.add_sandbox()
    file = {"data": base64.b64encode(bytes(FILE)).decode(), "mimeType": "image/png"}
    report = {
        "chat": {"id": "c"},
        "author": {"id": "a"},
        "content": {"kind": "message", "id": "m", "attachments": [file]},
    }
    closed: list[bool] = []
    real = store._read

    async def watched(found: Any) -> AsyncGenerator[bytes]:
        try:
            async for piece in real(found):
                yield piece
        finally:
            closed.append(True)

    monkeypatch.setattr(store, "_read", watched)
    await served.ask("POST", path, report | {"eventId": "e"})
    page = await served.ask("GET", "projects/shop/events?after=0&types=message.received&wait=20")
    url = urlsplit(page["events"][0]["data"]["attachments"][0]["url"])
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.setblocking(False)
        request = f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(idle, request.encode())
        await until(lambda: closed == [True])
        assert len(await read(idle)) < FILE

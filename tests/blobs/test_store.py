"""The blob store, in a directory and in a bucket: files are there as a whole or not at all."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from msgcore.blobs import store
from msgcore.blobs.store import PIECE, BlobError, BlobMissingError, BlobStore
from msgcore.config import load_settings
from msgcore.core.errors import StartupError
from msgcore.core.ids import new_id
from servers.patience import PATIENCE
from servers.s3 import SECRET, S3Server, s3_server

LARGE = 2 * PIECE + 12_345


class Place:
    """A store, and what is behind it."""

    def __init__(self, blobs: BlobStore, root: Path, server: S3Server | None) -> None:
        self.blobs = blobs
        self._root = root
        self._server = server

    def names(self) -> list[str]:
        """Of everything that is there, half files included."""
        if self._server is not None:
            return [name.rpartition("/")[2] for name in (*self._server.objects, *self._server.uploads)]
        return [path.name for path in self._root.rglob("*") if path.is_file()]


@pytest.fixture(params=["directory", "bucket"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    root = tmp_path / "with space"
    if request.param == "directory":
        settings = load_settings({"MSGCORE_BLOB_URL": f"file://{tmp_path}/with%20space"})
        yield Place(BlobStore.open(settings), root, None)
        return
    async with s3_server() as server:
        yield Place(BlobStore.open(load_settings(server.settings())), root, server)


async def pieces(data: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]
    if error is not None:
        raise error


async def read(blobs: BlobStore, name: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in (await blobs.get(name, start, end)).pieces])


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, LARGE])
async def test_what_is_put_is_there(place: Place, size: int) -> None:
    data = os.urandom(size)
    one, other = new_id(), new_id()
    await place.blobs.put(one, data)
    await place.blobs.put(other, pieces(data))
    assert sorted(place.names()) == [one, other]
    for name in (one, other):
        assert (await place.blobs.get(name)).size == size
        assert await read(place.blobs, name) == data
    await place.blobs.put(one, b"anew")
    assert await read(place.blobs, one) == b"anew"
    await place.blobs.delete([one, other, new_id()])
    assert place.names() == []
    with pytest.raises(BlobMissingError):
        await place.blobs.get(one)
    await place.blobs.delete([one])


async def test_a_part_of_it(place: Place) -> None:
    name = new_id()
    await place.blobs.put(name, b"0123456789")
    assert [await read(place.blobs, name, *part) for part in ((2, 5), (9, 10), (0, 10), (4, None))] == [
        b"234",
        b"9",
        b"0123456789",
        b"456789",
    ]


@pytest.mark.parametrize("size", [100, LARGE])
async def test_a_source_that_fails_leaves_nothing(place: Place, size: int) -> None:
    fault = LookupError("too large")
    with pytest.raises(LookupError) as raised:
        await place.blobs.put(new_id(), pieces(bytes(size), fault))
    assert raised.value is fault
    assert place.names() == []


async def test_one_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """In a bucket its upload is left, which counts for nothing; rules of the bucket end those."""
    place = Place(BlobStore.open(load_settings({"MSGCORE_BLOB_URL": f"file://{tmp_path}"})), tmp_path, None)
    begun = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield bytes(LARGE)
        begun.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(place.blobs.put(new_id(), stuck()))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    putting.cancel()
    await asyncio.wait([putting])
    async with asyncio.timeout(PATIENCE):
        while place.names():  # it is tidied up on a thread of the library's
            await asyncio.sleep(0.01)


async def test_what_a_killed_process_left_is_dropped_with_the_next_put(tmp_path: Path) -> None:
    script = """
        import asyncio, os, signal, sys
        from msgcore.blobs.store import BlobStore
        from msgcore.config import load_settings
        async def endless():
            yield bytes(12_000_000)
            await asyncio.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(BlobStore.open(load_settings({"MSGCORE_BLOB_URL": sys.argv[1]})).put(sys.argv[2], endless()))
    """
    name, url = new_id(), f"file://{tmp_path}"
    command = [sys.executable, "-c", textwrap.dedent(script), url, name]
    assert (await asyncio.to_thread(subprocess.run, command, check=False, timeout=PATIENCE)).returncode == -9
    blobs = BlobStore.open(load_settings({"MSGCORE_BLOB_URL": url}))
    place = Place(blobs, tmp_path, None)
    assert place.names() == [f"{name}#1"]
    with pytest.raises(BlobMissingError):
        await blobs.get(name)
    await blobs.put(name, b"whole")
    assert place.names() == [name]


async def test_a_bucket_that_is_away_or_refuses_is_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RETRY_FOR", store.CONNECT / 100)
    async with s3_server() as server:
        right = server.settings()
        stranger = BlobStore.open(load_settings(right | {"MSGCORE_S3_SECRET_ACCESS_KEY": "another/secret"}))
        blobs = BlobStore.open(load_settings(right))
        name = new_id()
        await blobs.put(name, b"x")
        for status, given in ((None, stranger), (500, blobs), (403, blobs)):
            server.status = status
            for use in (given.put(name, b"y"), given.put(name, pieces(bytes(LARGE))), read(given, name)):
                with pytest.raises(BlobError) as raised:
                    await use
                assert SECRET not in str(raised.value)
        assert [*server.objects.values()] == [b"x"]
    with pytest.raises(BlobError):
        await blobs.delete([name])


def test_a_directory_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="MSGCORE_BLOB_URL"):
        BlobStore.open(load_settings({"MSGCORE_BLOB_URL": f"file://{tmp_path}/file"}))

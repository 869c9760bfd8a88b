"""The spool: what is put there comes out once more, in order, whatever happens to the process."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from msgcore.core.ids import new_id
from msgcore.inbound.spool import Spool, SpoolFullError
from msgcore.store.inbound import RawRequest

MEGABYTE = 1024 * 1024


def request(text: str) -> RawRequest:
    return RawRequest(
        id=new_id(),
        project_id="shop",
        platform_id=new_id(),
        platform="webhook",
        headers={"webhook-id": text},
        query="a=b",
        body=text.encode(),
        received_at=datetime.now(UTC),
    )


def opened(root: Path, largest: int = MEGABYTE) -> Spool:
    spool = Spool(root, largest=largest)
    spool.open()
    return spool


async def drain(spool: Spool) -> list[RawRequest]:
    found: list[RawRequest] = []
    while batch := await spool.first():
        assert await spool.first() == batch, "it stays until it is dropped"
        found += batch
        await spool.drop_first()
    return found


async def test_batches_come_out_in_order_and_once(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    requests = [request(str(number)) for number in range(10)]
    for start in range(0, 10, 3):
        await spool.put(requests[start : start + 3])
    assert not spool.is_empty
    assert await drain(spool) == requests
    assert (spool.is_empty, spool.size) == (True, 0)


async def test_the_next_run_finds_what_is_left(tmp_path: Path) -> None:
    first = opened(tmp_path)
    requests = [request("a"), request("b")]
    for each in requests:
        await first.put([each])
    first.close()
    second = opened(tmp_path)
    assert second.size > 0
    assert await drain(second) == requests


async def test_what_was_not_finished_was_not_answered(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.close()
    (tmp_path / "0" / "half.part").write_bytes(b"x")
    second = opened(tmp_path)
    assert second.is_empty
    assert list((tmp_path / "0").iterdir()) == []


async def test_it_is_bounded(tmp_path: Path) -> None:
    spool = opened(tmp_path, largest=4000)
    await spool.put([request("x" * 1000)])
    with pytest.raises(SpoolFullError):
        await spool.put([request("y" * 1000)])
    assert len(await drain(spool)) == 1
    await spool.put([request("y" * 1000)])


@pytest.mark.parametrize("synced", [0, 1], ids=["the file", "its folder"])
async def test_nothing_is_left_of_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: int
) -> None:
    spool, sync, calls = opened(tmp_path), os.fsync, count()

    def full(descriptor: int) -> None:
        if next(calls) == synced:
            raise OSError(errno.ENOSPC, "the disk is full")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        await spool.put([request("a")])
    assert list((tmp_path / "0").iterdir()) == []
    assert (spool.is_empty, spool.size) == (True, 0)
    await spool.put([request("b")])
    assert [each.body for each in await drain(spool)] == [b"b"]


async def test_a_damaged_file_holds_nothing_back(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    await spool.put([request("a")])
    last = request("b")
    await spool.put([last])
    (damaged, _) = sorted((tmp_path / "0").glob("*.batch"))
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert await drain(spool) == [last]
    assert [path.suffix for path in (tmp_path / "0").iterdir()] == [".damaged"]


async def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    await spool.put([request("a")])
    (file,) = (tmp_path / "spool" / "0").glob("*.batch")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_each_process_has_its_own_and_takes_over_what_nobody_has(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    await first.put([request("a")])
    left = request("b")
    await second.put([left])
    assert [len(list((tmp_path / name).iterdir())) for name in ("0", "1")] == [1, 1]
    second.close()
    third = opened(tmp_path)
    assert await drain(third) == [left]
    assert [each.body for each in await drain(first)] == [b"a"]


def test_a_killed_process_lets_its_folder_go(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=opened_and_killed, args=(tmp_path,))
    process.start()
    process.join(60)
    spool = opened(tmp_path)
    assert not (tmp_path / "1").exists()
    spool.close()


def opened_and_killed(root: Path) -> None:
    opened(root)
    os._exit(9)

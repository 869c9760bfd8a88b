"""The reader: several at once, what cannot be stored, and what comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from msgcore.blobs.store import BlobStore
from msgcore.config import Settings
from msgcore.core.clock import SystemClock
from msgcore.core.ids import new_id
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.inbound import recording
from msgcore.inbound.bus import EventBus
from msgcore.inbound.files import FileKeeper, FilePolicy
from msgcore.inbound.reader import Reader
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.sandbox import SandboxAdapter
from msgcore.platforms.sandbox.inbound import SandboxInbound
from msgcore.security.keyring import Keyring
from msgcore.setting_kinds import PROGRAMS
from msgcore.store.database import Database
from msgcore.store.inbound import RawRequest, keep, peek, purge_set_aside
from msgcore.store.tables import events, inbound_requests, message_attachments, project_platforms, received_messages
from servers.deliveries import make_account
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project

KEEP_ALL = FilePolicy(10_000, ("*/*",), PROGRAMS)
KEYRING = Keyring(b"k" * 32)


def request(text: str, *, event_id: str | None = None, message_id: str | None = None, **more: Any) -> RawRequest:
    content = {"kind": "message", "id": message_id or f"m-{text}", "text": text} | more
    report = {"chat": {"id": "room"}, "author": {"id": "ann"}, "content": content, "eventId": event_id or f"e-{text}"}
    return RawRequest(
        id=new_id(),
        project_id=PROJECT,
        platform_id=ACCOUNT,
        platform="sandbox",
        headers={},
        query="",
        body=msgspec.json.encode(report),
        received_at=NOW,
    )


class Inbox:
    """A database with a sandbox platform, and readers over it."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self.database = database
        self.blobs = blobs
        self.accounts = AccountDirectory(database, KEYRING)
        self.readers: list[Reader] = []

    def start(self, number: int = 1) -> None:
        for _ in range(number):
            reader = Reader(
                database=self.database,
                accounts=self.accounts,
                registry=PlatformRegistry(),
                bus=EventBus(),
                files=FileKeeper(database=self.database, blobs=self.blobs, policy=KEEP_ALL, clock=SystemClock()),
                clock=SystemClock(),
                on_wishes=lambda record, wishes: None,
                every=0.02,
            )
            reader.start()
            self.readers.append(reader)

    async def keep(self, *requests: RawRequest) -> None:
        await self.database.transact(lambda connection: keep(connection, requests))

    async def texts(self, *, set_aside: int = 0) -> list[str]:
        """The texts of the events, in order, once only so many requests are left."""
        async with asyncio.timeout(PATIENCE):
            while True:
                async with self.database.read() as connection:
                    number = (func.count(), func.count(inbound_requests.c.failed_at))
                    left, aside = (await connection.execute(select(*number).select_from(inbound_requests))).one()
                    rows = (await connection.execute(select(events.c.data).order_by(events.c.sequence))).scalars().all()
                if left == aside:
                    assert left == set_aside
                    return [data["text"] for data in rows]
                await asyncio.sleep(0.01)


@pytest.fixture
async def inbox(database: Database, tmp_path: Path) -> AsyncIterator[Inbox]:
    await add_project(database)
    sealed = KEYRING.encrypt(b"{}", context=ACCOUNT)
    async with database.write() as connection:
        await connection.execute(update(project_platforms).values(credentials_encrypted=sealed))
    made = Inbox(database, BlobStore.open(Settings(data_dir=tmp_path)))
    yield made
    for reader in made.readers:
        await reader.stop()


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """What says poison cannot be stored, whatever else is with it."""
    store = recording.store.keep_messages

    def refusing(connection: Any, messages: Sequence[dict[str, Any]], files: Sequence[dict[str, Any]]) -> None:
        if any("poison" in row["message_text"] for row in messages):
            raise DBAPIError("INSERT", {}, Exception("value out of range"))
        store(connection, messages, files)

    monkeypatch.setattr(recording.store, "keep_messages", refusing)


async def test_several_readers_keep_the_order_and_read_everything_once(inbox: Inbox) -> None:
    inbox.start(3)
    for number in range(30):
        await inbox.keep(request(f"{number}a"), request(f"{number}b"))
        await asyncio.sleep(0)
    assert await inbox.texts() == [f"{number}{letter}" for number in range(30) for letter in "ab"]


async def test_a_reader_that_comes_late_forgets_nothing_that_came_since(inbox: Inbox) -> None:
    """SQLite numbers what comes next as what the other reader has just forgotten."""

    async def seen() -> list[recording.Reading]:
        waiting = await peek(inbox.database, ACCOUNT, 10)
        return recording.read(SandboxAdapter, SandboxInbound(), make_account("sandbox", {}), waiting.requests)

    async def write(readings: list[recording.Reading]) -> int:
        written = await inbox.database.transact(
            lambda connection: recording.record(connection, SandboxAdapter, ACCOUNT, readings, NOW)
        )
        return written.events

    await inbox.keep(request("first"))
    one, other = await seen(), await seen()
    assert await write(one)
    await inbox.keep(request("second"))
    assert not await write(other)
    # The spool gives once more what it is not sure of, whose number of before is another's by then.
    assert await write(await seen())
    twice = request("third")
    await inbox.keep(twice, request("fourth"))
    one, other = await seen(), await seen()
    assert await write(one)
    await inbox.keep(request("fifth"), twice)
    assert not await write(other)
    inbox.start()
    assert await inbox.texts() == ["first", "second", "third", "fourth", "fifth"]


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("readers", [1, 3])
async def test_only_what_cannot_be_stored_is_set_aside(inbox: Inbox, readers: int) -> None:
    await inbox.keep(*(request(text) for text in ("a", "poison 1", "b", "poison 2", "c")))
    inbox.start(readers)
    assert await inbox.texts(set_aside=2) == ["a", "b", "c"]
    async with inbox.database.read() as connection:
        aside = (await connection.execute(select(inbound_requests))).all()
    assert sorted(msgspec.json.decode(row.body)["content"]["text"] for row in aside) == ["poison 1", "poison 2"]
    assert await purge_set_aside(inbox.database, aside[0].failed_at + timedelta(days=1)) == 2


async def test_what_came_waits_while_the_database_is_damaged(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    store, left = recording.store.keep_messages, [asyncpg.DataCorruptedError("invalid page")] * 3

    def damaged(*arguments: Any) -> None:
        if left:
            raise DBAPIError("INSERT", {}, left.pop())
        store(*arguments)

    monkeypatch.setattr(recording.store, "keep_messages", damaged)
    monkeypatch.setattr("msgcore.inbound.reader.AWAY_SECONDS", 0.01)
    await inbox.keep(request("a"), request("b"))
    inbox.start()
    assert await inbox.texts() == ["a", "b"]
    assert not left


async def test_a_message_that_comes_again_under_another_id_is_known(inbox: Inbox) -> None:
    files = [{"type": "image", "url": "https://x.example/a.png"}]
    inbox.start()
    await inbox.keep(request("once", event_id="e1", message_id="m", attachments=files))
    assert await inbox.texts() == ["once"]
    await inbox.keep(request("again", event_id="e2", message_id="m", attachments=files), request("other"))
    assert await inbox.texts() == ["once", "other"]
    async with inbox.database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(received_messages)) == 2
        assert await connection.scalar(select(func.count()).select_from(message_attachments)) == 1


async def test_an_id_with_nul_is_set_aside_and_not_lost(inbox: Inbox) -> None:
    inbox.start()
    await inbox.keep(request("bad", event_id="e\x00x"), request("good"))
    assert await inbox.texts(set_aside=1) == ["good"]


async def test_what_cannot_be_read_is_set_aside_whatever_it_says(inbox: Inbox) -> None:
    odd = request("odd", kind="a\0b" + "c" * 5000)
    await inbox.keep(request("one"), odd, request("two"))
    inbox.start()
    assert await inbox.texts(set_aside=1) == ["one", "two"]
    async with inbox.database.read() as connection:
        reason = await connection.scalar(select(inbound_requests.c.error))
    assert reason.startswith("the body is no report: Invalid value 'ab")
    assert len(reason) <= recording.LONGEST_REASON


async def test_what_a_newer_version_stored_waits_for_it(inbox: Inbox) -> None:
    async with inbox.database.write() as connection:
        await connection.execute(update(project_platforms).values(platform="of-tomorrow"))
    await inbox.keep(request("later"))
    inbox.start()
    await asyncio.sleep(0.2)
    async with inbox.database.write() as connection:
        await connection.execute(update(project_platforms).values(platform="sandbox"))
    inbox.accounts.forget(ACCOUNT)
    assert await inbox.texts() == ["later"]

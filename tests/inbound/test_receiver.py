"""The receiver: where requests are looked at, and what waits on the disk."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from msgcore.config import Settings
from msgcore.core.clock import SystemClock
from msgcore.core.ids import new_id
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.inbound.receiver import LARGE, Receiver
from msgcore.inbound.spool import Spool
from msgcore.inbound.tokens import TokenDirectory
from msgcore.observability.metrics import Metrics
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.keyring import Keyring
from msgcore.store.database import Database
from msgcore.store.inbound import RawRequest
from servers.in_process import in_this_process
from servers.patience import PATIENCE
from servers.postgres import PostgresServer
from store.ledger_rows import NOW

FAILS_ONCE = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('tries') < 2 THEN RAISE EXCEPTION 'not yet'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER fails BEFORE INSERT ON inbound_requests FOR EACH ROW EXECUTE FUNCTION fail();
"""


async def test_large_requests_are_looked_at_beside_the_event_loop(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbound = PlatformRegistry().inbound("sandbox")
    seen: list[tuple[str, bool]] = []

    def watch(name: str) -> None:
        real = getattr(type(inbound), name)

        def watched(*arguments: Any) -> Any:
            seen.append((name, threading.current_thread() is threading.main_thread()))
            return real(*arguments)

        monkeypatch.setattr(type(inbound), name, watched)

    parts = ["verify", "handshake", "check", "reply"]
    for part in parts:
        watch(part)
    async with in_this_process(Settings(data_dir=tmp_path / "data", database_url=sqlite_url)) as served:
        await served.set_up()
        path = await served.add_sandbox()
        for size, is_on_loop in ((1, True), (LARGE, False)):
            content = {"kind": "message", "id": f"m{size}", "text": "x" * size}
            report = {"chat": {"id": "room"}, "author": {"id": "ann"}, "content": content, "eventId": f"e{size}"}
            reply = await asyncio.to_thread(served.api.ask, "POST", path, report)
            assert reply.status == 200, reply
            assert seen == [(part, is_on_loop) for part in parts]
            seen.clear()


async def test_what_waits_on_the_disk_is_tried_again_whatever_failed(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """It was answered, so nobody may ever come again who would have it tried."""
    postgres_server.run(postgres_url, lambda connection: connection.execute(FAILS_ONCE))
    waiting = RawRequest(new_id(), "shop", new_id(), "sandbox", {}, "", b"{}", NOW)
    left = Spool(tmp_path, largest=10_000)
    left.open()
    await left.put([waiting])
    left.close()
    database, stored = Database.open(postgres_url), asyncio.Queue[str]()
    accounts = AccountDirectory(database, Keyring(b"k" * 32))
    receiver = Receiver(
        database=database,
        tokens=TokenDirectory(database, accounts),
        accounts=accounts,
        registry=PlatformRegistry(),
        spool=Spool(tmp_path, largest=10_000),
        clock=SystemClock(),
        on_stored=stored.put_nowait,
        metrics=Metrics(),
        largest_body=1000,
    )
    receiver.start()
    async with asyncio.timeout(PATIENCE):
        assert await stored.get() == waiting.platform_id
    assert receiver.spool_bytes == 0
    await receiver.stop()
    await database.close()

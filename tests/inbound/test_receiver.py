"""The receiver: where requests are looked at."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from msgcore.config import Settings
from msgcore.inbound.receiver import LARGE
from msgcore.platforms.registry import PlatformRegistry
from servers.in_process import in_this_process


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

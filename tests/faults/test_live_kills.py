"""kill -9 of the gateway while Telegram is polled and Slack's socket is open: all that they tell is an event once.

What a killed process leaves behind, its leases, is made to be over here, so that nobody waits for that. `make test`
runs a short form; `make test-faults` the long one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from platforms.slack.socket_mode import SocketMode
from platforms.telegram.bot_api import BotApi
from servers.gateway import GatewayProcess
from servers.http_sink import http_sink
from servers.patience import PATIENCE

KILLS = int(os.environ.get("MSGCORE_FAULT_LIVE_KILLS", "1"))
TOLD_BETWEEN = 60
"""Messages of each platform from one kill to the next."""
TOKEN, APP_TOKEN = "123456789:AAExampleExampleExampleExampleExam", "xapp-1-A1234-5678-abcdef"


class Platforms:
    """A Bot API and a Slack, in a thread and an event loop of their own."""

    bot_api: BotApi
    slack: SocketMode
    urls: dict[str, str]

    def __init__(self) -> None:
        self.told = 0
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def tell(self) -> None:
        """Tell the next messages, one after the other."""
        asyncio.run_coroutine_threadsafe(self._tell(), self._loop).result(PATIENCE)

    async def _tell(self) -> None:
        for number in range(self.told, self.told + TOLD_BETWEEN):
            self.bot_api.bots[TOKEN].tell(f"t{number}")
            said = {
                "type": "message",
                "channel": "C1234",
                "user": "U1234",
                "text": f"s{number}",
                "ts": f"1.{number:06}",
            }
            await self.slack.tell("events_api", {"type": "event_callback", "event_id": f"Ev{number}", "event": said})
            await asyncio.sleep(0.002)
        self.told += TOLD_BETWEEN

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with http_sink() as telegram, http_sink() as slack:
            self.bot_api, self.slack = BotApi(telegram, TOKEN), SocketMode(slack, APP_TOKEN)
            self.urls = {"MSGCORE_TELEGRAM_BASE_URL": telegram.url, "MSGCORE_SLACK_BASE_URL": slack.url}
            self._is_up.set()
            await self._over.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


def wait_until(is_so: Callable[[], bool], gateway: GatewayProcess) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, gateway.tail()
        time.sleep(0.005)


def end_leases(data_dir: Path) -> None:
    """As if they had run out."""
    with sqlite3.connect(data_dir / "msgcore.db", timeout=30) as connection:
        connection.execute("UPDATE connections SET until = '2000-01-01 00:00:00.000000'")
        connection.execute("DELETE FROM connection_holders")
    connection.close()


def test_nothing_is_lost_or_doubled_over_kills(tmp_path: Path) -> None:
    with Platforms() as told, GatewayProcess(data_dir=tmp_path, **told.urls) as gateway:
        key = gateway.set_up()
        gateway.add_platform(key, "telegram", {"token": TOKEN, "polling": True})
        gateway.add_platform(key, "slack", {"botToken": "xoxb-example-example", "appToken": APP_TOKEN})
        for kill in range(KILLS):
            wait_until(lambda: bool(told.slack.open) and bool(told.bot_api.bots[TOKEN].given), gateway)
            telling = threading.Thread(target=told.tell)
            telling.start()
            enough = kill * TOLD_BETWEEN + TOLD_BETWEEN // 3
            wait_until(lambda enough=enough: len(told.slack.acknowledged) > enough, gateway)
            gateway.kill()
            telling.join()
            told.bot_api.bots[TOKEN].given.clear()
            end_leases(tmp_path)
            gateway.start()
        texts: list[str] = []
        after = 0
        while len(texts) < 2 * told.told:
            path = f"/api/v1/projects/bench/events?after={after}&types=message.received&wait=30"
            page = gateway.call("GET", path, x_api_key=key)
            texts += [event["data"]["text"] for event in page["events"]]
            assert page["events"], (len(texts), gateway.tail())
            after = page["next"]
        wait_until(lambda: not told.bot_api.bots[TOKEN].updates and not told.slack.waiting, gateway)
    assert [text for text in texts if text[0] == "t"] == [f"t{number}" for number in range(told.told)]
    assert sorted(text for text in texts if text[0] == "s") == sorted(f"s{number}" for number in range(told.told))

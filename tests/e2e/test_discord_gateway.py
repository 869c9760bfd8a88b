"""A bot's messages over the gateway become events, also those that came while MsgCore was not there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from msgcore.config import Settings
from servers.discord_gateway import TOKEN, discord_gateway
from servers.in_process import InProcess, in_this_process
from servers.patience import PATIENCE


async def next_text(served: InProcess, after: int) -> str:
    """The message that was received after a place."""
    path = f"projects/shop/events?after={after}&types=message.received&wait=1"
    async with asyncio.timeout(PATIENCE):
        while not (events := (await served.ask("GET", path))["events"]):
            pass
    [event] = events
    return str(event["data"]["text"])


async def problem(served: InProcess) -> dict[str, Any]:
    """The first error of a connection."""
    async with asyncio.timeout(PATIENCE):
        while True:
            logs = (await served.ask("GET", "projects/shop/platforms/logs?category=connection&level=error"))["logs"]
            if logs:
                return dict(logs[0])
            await asyncio.sleep(0.02)


async def test_over_a_restart_and_until_the_token_is_reset(tmp_path: Path, sqlite_url: str) -> None:
    async with discord_gateway() as discord:
        settings = Settings(
            data_dir=tmp_path / "data",
            database_url=sqlite_url,
            platform_base_urls={"discord": discord.api},
            egress_allow=("127.0.0.0/8",),
        )
        async with in_this_process(settings) as served:
            key = await served.set_up()
            bot = {"platform": "discord", "name": "bot", "credentials": {"token": TOKEN}}
            await served.ask("POST", "projects/shop/platforms", bot)
            await discord.until_up()
            await discord.say("1001", "hello")
            assert await next_text(served, 0) == "hello"
        await discord.say("1002", "anybody there?")
        async with in_this_process(settings) as served:
            served.api = served.api.as_key(key)
            assert await next_text(served, 1) == "anybody there?"
            assert (len(discord.identified), len(discord.resumed)) == (1, 1)
            await discord.until_up()
            discord.token = "another"
            await discord.close(4004)
            found = await problem(served)
            assert "Reset Token" in found["error"]
            assert found["metadata"]["retryInSeconds"] > 60
        assert (len(discord.identified), len(discord.resumed), discord.complaints) == (1, 1, [])

"""Long polling against a server that keeps updates as Telegram's does."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from msgcore.config import Settings
from msgcore.core.errors import AuthenticationError, DeliveryError, TemporaryError, ThrottledError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account
from msgcore.platforms.telegram import live
from msgcore.platforms.telegram.live import TelegramLive
from msgcore.store.database import Database
from msgcore.store.tables import connections
from platforms.telegram.bot_api import Bot, BotApi
from servers.deliveries import make_account
from servers.http_sink import HttpSink
from servers.in_process import in_this_process
from servers.live_sink import MemorySink, connected
from servers.patience import PATIENCE

TOKEN, OTHER_TOKEN = "123456789:AAExampleExampleExampleExampleExam", "987654321:AAExampleExampleExampleExampleExam"


def account(token: str = TOKEN, version: str = "1") -> Account:
    return make_account("telegram", {"token": token, "polling": True}, version=version)


@pytest.fixture
def api(sink: HttpSink, services: AdapterServices) -> BotApi:
    services.base_urls["telegram"] = sink.url
    return BotApi(sink, TOKEN, OTHER_TOKEN)


@pytest.fixture
def bot(api: BotApi) -> Bot:
    return api.bots[TOKEN]


@pytest.fixture
def telegram(services: AdapterServices, monkeypatch: pytest.MonkeyPatch) -> TelegramLive:
    monkeypatch.setattr(live, "CONFLICT_SECONDS", 0.0)
    return TelegramLive(services)


def texts(kept: MemorySink) -> list[str]:
    return [msgspec.json.decode(body)["message"]["text"] for body in kept.bodies]


async def test_what_waits_and_what_comes_is_stored_once_over_breaks(telegram: TelegramLive, bot: Bot) -> None:
    bot.webhook = "https://elsewhere.example/hook"
    bot.tell("before")
    kept = MemorySink()
    async with connected(telegram, account(), kept):
        await kept.until(1)
        bot.tell(*(f"{number}" for number in range(250)))
        await kept.until(251)
    bot.tell("while nobody was there")
    async with connected(telegram, account(), kept):
        bot.tell("last")
        await kept.until(253)
    assert texts(kept) == ["before", *(f"{number}" for number in range(250)), "while nobody was there", "last"]
    assert bot.calls["deleteWebhook"] == 1, "what waited was not dropped, and it was not asked for again"
    assert {given["timeout"] for given in bot.given} == {0, 50}
    assert "message_reaction" in bot.given[0]["allowed_updates"]


async def test_what_is_not_stored_is_not_confirmed(telegram: TelegramLive, bot: Bot) -> None:
    kept = MemorySink()
    async with connected(telegram, account(), kept) as running:
        kept.away = True
        bot.tell("a", "b")
        await asyncio.wait([running])
        assert isinstance(running.exception(), ConnectionRefusedError)
    assert len(bot.updates) == 2
    kept.away = False
    async with connected(telegram, account(), kept):
        bot.tell("c")
        await kept.until(3)
    assert texts(kept) == ["a", "b", "c"]


async def test_an_offset_is_of_its_bot_and_may_go_back(telegram: TelegramLive, api: BotApi, bot: Bot) -> None:
    other = api.bots[OTHER_TOKEN]
    other.next_id -= 5
    other.tell("to the other")
    bot.tell("to the one")
    kept = MemorySink()
    async with connected(telegram, account(), kept):
        await kept.until(1)
    async with connected(telegram, account(OTHER_TOKEN, "2"), kept):
        await kept.until(2)
        await other.until_polled()
        other.next_id -= 500_000_000  # after a week without any, numbers begin anywhere
        other.tell("a week later")
        await kept.until(3)
        other.tell("and then")
        await kept.until(4)
    assert texts(kept) == ["to the one", "to the other", "a week later", "and then"]


async def test_pressed_buttons_are_answered_once_they_are_safe(telegram: TelegramLive, bot: Bot) -> None:
    kept = MemorySink()
    async with connected(telegram, account(), kept) as running:
        kept.away = True
        bot.tell(callback_query={"id": "4382bfdwdsb323b2d9", "from": {"id": 1}, "data": "yes"})
        await asyncio.wait([running])
        assert bot.answered == []
    kept.away = False
    async with connected(telegram, account(), kept), asyncio.timeout(PATIENCE):
        while not bot.answered:
            await asyncio.sleep(0.005)
    assert (bot.answered, len(kept.bodies)) == (["4382bfdwdsb323b2d9"], 1)


async def test_a_webhook_is_removed_when_polling_begins_and_told_of_later(telegram: TelegramLive, bot: Bot) -> None:
    kept = MemorySink()
    async with connected(telegram, account(), kept) as running:
        bot.abort("Conflict: terminated by setWebhook request")
        bot.webhook = "https://elsewhere.example/hook"
        await asyncio.wait([running])
    for _ in range(2):
        with pytest.raises(TemporaryError, match="save the account") as raised:
            async with connected(telegram, account(), kept):
                pass
        assert raised.value.code == "webhook_set"
    assert bot.webhook
    async with connected(telegram, account(version="2"), kept):
        assert not bot.webhook


async def test_somebody_else_who_polls_is_told_of(telegram: TelegramLive, bot: Bot) -> None:
    kept, theirs = MemorySink(), MemorySink()
    async with connected(telegram, account(), kept) as running:
        await bot.until_polled()
        async with connected(telegram, account(version="2"), theirs):
            await asyncio.wait([running])
    error = running.exception()
    assert isinstance(error, TemporaryError)
    assert (error.code, "Another program polls" in error.message) == ("polled_elsewhere", True)


def said(status: int, words: str, **more: Any) -> tuple[int, Any]:
    return status, {"ok": False, "error_code": status, "description": words, **more}


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (said(401, "Unauthorized"), AuthenticationError, "credentials_refused"),
        (said(404, "Not Found"), AuthenticationError, "credentials_refused"),
        (said(429, "Too Many Requests", parameters={"retry_after": 7}), ThrottledError, "rate_limited"),
        (said(500, "Internal Server Error: restart"), TemporaryError, "platform_unavailable"),
        ((502, {}), TemporaryError, "platform_unavailable"),
        ((200, {"ok": True, "result": True}), TemporaryError, "answer_unreadable"),
        ((200, b"<html>"), TemporaryError, "answer_unreadable"),
        ((200, {"ok": True, "result": [{"x": 1}]}), TemporaryError, "answer_unreadable"),
    ],
)
async def test_what_goes_wrong_is_told_apart(
    telegram: TelegramLive, api: BotApi, answer: tuple[int, Any], kind: type[DeliveryError], code: str
) -> None:
    kept = MemorySink(states=[{"bot": "123456789", "since": "1"}])
    api.wrong.append(answer)
    with pytest.raises(kind) as raised:
        async with connected(telegram, account(), kept):
            pass
    assert raised.value.code == code
    assert TOKEN not in str(raised.value)


async def test_updates_that_are_too_large_hold_nothing_up(
    telegram: TelegramLive, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LARGEST_ANSWER", 3000)
    kept = MemorySink(largest=1000)
    bot.tell("a", "x" * 2000, *("b" * 500 for _ in range(9)))
    async with connected(telegram, account(), kept):
        await kept.until(10)
    assert [len(text) for text in texts(kept)] == [1] + [500] * 9
    assert [note.endswith("was left out: at most 1000 are taken") for note in kept.notes] == [True]
    bot.tell("y" * 3000)
    with pytest.raises(TemporaryError, match="as a whole"):
        async with connected(telegram, account(), kept) as running:
            await running


async def test_hundreds_of_idle_bots_cost_a_request_and_no_thread(
    telegram: TelegramLive, sink: HttpSink, services: AdapterServices
) -> None:
    services.base_urls["telegram"] = sink.url
    tokens = [f"{number}:AAExampleExampleExampleExampleExam" for number in range(1000, 1300)]
    api = BotApi(sink, *tokens)
    threads = threading.active_count()
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        sinks = [MemorySink() for _ in tokens]
        for token, kept in zip(tokens, sinks, strict=True):
            running = asyncio.create_task(telegram.run(account(token), kept, None))
            stack.callback(running.cancel)
        for each in api.bots.values():
            await each.until_polled()
        assert threading.active_count() <= threads + 1
        assert all(each.calls == {"deleteWebhook": 1, "getUpdates": 2} for each in api.bots.values())
        for each in api.bots.values():
            each.tell("wake up")
        for kept in sinks:
            await kept.until(1)


@pytest.fixture
def settings(tmp_path: Path, sink: HttpSink) -> Settings:
    return Settings(data_dir=tmp_path, egress_allow=["127.0.0.0/8"], platform_base_urls={"telegram": sink.url})


async def is_polled(settings: Settings) -> bool:
    """Whether the gateway's one account asks for a connection."""
    database = Database.open(f"sqlite:///{settings.data_dir}/msgcore.db")
    try:
        async with database.read() as connection:
            return bool(await connection.scalar(select(connections.c.is_wanted)))
    finally:
        await database.close()


async def test_a_gateway_polls_until_a_webhook_is_registered_and_again_when_it_is_told_to(
    settings: Settings, api: BotApi, bot: Bot
) -> None:
    async with in_this_process(settings) as running, asyncio.timeout(PATIENCE):
        await running.set_up()
        made = {"platform": "telegram", "name": "bot", "credentials": {"token": TOKEN, "polling": True}}
        id_ = (await running.ask("POST", "projects/shop/platforms", made))["id"]
        path = f"projects/shop/platforms/{id_}"
        bot.tell("polled")
        page = await running.ask("GET", "projects/shop/events?types=message.received&wait=30")
        assert [event["data"]["text"] for event in page["events"]] == ["polled"]
        registered = await running.ask("POST", f"{path}/register-webhook")
        assert registered["webhookInfo"]["url"] == bot.webhook == registered["webhookUrl"]
        while await is_polled(settings):
            await asyncio.sleep(0.01)
        await running.ask("PATCH", path, {"credentials": {"token": "*****", "polling": True}})
        bot.tell("polled again")
        page = await running.ask("GET", f"projects/shop/events?types=message.received&after={page['next']}&wait=30")
        assert [each["data"]["text"] for each in page["events"]] == ["polled again"]
        assert not bot.webhook
        logs = await running.ask("GET", "projects/shop/platforms/logs?category=connection")
        assert {log["level"] for log in logs["logs"]} == {"info"}

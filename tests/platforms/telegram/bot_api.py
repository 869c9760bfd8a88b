"""A Bot API server that keeps updates as Telegram's does, for several bots.

Offsets, conflicts and their words are those of its open source server (https://github.com/tdlib/telegram-bot-api,
telegram-bot-api/Client.cpp: process_get_updates_query, do_get_updates, abort_long_poll; tddb/td/db/TQueue.cpp: get).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from platforms.telegram.facts import arguments
from servers.http_sink import HttpSink
from servers.patience import PATIENCE
from specs.telegram import check_method

FIRST_ID = 870_000_000
WEBHOOK = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
OTHER = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"


@dataclass
class Bot:
    """One bot: the updates that nobody confirmed yet, and who asks for them."""

    updates: list[dict[str, Any]] = field(default_factory=list)
    next_id: int = FIRST_ID
    webhook: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    polling: asyncio.Future[str] | None = None
    calls: Counter[str] = field(default_factory=Counter)
    answered: list[str] = field(default_factory=list)
    """Pressed buttons that were answered."""
    given: list[dict[str, Any]] = field(default_factory=list)
    """The arguments of each getUpdates."""

    def tell(self, *texts: str, **other: Any) -> None:
        """Something was written to it, or happened."""
        chat = {"id": 123456789, "type": "private", "first_name": "Ann"}
        for text in texts:
            number = self.next_id - FIRST_ID + 1
            message = {"message_id": number, "date": 1700000000, "chat": chat, "from": chat, "text": text}
            self._push({"message": message})
        if other:
            self._push(other)

    def _push(self, update: dict[str, Any]) -> None:
        self.updates.append({"update_id": self.next_id, **update})
        self.next_id += 1
        self.news.set()

    async def until_polled(self) -> None:
        """Wait until a request waits for news: all before it were confirmed."""
        async with asyncio.timeout(PATIENCE):
            while self.updates or self.polling is None:
                await asyncio.sleep(0.005)

    def abort(self, why: str) -> None:
        """End the request that waits."""
        if self.polling is not None and not self.polling.done():
            self.polling.set_result(why)
        self.polling = None


class BotApi:
    """Answers at `sink` for the bots that are in `bots`, by token."""

    def __init__(self, sink: HttpSink, *tokens: str) -> None:
        self.bots = {token: Bot() for token in tokens}
        self.wrong: list[tuple[int, Any]] = []
        """What is answered to the next calls instead."""
        self._sink = sink
        sink.answer = self._answer

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = self._sink.requests[-1]
        method, given, files = arguments(asked)
        check_method(method, given, files)
        if self.wrong:
            status, body = self.wrong.pop(0)
            return web.json_response(body, status=status) if isinstance(body, dict) else web.Response(body=body)
        bot = self.bots.get(request.path.split("/")[1].removeprefix("bot"))
        if bot is None:
            return _failed(401, "Unauthorized")
        bot.calls[method] += 1
        try:
            return web.json_response({"ok": True, "result": await _METHODS[method](bot, given)})
        except web.HTTPConflict as conflict:
            return _failed(409, conflict.text or "")


def _failed(status: int, words: str) -> web.Response:
    return web.json_response({"ok": False, "error_code": status, "description": words}, status=status)


async def _get_updates(bot: Bot, given: dict[str, Any]) -> list[dict[str, Any]]:
    if bot.webhook:
        raise web.HTTPConflict(text=WEBHOOK)
    bot.given.append(given)
    offset = given.get("offset", 0)
    if 0 < offset <= bot.next_id + 10:  # any other is as good as none
        bot.updates = [update for update in bot.updates if update["update_id"] >= offset]
    if not bot.updates and given["timeout"]:
        bot.abort(OTHER)
        bot.news.clear()
        bot.polling = polling = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(bot.news.wait())
        try:
            await asyncio.wait({waiting, polling}, timeout=given["timeout"], return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                raise web.HTTPConflict(text=polling.result())
        finally:
            waiting.cancel()
    return bot.updates[: given["limit"]]


async def _set_webhook(bot: Bot, given: dict[str, Any]) -> bool:
    bot.abort("Conflict: terminated by setWebhook request")
    bot.webhook = given["url"]
    return True


async def _delete_webhook(bot: Bot, given: dict[str, Any]) -> bool:
    bot.webhook = ""
    if given.get("drop_pending_updates"):
        bot.updates.clear()
    return True


async def _get_webhook_info(bot: Bot, given: dict[str, Any]) -> dict[str, Any]:
    del given
    return {"url": bot.webhook, "has_custom_certificate": False, "pending_update_count": len(bot.updates)}


async def _answer_callback_query(bot: Bot, given: dict[str, Any]) -> bool:
    bot.answered.append(given["callback_query_id"])
    return True


_METHODS = {
    "getUpdates": _get_updates,
    "setWebhook": _set_webhook,
    "deleteWebhook": _delete_webhook,
    "getWebhookInfo": _get_webhook_info,
    "answerCallbackQuery": _answer_callback_query,
}

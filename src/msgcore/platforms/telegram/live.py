"""Updates by long polling (https://core.telegram.org/bots/api#getupdates), for gateways that nobody can post to.

Telegram keeps updates, for a day, until it is asked for the ones behind them. So the offset is raised only when the
updates before it are stored, and is stored with them: what was not stored comes again, and what was does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from msgcore.core.errors import DeliveryError, TemporaryError
from msgcore.platforms.answer_reader import AnswerReader
from msgcore.platforms.live import Live, Sink, State, fitting
from msgcore.platforms.telegram.api import method_url
from msgcore.platforms.telegram.errors import ERRORS, read_problem
from msgcore.platforms.telegram.inbound import UPDATES

if TYPE_CHECKING:
    from msgcore.outbound.services import AdapterServices
    from msgcore.outbound.transport import Response
    from msgcore.platforms.base import Account

POLL_SECONDS = 50
"""How long Telegram holds a request back while there is nothing to tell; 50 is the most that its server takes."""
ANSWER_SECONDS = 15.0
"""For the rest of a request."""
CONFLICT_SECONDS = 5.0
"""Before a conflict is told: whoever registers a webhook here, or takes the connection over, ends this one by then."""
MOST_UPDATES = 100
LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer. Updates have some 1,000 each; Telegram's server keeps none of more than 512 KiB."""

_JSON = {"Content-Type": "application/json"}


class _Query(msgspec.Struct):
    id: str


class _Update(msgspec.Struct):
    """What has to be known of an update here; it is stored as it came."""

    update_id: int
    callback_query: _Query | None = None


class _Updates(msgspec.Struct):
    result: list[msgspec.Raw]


class TelegramLive(Live):
    """Polls for bots: a request each, which waits at Telegram most of the time."""

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._answers = AnswerReader("Telegram", read_problem, ERRORS, services.clock)

    @classmethod
    def wanted(cls, account: Account) -> bool:
        """Where it was asked for."""
        return account.credentials.get("polling") is True

    async def run(self, account: Account, sink: Sink, state: State | None) -> None:
        """Take what waits, and then what comes."""
        progress = _beginning(account, state)
        if progress["since"] != account.version:
            await self._ask(account, "deleteWebhook", {"drop_pending_updates": False})
            progress["since"] = account.version
            await sink.store([], dict(progress))
        limit, wait = MOST_UPDATES, 0  # the first answer comes at once, and tells whether polling works
        while True:
            answer = await self._poll(account, progress.get("offset"), limit, wait)
            if answer.body is None:
                limit = _fewer(limit)  # too many, or too slow, to be had in time
                continue
            if wait == 0:
                sink.connected()
            limit, wait = MOST_UPDATES, POLL_SECONDS
            raw, updates = _read(answer.body)
            if updates:
                progress["offset"] = updates[-1].update_id + 1
                payloads, notes = fitting((bytes(each) for each in raw), sink.largest)
                await sink.store(payloads, dict(progress), notes)
                await self._answer_clicks(account, updates)

    async def _poll(self, account: Account, offset: int | None, limit: int, wait: int) -> Response:
        asked: dict[str, Any] = {"timeout": wait, "limit": limit, "allowed_updates": UPDATES}
        if offset is not None:
            asked["offset"] = offset
        try:
            return await self._ask(account, "getUpdates", asked, ANSWER_SECONDS + wait)
        except TemporaryError as error:
            if error.code in ("polled_elsewhere", "webhook_set"):
                await asyncio.sleep(CONFLICT_SECONDS)
            raise

    async def _answer_clicks(self, account: Account, updates: Sequence[_Update]) -> None:
        """A pressed button shows that it waits until the press is answered (answerCallbackQuery)."""
        pressed = [update.callback_query.id for update in updates if update.callback_query is not None]
        if pressed:
            await asyncio.gather(*(self._answer_click(account, id_) for id_ in pressed))

    async def _answer_click(self, account: Account, id_: str) -> None:
        with suppress(DeliveryError):  # it is of no use any more after some time, and stored anyway
            await self._ask(account, "answerCallbackQuery", {"callback_query_id": id_})

    async def _ask(
        self, account: Account, method: str, arguments: Mapping[str, Any], seconds: float = ANSWER_SECONDS
    ) -> Response:
        """The answer to a request that succeeded. Raises DeliveryError by the table of errors."""
        url, body = method_url(self.services, account, method), msgspec.json.encode(arguments)
        largest = LARGEST_ANSWER
        answer = await self.services.http.poll(url, body, headers=_JSON, seconds=seconds, max_bytes=largest)
        if answer.status != 200:  # noqa: PLR2004
            self._answers.read(answer)
        return answer


def _beginning(account: Account, state: State | None) -> State:
    """The state of this bot: offsets of another one mean nothing."""
    bot: str = account.credentials["token"].partition(":")[0]
    return dict(state) if state is not None and state.get("bot") == bot else {"bot": bot, "since": ""}


def _fewer(limit: int) -> int:
    if limit == 1:
        raise TemporaryError("answer_lost", "Telegram's answer did not come as a whole")
    return max(1, limit // 10)


def _read(body: bytes) -> tuple[list[msgspec.Raw], list[_Update]]:
    """Updates as they came, and what is to be known of each. Raises TemporaryError for anything else."""
    try:
        raw = msgspec.json.decode(body, type=_Updates).result
        return raw, [msgspec.json.decode(each, type=_Update) for each in raw]
    except (ValueError, RecursionError):
        raise TemporaryError("answer_unreadable", "What Telegram answers is no list of updates") from None

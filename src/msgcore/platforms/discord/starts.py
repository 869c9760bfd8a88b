"""When sessions may begin: so many in a day, and only so many at a time.

Discord resets the token of a bot that begins more sessions than it may, so it is asked before each how many are left
(https://docs.discord.com/developers/events/gateway#session-start-limit-object). Resuming does not count.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import msgspec

from msgcore.core.errors import PermanentError, TemporaryError, ThrottledError
from msgcore.platforms.discord.api import headers_of

if TYPE_CHECKING:
    from msgcore.outbound.transport import Transport
    from msgcore.platforms.answer_reader import AnswerReader

ANSWER_SECONDS = 20.0
FRESH_SECONDS = 60.0
"""How long an answer holds; what is begun meanwhile is counted here."""
KEPT = 10
"""Starts that are left to others who use the same token, and to a person who looks into it."""
MOST_SHARDS = 4096
"""Connections of one bot: each is made here, so that another number than this cannot be meant."""
APART_SECONDS = 5.0
"""max_concurrency is how many sessions may begin in five seconds."""


class StartLimit(msgspec.Struct):
    """What is left; `reset_after` is in milliseconds."""

    total: int
    remaining: int
    reset_after: Annotated[float, msgspec.Meta(le=7 * 24 * 3600 * 1000)]
    max_concurrency: int = 1


class Gateway(msgspec.Struct):
    """Where sessions begin, and over how many shards the bot should be spread."""

    url: str
    shards: Annotated[int, msgspec.Meta(le=MOST_SHARDS)]
    session_start_limit: StartLimit


class Starts:
    """Lets the sessions of one bot begin, one after another."""

    def __init__(
        self, http: Transport, answers: AnswerReader, base_url: str, token: str, trusts: Callable[[str], bool]
    ) -> None:
        self._http = http
        self._answers = answers
        self._base_url = base_url
        self._token = token
        self._trusts = trusts
        self._known: Gateway | None = None
        self._known_until = 0.0
        self._asking = asyncio.Lock()
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def gateway(self) -> Gateway:
        """What Discord says, or said just now. Raises DeliveryError."""
        loop = asyncio.get_running_loop()
        async with self._asking:
            if self._known is None or loop.time() >= self._known_until:
                self._known = await self._ask()
                self._known_until = loop.time() + FRESH_SECONDS
            return self._known

    @asynccontextmanager
    async def turn(self, shard: int) -> AsyncGenerator[str]:
        """Within, a session of a shard may begin, at this address. Raises ThrottledError where none may for now."""
        # Shards with the same remainder wait for each other ("Max Concurrency"); a lock lets them through in order.
        turn = self._turns[shard % max(1, (await self.gateway()).session_start_limit.max_concurrency)]
        await turn.acquire()
        wait = 0.0
        try:
            gateway = await self.gateway()
            _count(gateway.session_start_limit)
            wait = APART_SECONDS
            yield gateway.url
        finally:
            asyncio.get_running_loop().call_later(wait, turn.release)

    async def _ask(self) -> Gateway:
        url = f"{self._base_url}/gateway/bot"
        answer = await self._http.request("GET", url, headers=headers_of(self._token), timeout=ANSWER_SECONDS)
        self._answers.read(answer)
        try:
            found = msgspec.json.decode(answer.body or b"", type=Gateway)
        except ValueError:
            raise TemporaryError("gateway_unreadable", "Discord's answer about its gateway cannot be read") from None
        if not self._trusts(found.url):
            raise PermanentError("gateway_untrusted", f"Discord named a gateway that is not its own: {found.url[:200]}")
        return found


def _count(limit: StartLimit) -> None:
    if limit.remaining <= min(KEPT, limit.total // 2):
        seconds = max(1.0, limit.reset_after / 1000)
        raise ThrottledError(
            "gateway_starts_spent",
            f"This bot has begun nearly all of the {limit.total} sessions that Discord allows it in a day, and its "
            f"token would be reset after the last: no other is begun for {math.ceil(seconds / 60)} minutes. Look for "
            "what else uses the token",
            retry_after=seconds,
        )
    limit.remaining -= 1

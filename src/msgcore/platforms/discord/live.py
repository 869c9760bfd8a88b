"""Discord's gateway: holds the connections of a bot's shards, and answers interactions that come over them."""

from __future__ import annotations

import asyncio
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urlsplit

import msgspec
import structlog

from msgcore.core.errors import DeliveryError, PermanentError, TemporaryError
from msgcore.core.tasks import end
from msgcore.platforms.answer_reader import AnswerReader
from msgcore.platforms.discord.api import BASE_URL, USER_AGENT
from msgcore.platforms.discord.closing import WrongShardsError
from msgcore.platforms.discord.errors import ERRORS, read_problem
from msgcore.platforms.discord.gateway import Bot, Shard
from msgcore.platforms.discord.intents import GATEWAY, read_intents
from msgcore.platforms.discord.interactions import answer_to
from msgcore.platforms.discord.journal import Journal, Progress
from msgcore.platforms.discord.starts import Starts
from msgcore.platforms.live import Live, Sink, State
from msgcore.platforms.receiving import SHAPE_ERRORS

if TYPE_CHECKING:
    from msgcore.outbound.services import AdapterServices
    from msgcore.platforms.base import Account
    from msgcore.platforms.discord.parts import Part

log = structlog.stdlib.get_logger(__name__)

GATEWAYS = "discord.gg"
ANSWER_SECONDS = 3.0
"""Discord wants an answer to an interaction within three seconds ("Responding to an Interaction")."""
MOST_ANSWERS = 200
"""Answers of a process under way; what comes beyond that is read all the same, and shows as failed to who did it."""


class DiscordLive(Live):
    """Listens to gateways."""

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._base_url = services.base_urls.get("discord", BASE_URL).rstrip("/")
        self._is_public = "discord" not in services.base_urls
        self._answers = AnswerReader("Discord", read_problem, ERRORS, services.clock)
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    def wanted(cls, account: Account) -> bool:
        """Unless it is switched off."""
        return account.credentials.get(GATEWAY) is not False

    async def run(self, account: Account, sink: Sink, state: State | None) -> None:
        """Resume what was begun, or begin, and listen."""
        token = str(account.credentials["token"])
        try:
            intents = read_intents(account.credentials)
        except ValueError as error:
            raise PermanentError("gateway_intents_invalid", f"credentials.intents: {error} is no intent") from None
        made_for = f"{sha256(token.encode()).hexdigest()[:16]} {int(intents)}"
        starts = Starts(self.services.http, self._answers, self._base_url, token, self._trusts)
        progress = Progress.of(state, made_for)
        if progress.is_lost:
            gateway = await starts.gateway()
            progress = Progress(made_for, gateway.url, [None] * max(1, gateway.shards))
        journal = Journal(sink, progress)
        answer = partial(self._answer_soon, account.id)
        try:
            await _hold(Bot(token, intents, self.services.http, starts, journal, answer, self._trusts), sink)
        except WrongShardsError:
            await journal.start_over()
            raise TemporaryError(
                "gateway_shards",
                "Discord wants the bot's servers to be spread over another number of connections: all are begun anew",
            ) from None
        except DeliveryError:
            await journal.settle()  # of sessions that cannot be resumed, nothing would come again
            raise
        finally:
            await journal.close()

    async def close(self) -> None:
        """Drop the answers that are under way."""
        await asyncio.gather(*(end(task) for task in self._answering), return_exceptions=True)

    def _trusts(self, url: str) -> bool:
        """Whether the token may be sent there: to Discord, or wherever the operator's own address leads."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        host = parts.hostname or ""
        if not self._is_public:
            return parts.scheme in {"ws", "wss"} and bool(host)
        return parts.scheme == "wss" and (host == GATEWAYS or host.endswith(f".{GATEWAYS}"))

    # --- interactions

    def _answer_soon(self, account_id: str, interaction: bytes) -> None:
        if len(self._answering) >= MOST_ANSWERS:
            log.warning("discord_interaction_unanswered", platform_id=account_id, error="too many at a time")
            return
        task = asyncio.create_task(self._answer(account_id, interaction), name="discord-answer")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, account_id: str, interaction: bytes) -> None:
        """By HTTP, as Discord wants it for those that came over the gateway ("Create Interaction Response")."""
        try:
            about: Part = msgspec.json.decode(interaction)
            path = f"/interactions/{quote(str(about['id']), safe='')}/{quote(str(about['token']), safe='')}/callback"
            body = msgspec.json.encode(answer_to(about))
            headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
            where = self._base_url + path
            answer = await self.services.http.request("POST", where, headers=headers, body=body, timeout=ANSWER_SECONDS)
        except (DeliveryError, *SHAPE_ERRORS) as error:
            log.warning("discord_interaction_unanswered", platform_id=account_id, error=type(error).__name__)
        else:
            if answer.status >= 300:  # noqa: PLR2004
                log.info("discord_interaction_refused", platform_id=account_id, status=answer.status)


async def _hold(bot: Bot, sink: Sink) -> NoReturn:
    """Hold the connections of all shards until one of them cannot be had. Raises why."""
    numbers = range(len(bot.journal.progress.shards))
    down = set(numbers)

    def on_up(number: int) -> None:
        if number in down:
            down.remove(number)
            if not down:
                sink.connected()

    shards = [
        asyncio.create_task(Shard(each, bot, partial(on_up, each)).run(), name="discord-shard") for each in numbers
    ]
    failed = bot.journal.failed
    try:
        done, _ = await asyncio.wait([failed, *shards], return_when=asyncio.FIRST_COMPLETED)
        first = failed if failed in done else done.pop()
        first.result()
        raise AssertionError  # no shard ends without an error
    finally:
        await asyncio.gather(*(end(each) for each in shards), return_exceptions=True)

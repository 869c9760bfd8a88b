"""What holds for every platform when things go wrong: from the API through the ledger to a real server, and back.

Each fault meets a message of its own. In the end nothing is lost, nothing is sent twice beyond what
`options.onUncertain` allows, and what went wrong is told in words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contract.fault_cases import NOBODY_LISTENS, Case, cases_of, never_answered
from contract.fault_place import (
    REGISTRY,
    FaultPlace,
    Story,
    assert_nothing,
    begins_wrong,
    ends_wrong,
    example_credentials,
    fault_place,
)
from msgcore.core.errors import Scope
from msgcore.outbound import aiohttp_transport
from servers.clock import FakeClock
from servers.facts import http_facts
from servers.faulty_http import FaultyServer, faulty_server, marker

FACTS = http_facts(REGISTRY)
BODY_SECONDS = 0.2
SEND_SECONDS = 0.4
LONGEST_WAIT, SHORT_WAIT = 600.0, 5.0
"""In which all has happened that is to come of itself, or of a resumed account."""
SLACK_SECONDS = 1.0
"""A call may come so much later than it could: the second one of a budget leaves the first a head start."""
TOLERANCE = 0.001


@dataclass
class Message:
    """A message of a case, and another one from its account to somebody else (none yet)."""

    case: Case
    number: int
    account: str
    job: str = ""
    beside: int = 0


class Play:
    """A platform's messages, one a case, and the server that they meet."""

    def __init__(self, name: str, place: FaultPlace, server: FaultyServer) -> None:
        self.facts, self.declaration = FACTS[name], REGISTRY.declaration(name)
        self.place, self.server = place, server
        self.messages: list[Message] = []
        self.numbers = 0

    async def prepare(self, cases: list[Case]) -> list[dict[str, Any]]:
        """An account and a message for each case; gives the requests that send them."""
        credentials = example_credentials(self.declaration) | self.facts.credentials(self.server.url)
        accounts = await self.place.add_accounts(self.declaration.name, [credentials] * len(cases))
        made = [Message(case, self._number(), account) for case, account in zip(cases, accounts, strict=True)]
        self.messages += made
        self.server.scripts |= {each.number: [each.case.play] for each in made if each.case.play is not None}
        target = self.facts.target
        return [self._body(each.account, target, each.number, onUncertain=each.case.on_uncertain) for each in made]

    async def send_beside(self, messages: list[Message]) -> None:
        """One more message from each of these accounts, to somebody else."""
        for message in messages:
            message.beside = self._number()
        await self.place.send([self._body(each.account, self.facts.other_target, each.beside) for each in messages])

    def times(self, number: int) -> list[float]:
        """When requests came that were about a message."""
        return self.server.came.get(number, [])

    def may_repeat(self, message: Message) -> bool:
        """Whether the transport repeats the request by itself where the connection breaks (RFC 9110, 9.2.2)."""
        return message.case.code == "connection_lost" and self.server.methods.get(message.number) == "PUT"

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    def _body(self, account: str, target: str, number: int, **options: Any) -> dict[str, Any]:
        where = {"platformId": account, "type": self.facts.target_type, "id": target}
        return {"targets": [where], "content": {"text": marker(number)}, "options": options}


@asynccontextmanager
async def playing(tmp_path: Path, database_url: str, *names: str, **settings: Any) -> AsyncIterator[list[Play]]:
    """A gateway, and servers that listen when told to in place of these platforms."""
    clock = FakeClock(datetime.now(UTC).replace(microsecond=0))
    with ExitStack() as stack:
        servers = {name: stack.enter_context(faulty_server(FACTS[name].answers, clock.monotonic)) for name in names}
        urls = {name: server.url for name, server in servers.items()}
        async with fault_place(
            tmp_path, database_url, clock, platform_base_urls=urls, concurrency=32, **settings
        ) as place:
            yield [Play(name, place, server) for name, server in servers.items()]


async def send(plays: list[Play], cases: list[Case]) -> dict[str, Story]:
    """A message for each case from each of these, all at once; what became of all messages in this moment."""
    place = plays[0].place
    requests = [request for play in plays for request in await play.prepare(cases)]
    fresh = [message for play in plays for message in play.messages[-len(cases) :]]
    for message, job in zip(fresh, await place.send(requests), strict=True):
        message.job = job
    stories = await place.stories()
    for play in plays:
        met = [each for each in play.messages if not play.may_repeat(each)]
        assert_nothing(begins_wrong(each.case, stories[each.job], play.declaration) for each in met)
    return stories


@pytest.mark.parametrize("name", FACTS)
async def test_each_fault_ends_as_it_should(
    name: str, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_transport, "BODY_SECONDS", BODY_SECONDS)
    async with playing(tmp_path, sqlite_url, name) as (play,):
        place, adapter = play.place, REGISTRY.adapter_class(name)
        await send([play], [NOBODY_LISTENS])
        await play.server.listen()
        stories = await send([play], cases_of(adapter, play.facts, place.clock.now()))

        refused = [each for each in play.messages if stories[each.job].outcomes == ["authentication"]]
        why = {each.account: ("credentials", stories[each.job].attempts[0].error_message) for each in refused}
        assert await place.pauses() == why
        await play.send_beside([each for each in play.messages if stories[each.job].outcomes == ["throttled"]])
        longest = max(each.case.seconds or 0.0 for each in play.messages)
        await place.pass_time(longest + LONGEST_WAIT)
        assert [str(each.case) for each in refused if len(play.times(each.number)) > 1] == []
        await place.resume([each.account for each in refused])
        await place.pass_time(SHORT_WAIT)

        stories = await place.stories()
        assert_nothing(end_wrong(each, stories[each.job], play) for each in play.messages)
        assert play.server.problems == []


async def test_what_is_never_answered_is_given_up_in_time(tmp_path: Path, sqlite_url: str) -> None:
    async with playing(tmp_path, sqlite_url, *FACTS, send_timeout_seconds=SEND_SECONDS) as plays:
        for play in plays:
            await play.server.listen()
        place, stories = plays[0].place, await send(plays, never_answered())
        while not all(story.is_final for story in stories.values()):  # on a slow machine more attempts take too long
            await place.pass_time(LONGEST_WAIT)
            stories = await place.stories()
        for play in plays:
            for each in play.messages:
                story, gives_up = stories[each.job], each.case.on_uncertain == "fail"
                assert (story.state, story.code) == (("failed", "uncertain") if gives_up else ("sent", None)), each
                assert len(play.times(each.number)) <= 1 or not gives_up, each


def end_wrong(message: Message, story: Story, play: Play) -> list[str]:
    """What is wrong with the end of a message, and with when it was sent."""
    times, first = play.times(message.number), story.attempts[0]
    if play.may_repeat(message) and (story.outcomes, len(times)) == (["sent"], 2):
        return []
    wrong = ends_wrong(message.case, story, len(times))
    if first.outcome == "throttled" and not wrong:
        asked = (first.retry_at - first.finished_at).total_seconds()
        wrong = [f"{message.case}: {each}" for each in waits_wrong(message, asked, play)]
    return wrong


def waits_wrong(message: Message, asked: float, play: Play) -> list[str]:
    """What is wrong with how long it waited, and with whether the other message of its account waited as well."""
    (first, again), besides, seconds = play.times(message.number), play.times(message.beside), message.case.seconds
    limits = play.declaration.limits
    latest = max([asked, *(budget.interval for budget in (*limits.account, *limits.lane))]) + SLACK_SECONDS
    wrong: list[str] = []
    if seconds is not None and abs(asked - seconds) > TOLERANCE:
        wrong.append(f"is to wait for {asked} s, not {seconds} s")
    if not asked - TOLERANCE <= again - first <= latest:
        wrong.append(f"tried again after {again - first} s, not {asked} s")
    if len(besides) != 1:
        wrong.append(f"{len(besides)} requests for the message beside it")
    elif message.case.scope is Scope.ACCOUNT and besides[0] < first + asked - TOLERANCE:
        wrong.append("its account was not silent")
    elif message.case.scope in (Scope.LANE, Scope.DELIVERY) and besides[0] > first + SLACK_SECONDS:
        wrong.append("others had to wait with it")
    return wrong

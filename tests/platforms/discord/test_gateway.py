"""The gateway's connections against a gateway that is as strict as Discord's: nothing lost, nothing twice, no storms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError, ThrottledError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.discord import gateway, journal, starts
from msgcore.platforms.discord.inbound import SESSION_HEADER
from msgcore.platforms.discord.intents import USUAL
from msgcore.platforms.discord.live import DiscordLive
from msgcore.platforms.live import Payload, State
from msgcore.platforms.registry import PlatformRegistry
from servers.deliveries import make_account
from servers.discord_gateway import TOKEN, DiscordGateway, discord_gateway
from servers.patience import PATIENCE

APART = 0.1
"""Seconds between sessions that begin, at Discord's five."""


@pytest.fixture
async def discord() -> AsyncIterator[DiscordGateway]:
    async with discord_gateway(apart=APART) as server:
        yield server
        assert server.complaints == []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "STABLE_SECONDS", 0.0)
    monkeypatch.setattr(gateway, "FRESH_START_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(starts, "APART_SECONDS", APART + 0.05)


@dataclass
class Kept:
    """A sink that keeps what it gets; it fails once it has been given so many payloads."""

    largest: int = 1_000_000
    payloads: list[Payload] = field(default_factory=list)
    state: State | None = None
    notes: list[str] = field(default_factory=list)
    ups: int = 0
    stores: int = 0
    fails_after: int = 10**9
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def store(self, payloads: Sequence[Payload], state: State, notes: Sequence[str] = ()) -> None:
        state = json.loads(json.dumps(state))
        await self.gate.wait()
        if len(self.payloads) + len(payloads) > self.fails_after:
            raise ConnectionError
        self.payloads += payloads
        self.notes += notes
        self.state = state
        self.stores += 1

    def connected(self) -> None:
        self.ups += 1

    @property
    def ids(self) -> list[str]:
        return [json.loads(each.body)["d"]["id"] for each in self.payloads]

    async def until(self, is_so: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not is_so():
                await asyncio.sleep(0.005)

    async def wait_for(self, *ids: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.ids != list(ids):
                assert len(self.ids) <= len(ids), self.ids
                await asyncio.sleep(0.005)


def at(services: AdapterServices, server: DiscordGateway) -> AdapterServices:
    return replace(services, base_urls={"discord": server.api})


@asynccontextmanager
async def listening(
    services: AdapterServices, server: DiscordGateway, sink: Kept, **credentials: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """A connection that is up, and hung up in the end; it goes on from what the sink has as its state."""
    live = DiscordLive(at(services, server))
    account = make_account("discord", {"token": TOKEN} | credentials)
    before = sink.ups
    running = asyncio.create_task(live.run(account, sink, sink.state))
    try:
        await sink.until(lambda: running.done() or sink.ups > before)
        if running.done():
            await running
        yield running
    finally:
        running.cancel()
        await asyncio.wait([running])
        await live.close()


async def failure(
    services: AdapterServices, server: DiscordGateway, sink: Kept | None = None, **more: Any
) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        async with listening(services, server, sink or Kept(), **more) as running:
            await asyncio.wait_for(running, PATIENCE)
    assert TOKEN not in str(caught.value)
    return caught.value


async def test_a_session_begins_as_discord_wants_it_and_events_are_stored_as_they_came(
    services: AdapterServices, discord: DiscordGateway
) -> None:
    discord.interval = 0.05
    sink = Kept()
    async with listening(services, discord, sink):
        for number in range(5):
            await discord.say(f"m{number}")
        await discord.tell("GUILD_UPDATE", {"id": "not read here"})
        await sink.wait_for(*(f"m{number}" for number in range(5)))
        await sink.until(lambda: discord.beats and discord.beats[-1] == 7)
    [identify] = discord.identified
    assert (identify["token"], identify["intents"], identify["shard"]) == (TOKEN, int(USUAL), [0, 1])
    assert json.loads(sink.payloads[0].body)["t"] == "MESSAGE_CREATE"
    assert {each.headers[SESSION_HEADER] for each in sink.payloads} == {"session-1"}
    assert (sink.ups, sink.notes, discord.resumed) == (1, [], [])
    assert discord.left_with == [4000], "1000 would end the session"
    assert sink.state is not None
    assert TOKEN not in json.dumps(sink.state)


@pytest.mark.parametrize("how", ["cut", "close", "reconnect", "not acknowledged", "invalid but resumable"])
async def test_a_lost_connection_is_resumed_without_loss_or_double(
    services: AdapterServices, discord: DiscordGateway, how: str
) -> None:
    sink = Kept()
    discord.interval = 0.1 if how == "not acknowledged" else discord.interval
    async with listening(services, discord, sink):
        await discord.say("before")
        await sink.wait_for("before")
        match how:
            case "cut":
                discord.cut()
            case "close":
                await discord.close(4000)
            case "reconnect":
                await discord.op(7)
            case "invalid but resumable":
                await discord.op(9, True)
            case _:
                discord.acknowledges = False
                await sink.until(lambda: discord.left_with)
                discord.acknowledges = True
        await discord.say("meanwhile")
        await sink.until(lambda: len(discord.resumed) == 1)
        await discord.until_up()
        await discord.say("after")
        await sink.wait_for("before", "meanwhile", "after")
        assert (discord.resumed[0]["seq"], len(discord.identified), sink.ups, sink.notes) == (2, 1, 1, [])


async def test_another_process_goes_on_from_what_is_stored(services: AdapterServices, discord: DiscordGateway) -> None:
    sink = Kept()
    async with listening(services, discord, sink):
        await discord.say("one")
        await sink.wait_for("one")
    await discord.say("meanwhile")
    async with listening(services, discord, sink):
        await sink.wait_for("one", "meanwhile")
    assert (len(discord.identified), discord.asked, discord.resumed[0]["session_id"]) == (1, 1, "session-1")
    # With other intents, the session is not the right one. Another that has just begun is waited for.
    discord.begun_just_now()
    async with listening(services, discord, sink, intents="GuildMessages, MessageContent"):
        pass
    assert [each["intents"] for each in discord.identified[1:]] == [1 << 9 | 1 << 15] * 2
    assert discord.complaints.pop() == "began too fast"
    # Nor is one that another version stored.
    sink.state = {"sessions": "of another version"}
    await asyncio.sleep(APART)
    async with listening(services, discord, sink):
        pass
    assert len(discord.identified) == 4


async def test_what_could_not_be_stored_comes_again(
    services: AdapterServices, discord: DiscordGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the database fails, or the process is killed while it stores: from the stored state on, all is there."""
    monkeypatch.setattr(journal, "MOST_EVENTS", 7)
    sink = Kept()
    async with listening(services, discord, sink):
        pass
    ids = [f"m{number}" for number in range(60)]
    for number, id_ in enumerate(ids):
        await discord.say(id_)
        if number % 20 != 19:
            continue
        sink.fails_after = len(sink.payloads) + 11
        with pytest.raises(ConnectionError):
            async with listening(services, discord, sink) as running:
                await asyncio.wait_for(running, PATIENCE)
        sink.fails_after = 10**9
        sink.gate.clear()
        with suppress(TimeoutError):  # killed while it stores
            async with asyncio.timeout(0.1), listening(services, discord, sink):
                pass
        sink.gate.set()
    async with listening(services, discord, sink):
        await sink.wait_for(*ids)
    assert len(discord.identified) == 1


async def test_what_waits_to_be_stored_is_bounded_and_stored_in_batches(
    services: AdapterServices, discord: DiscordGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MOST_EVENTS", 50)
    sink = Kept(largest=5000)
    async with listening(services, discord, sink):
        stores = sink.stores
        sink.gate.clear()
        for number in range(500):
            await discord.say(f"m{number}", "x" * (5000 if number == 250 else 10))
        await asyncio.sleep(0.1)
        sink.gate.set()
        await sink.wait_for(*(f"m{number}" for number in range(500) if number != 250))
        assert 500 / 50 <= sink.stores - stores <= 100
        assert max(len(each) for each in sink.notes) < 200
        assert [note[:11] for note in sink.notes] == ["An event of"]
    assert len(discord.identified) == 1


@pytest.mark.parametrize("how", [4000, 4003, 4007, 4009])
async def test_a_session_that_is_no_more_is_replaced_with_a_note(
    services: AdapterServices, discord: DiscordGateway, how: int
) -> None:
    sink = Kept()
    async with listening(services, discord, sink):
        await discord.say("one")
        await sink.wait_for("one")
        sessions = dict(discord.sessions)
        discord.sessions.clear()
        for session in sessions.values():
            assert session.link is not None
            await session.link.close(code=how)
        await sink.until(lambda: len(discord.identified) == 2)
        await discord.until_up()
        await discord.say("two")
        await sink.wait_for("one", "two")
    assert ["a new session is begun" in note for note in sink.notes] == [True]
    assert sink.payloads[1].headers == {SESSION_HEADER: "session-2"}
    # The same where Discord forgets it while nobody is there.
    await asyncio.sleep(APART)
    discord.sessions.clear()
    async with listening(services, discord, sink):
        await discord.say("three")
        await sink.wait_for("one", "two", "three")
    assert (len(sink.notes), len(discord.identified)) == (2, 3)


async def test_shards_as_many_as_discord_recommends_each_with_its_session(
    services: AdapterServices, discord: DiscordGateway
) -> None:
    discord.shards = 2
    sink = Kept()
    async with listening(services, discord, sink):
        assert [each["shard"] for each in discord.identified] == [[0, 2], [1, 2]]
        await discord.say("a0")
        await discord.say("b0", shard=1)
        await sink.until(lambda: sorted(sink.ids) == ["a0", "b0"])
        discord.cut()
        await discord.say("a1")
        await discord.say("b1", shard=1)
        await sink.until(lambda: sorted(sink.ids) == ["a0", "a1", "b0", "b1"])
    discord.shards = 3  # the bot grew: that is no reason to give up sessions
    await discord.say("b2", shard=1)
    async with listening(services, discord, sink):
        await sink.until(lambda: sorted(sink.ids) == ["a0", "a1", "b0", "b1", "b2"])
    assert (len(discord.identified), sink.ups, sink.notes) == (2, 2, [])
    # Unless Discord says so.
    discord.complaints.clear()
    discord.close_with = 4011
    assert (await failure(services, discord, sink)).code == "gateway_shards"
    discord.complaints.clear()
    discord.close_with = None
    await asyncio.sleep(APART)
    async with listening(services, discord, sink):
        assert [each["shard"] for each in discord.identified[2:]] == [[0, 3], [1, 3], [2, 3]]


async def test_a_token_is_never_spent(services: AdapterServices, discord: DiscordGateway) -> None:
    discord.remaining = 10
    sink = Kept()
    error = await failure(services, discord, sink)
    assert isinstance(error, ThrottledError)
    assert (error.code, error.retry_after, discord.identified) == ("gateway_starts_spent", 14_400.0, [])
    discord.remaining = 11
    async with listening(services, discord, sink):
        pass
    assert (discord.remaining, len(discord.identified)) == (10, 1)
    async with listening(services, discord, sink):  # resuming costs nothing
        pass
    assert (discord.remaining, discord.asked) == (10, 2)


@pytest.mark.parametrize(
    ("given", "kind", "code", "says"),
    [
        ({"token": "another"}, AuthenticationError, "credentials_refused", "token"),
        ({"allowed": 0}, PermanentError, "gateway_intents_refused", "intents (MESSAGE_CONTENT): switch them on"),
        ({"close_with": 4004}, AuthenticationError, "credentials_refused", "Reset Token"),
        ({"close_with": 4012}, PermanentError, "gateway_version", "version"),
        ({"close_with": 4013}, PermanentError, "gateway_intents_invalid", "intents"),
        ({"close_with": 4010}, TemporaryError, "gateway_shards", "connections"),
        ({"close_with": 4008}, TemporaryError, "gateway_hung_up", "4008"),
        ({"close_with": 4000}, TemporaryError, "gateway_hung_up", "4000"),
        ({"apart": 1e9, "_last_begun": {0: 1e9}}, TemporaryError, "gateway_hung_up", "begins no session"),
    ],
)
async def test_what_discord_refuses(
    services: AdapterServices,
    given: dict[str, Any],
    kind: type[DeliveryError],
    code: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway, "STABLE_SECONDS", 10.0)
    async with discord_gateway(**given) as server:
        error = await failure(services, server)
        assert (type(error), error.code) == (kind, code)
        assert says in error.message
        assert len(server.identified) <= 2, "no storm"


async def test_a_connection_that_does_not_last_is_an_error(
    services: AdapterServices, discord: DiscordGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So whoever holds it waits longer and longer."""
    monkeypatch.setattr(gateway, "STABLE_SECONDS", 10.0)
    sink = Kept()
    with pytest.raises(TemporaryError, match="asked to connect anew"):
        async with listening(services, discord, sink) as running:
            await discord.say("one")
            await discord.op(7)
            await asyncio.wait_for(running, PATIENCE)
    assert sink.ids == ["one"], "what came is stored before it is given up"
    async with listening(services, discord, sink):
        pass
    assert (discord.resumed[0]["seq"], len(discord.identified)) == (2, 1)


async def test_only_discords_own_hosts_get_the_token(
    services: AdapterServices, discord: DiscordGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusts = DiscordLive(services)._trusts
    good = ("wss://gateway.discord.gg", "wss://gateway-us-east1-b.discord.gg/", "wss://discord.gg")
    bad = ("ws://gateway.discord.gg", "wss://discord.gg.evil.example", "wss://evildiscord.gg", "wss://x@evil.example/")
    assert [trusts(url) for url in (*good, *bad, "wss://[")] == [True] * 3 + [False] * 5
    # An address to resume at that leads elsewhere, or nowhere, is passed over.
    discord.resume_url = "https://127.0.0.1:9"
    sink = Kept()
    async with listening(services, discord, sink):
        assert sink.state is not None
        assert sink.state["shards"][0]["url"] == discord.url
        sink.state["shards"][0]["url"] = "ws://127.0.0.1:40001"
    async with listening(services, discord, sink):
        pass
    assert len(discord.resumed) == 1
    monkeypatch.setattr(DiscordLive, "_trusts", lambda *_: False)
    assert (await failure(services, discord)).code == "gateway_untrusted"
    discord.shards = 10**12  # as many as nobody can have
    assert (await failure(services, discord)).code == "gateway_unreadable"


async def test_an_interaction_is_answered_once_it_is_safe(services: AdapterServices, discord: DiscordGateway) -> None:
    sink = Kept()
    async with listening(services, discord, sink):
        sink.gate.clear()
        await discord.tell("INTERACTION_CREATE", {"id": "55", "token": "a", "type": 3, "data": {}})
        await asyncio.sleep(0.05)
        assert discord.answered == []
        sink.gate.set()
        await sink.until(lambda: discord.answered)
    assert discord.answered == [("/api/v10/interactions/55/a/callback", {"type": 6})]


async def test_frames_that_are_too_large_or_unreadable(
    services: AdapterServices, discord: DiscordGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "LARGEST_FRAME", 3000)
    sink = Kept()
    async with listening(services, discord, sink):
        for text in ("x" * 4000, "0" * 100_000):  # one as it is, one that was a bomb
            await discord.say("large", text)
            number = len(discord.identified)
            await sink.until(lambda number=number: len(discord.identified) > number)
            await discord.until_up()
            discord.sessions = {id_: each for id_, each in discord.sessions.items() if each.link is not None}
        await discord.say("after")
        await sink.wait_for("after")
    assert ["more than 3000 bytes" in note for note in sink.notes] == [True, True]
    with pytest.raises(TemporaryError, match="cannot be read"):
        async with listening(services, discord, sink) as running:
            [session] = discord.sessions.values()
            assert session.link is not None
            await session.link.send_str('{"op": "x"}')
            await asyncio.wait_for(running, PATIENCE)


async def test_a_server_that_says_nothing(
    services: AdapterServices, discord: DiscordGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "HELLO_SECONDS", 0.05)
    discord.says_hello = False
    assert (await failure(services, discord)).code == "gateway_silent"


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, None),
        ({"intents": "GuildMessages, MESSAGE_CONTENT"}, None),
        ({"intents": "33280", "gateway": False}, None),
        ({"intents": "GuildMessages,Everything"}, "Everything is no intent"),
        ({"intents": str(1 << 30)}, "the bits 1073741824 are no intents"),
    ],
)
def test_which_credentials_are_taken(given: dict[str, Any], wrong: str | None) -> None:
    errors = PlatformRegistry().check_credentials("discord", {"token": TOKEN} | given)
    assert [(wrong or "") in error.message for error in errors] == ([] if wrong is None else [True])


def test_the_gateway_is_listened_to_unless_it_is_switched_off() -> None:
    assert PlatformRegistry().adapter_class("discord").live is DiscordLive
    for given, wanted in (({}, True), ({"gateway": True}, True), ({"gateway": False}, False)):
        assert DiscordLive.wanted(make_account("discord", {"token": TOKEN} | given)) is wanted

"""Socket Mode against a server that tells, waits for acknowledgements, and refreshes as Slack does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from msgcore.config import Settings
from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError, ThrottledError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.receiving import InboundRequest
from msgcore.platforms.slack import live
from msgcore.platforms.slack.inbound import SlackInbound
from msgcore.platforms.slack.live import SlackLive
from platforms.slack.socket_mode import SocketMode
from servers.deliveries import make_account
from servers.facts import Sample, samples_of
from servers.http_sink import HttpSink
from servers.in_process import in_this_process
from servers.live_sink import MemorySink, connected
from servers.patience import PATIENCE

TOKEN = "xapp-1-A1234-5678-abcdef"
CREDENTIALS = {"botToken": "xoxb-example-example-example", "appToken": TOKEN}
ACCOUNT = make_account("slack", CREDENTIALS)


@pytest.fixture
def server(sink: HttpSink, services: AdapterServices) -> SocketMode:
    services.base_urls["slack"] = sink.url
    return SocketMode(sink, TOKEN)


@pytest.fixture
def slack(services: AdapterServices, monkeypatch: pytest.MonkeyPatch) -> SlackLive:
    monkeypatch.setattr(live, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(live, "LINGER_SECONDS", 0.0)
    return SlackLive(services)


def as_envelope(sample: Sample) -> tuple[str, Any]:
    """What Slack sends over a WebSocket in place of a request."""
    if sample.content.startswith(b"{"):
        return "events_api", msgspec.json.decode(sample.content)
    form = {name: values[0] for name, values in parse_qs(sample.content.decode(), keep_blank_values=True).items()}
    return ("interactive", msgspec.json.decode(form["payload"])) if "payload" in form else ("slash_commands", form)


def event(number: int) -> Any:
    said = {
        "type": "message",
        "channel": "C1234",
        "user": "U1234",
        "text": f"{number}",
        "ts": f"1355517523.{number:06}",
    }
    return {"type": "event_callback", "event_id": f"Ev{number}", "team_id": "T1234", "event": said}


def texts(kept: MemorySink) -> list[str]:
    return [msgspec.json.decode(body)["event"]["text"] for body in kept.bodies]


async def test_what_comes_over_a_socket_is_read_as_what_is_posted(slack: SlackLive, server: SocketMode) -> None:
    samples = samples_of("slack")
    kept = MemorySink()
    async with connected(slack, ACCOUNT, kept):
        told = [await server.tell(*as_envelope(sample)) for sample in samples]
        await server.until(acknowledged=len(samples))
    assert server.acknowledged == told
    inbound, now = SlackInbound(), datetime.now(UTC)
    for sample, body in zip(samples, kept.bodies, strict=True):
        envelopes = inbound.read(ACCOUNT, InboundRequest("POST", {}, "", body, now))
        shown = [msgspec.structs.replace(envelope, raw=None) for envelope in envelopes]
        assert msgspec.json.decode(msgspec.json.encode(shown)) == sample.envelopes, sample.name


async def test_only_what_is_stored_is_acknowledged(slack: SlackLive, server: SocketMode) -> None:
    kept = MemorySink()
    async with connected(slack, ACCOUNT, kept) as running:
        kept.away = True
        await server.tell("events_api", event(1))
        await asyncio.wait([running])
        assert isinstance(running.exception(), ConnectionRefusedError)
        await server.until(connections=0)
    assert server.acknowledged == []
    kept.away = False
    async with connected(slack, ACCOUNT, kept):
        await server.until(acknowledged=1)
    assert texts(kept) == ["1"]


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_a_connection_that_is_to_end_is_replaced_before_it_does(
    slack: SlackLive, server: SocketMode, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(live, "LINGER_SECONDS", PATIENCE)
    kept = MemorySink()
    async with connected(slack, ACCOUNT, kept) as running:
        for number in range(3):
            old = server.open[0]
            await server.disconnect(reason)
            await server.tell("events_api", event(2 * number))  # over the old one, which lives on
            await server.until(connections=2, acknowledged=2 * number + 1)
            assert old in server.open
            await server.disconnect("refresh_requested", old)
            await old.socket.close()
            await server.until(connections=1)
            await server.tell("events_api", event(2 * number + 1))
            await server.until(acknowledged=2 * number + 2)
        assert not running.done()
    assert texts(kept) == [f"{number}" for number in range(6)]
    assert (server.opened, kept.ups, server.lost) == (4, 1, [])


async def test_one_that_does_not_end_by_itself_is_left(slack: SlackLive, server: SocketMode) -> None:
    async with connected(slack, ACCOUNT, MemorySink()):
        old = server.open[0]
        await server.disconnect("warning")
        async with asyncio.timeout(PATIENCE):
            while old in server.open:
                await asyncio.sleep(0.005)
        assert (server.opened, len(server.open)) == (2, 1)
    await server.until(connections=0)


async def test_what_is_too_large_is_left_out_and_what_is_not_known_is_acknowledged(
    slack: SlackLive, server: SocketMode
) -> None:
    kept = MemorySink(largest=1000)
    async with connected(slack, ACCOUNT, kept):
        await server.tell("events_api", event(1) | {"padding": "x" * 1000})
        await server.tell("of_tomorrow", {})
        await server.tell("events_api", event(2))
        await server.until(acknowledged=3)
    assert texts(kept) == ["2"]
    assert [note.endswith("was left out: at most 1000 are taken") for note in kept.notes] == [True]


async def test_a_silent_connection_is_pinged(
    slack: SlackLive, server: SocketMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.1)
    async with connected(slack, ACCOUNT, MemorySink()) as running, asyncio.timeout(PATIENCE):
        connection = server.open[0]
        while connection.pings < 2:
            await asyncio.sleep(0.01)
        assert not running.done()


async def lose(server: SocketMode, ending: str) -> None:
    """End the one connection."""
    match ending:
        case "closed":
            await server.open[0].socket.close(code=1001)
        case "junk":
            await server.open[0].socket.send_str("{")
        case "huge":
            with suppress(ConnectionError):
                await server.open[0].socket.send_str("x" * 5_000_000)
        case reason:
            await server.disconnect(reason)


@pytest.mark.parametrize(
    ("ending", "kind", "code"),
    [
        ("link_disabled", PermanentError, "socket_mode_off"),
        ("too_many_websockets", TemporaryError, "connection_closed"),
        ("closed", TemporaryError, "connection_lost"),
        ("junk", TemporaryError, "answer_unreadable"),
        ("huge", TemporaryError, "answer_unreadable"),
    ],
)
async def test_how_a_connection_is_lost(
    slack: SlackLive,
    server: SocketMode,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    kind: type[DeliveryError],
    code: str,
) -> None:
    monkeypatch.setattr(live, "SHORT_SECONDS", PATIENCE)
    with pytest.raises(kind) as raised:
        async with connected(slack, ACCOUNT, MemorySink()) as running:
            await lose(server, ending)
            await running
    assert raised.value.code == code
    await server.until(connections=0)


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        ((200, {"ok": False, "error": "invalid_auth"}), AuthenticationError, "credentials_refused"),
        (
            (200, {"ok": False, "error": "missing_scope", "needed": "connections:write"}),
            PermanentError,
            "missing_scope",
        ),
        ((429, {"ok": False, "error": "ratelimited"}), ThrottledError, "rate_limited"),
        ((503, {}), TemporaryError, "platform_unavailable"),
        ((200, {"ok": True, "url": "https://example.com"}), PermanentError, "url_invalid"),
        (None, TemporaryError, "timeout"),
    ],
)
async def test_connections_that_do_not_begin(
    slack: SlackLive,
    server: SocketMode,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Any,
    kind: type[DeliveryError],
    code: str,
) -> None:
    monkeypatch.setattr(live, "HELLO_SECONDS", 0.1)
    server.refusal, server.greets = refusal, False
    with pytest.raises(kind) as raised:
        async with connected(slack, ACCOUNT, MemorySink()):
            pass
    assert raised.value.code == code
    assert TOKEN not in str(raised.value)
    if isinstance(raised.value, ThrottledError):
        assert raised.value.retry_after == 7, "as the answer says"


async def test_a_gateway_reads_what_is_told_again_once(tmp_path: Path, sink: HttpSink) -> None:
    server = SocketMode(sink, TOKEN)
    settings = Settings(data_dir=tmp_path, egress_allow=["127.0.0.0/8"], platform_base_urls={"slack": sink.url})
    async with in_this_process(settings) as running, asyncio.timeout(PATIENCE):
        await running.set_up()
        made = {"platform": "slack", "name": "app", "credentials": CREDENTIALS}
        await running.ask("POST", "projects/shop/platforms", made)
        for number in (1, 1, 2):
            await server.tell("events_api", event(number))
        await server.until(acknowledged=3)
        found: list[str] = []
        after = 0
        while "2" not in found:
            page = await running.ask("GET", f"projects/shop/events?types=message.received&after={after}&wait=30")
            after = page["next"]
            found += [each["data"]["text"] for each in page["events"]]
        assert found == ["1", "2"]

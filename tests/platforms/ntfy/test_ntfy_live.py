"""Topics that are listened to: of a real server, and of streams as no real one would write them so soon."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import Edit
from msgcore.core.envelope import Click, Deletion, Message, Receipt
from msgcore.core.envelope import Edit as Edited
from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account
from msgcore.platforms.live import State
from msgcore.platforms.ntfy import NtfyAdapter
from msgcore.platforms.ntfy.inbound import NtfyInbound
from msgcore.platforms.ntfy.live import OVERLAP, NtfyLive
from msgcore.platforms.receiving import InboundRequest
from servers.deliveries import make_action, make_content, make_delivery
from servers.http_sink import HttpSink
from servers.live_sink import MemorySink, connected
from servers.ntfy import TOKEN, WRONG, NtfyServer, ntfy_account, press
from servers.patience import PATIENCE


@pytest.fixture
def adapter(services: AdapterServices) -> NtfyAdapter:
    return NtfyAdapter(services)


@dataclass
class Kept(MemorySink):
    """Of messages."""

    largest: int = 100_000

    async def wait_for(self, *parts: bytes) -> None:
        """Each in a payload of its own, in any order."""
        async with asyncio.timeout(PATIENCE):
            while not all(any(part in payload for payload in self.bodies) for part in parts):
                await asyncio.sleep(0.01)

    def told(self, account: Account) -> list[Any]:
        """The chats and contents of what came, once for each event."""
        found = {
            envelope.event_id: (envelope.chat.id, envelope.content)
            for body in self.bodies
            for envelope in NtfyInbound().read(account, InboundRequest("POST", {}, "", body, datetime.now(UTC)))
        }
        return list(found.values())


def listening(
    adapter: NtfyAdapter, account: Account, sink: Kept, state: State | None = None
) -> AbstractAsyncContextManager[asyncio.Task[None]]:
    """A connection that is up, and hung up in the end."""
    assert NtfyLive.wanted(account)
    return connected(NtfyLive(adapter.services), account, sink, state)


@pytest.mark.usefixtures("ntfy")  # which skips where none can be had
async def test_topics_are_listened_to_over_breaks_and_restarts(adapter: NtfyAdapter) -> None:
    with NtfyServer() as server:
        account = ntfy_account(server.url, topics="news , private-c", token=TOKEN)
        server.publish("news", "before")
        first = Kept()
        async with listening(adapter, account, first) as running:
            assert first.states, "from now on nothing is missed"
            one = server.publish("news", "one", title="No")
            await first.wait_for(b"one")
            server.publish("news", "two", sequence_id=one["id"])
            await first.wait_for(b"two")
            server.call("DELETE", f"/news/{one['id']}")
            await first.wait_for(b"message_delete")
            server.stop()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([running])
        server.start()
        server.call("POST", "/private-c", b"meanwhile", {"Authorization": f"Bearer {TOKEN}"})
        again = Kept()
        async with listening(adapter, account, again, first.states[-1]):
            server.publish("news", "now")
            await again.wait_for(b"meanwhile", b"now")
        elsewhere = Kept()
        other = ntfy_account(server.url.replace("127.0.0.1", "localhost"), topics="news")
        async with listening(adapter, other, elsewhere, again.states[-1]):
            assert elsewhere.bodies == [], "another server's times mean nothing"
    id_ = f"news:{one['id']}"
    told = first.told(account)
    assert told == [
        ("news", Message(id=id_, text="No\none")),
        ("news", Message(id=id_, text="two")),
        ("news", Edited(id=id_, text="two")),
        ("news", Deletion(id=id_)),
    ]
    later = again.told(account)
    assert [each for each in later if each in told] == told, "the last minutes come twice, and are known by their ids"
    assert {content.text for _, content in later if (_, content) not in told} - {"before"} == {"meanwhile", "now"}


async def test_buttons_answer_and_our_own_messages_do_not_come_back(adapter: NtfyAdapter, ntfy: NtfyServer) -> None:
    account = ntfy_account(ntfy.url, topics="shop", answerTopic="answers")
    value, label = 'ja "=?utf-8?q?=0A?=" \u65e5', "=?utf-8?q?=0A?= \u65e5"
    content = make_content(text="Ship it?", buttons=[{"text": "No", "value": "n"}, {"text": label, "value": value}])
    sink = Kept()
    async with listening(adapter, account, sink):
        sent = await adapter.send(account, make_delivery("shop", content))
        id_ = sent.provider_message_id or ""
        await adapter.act(account, make_action("shop", Edit(message_id=id_, content=content)))
        message = (await asyncio.to_thread(ntfy.messages, "shop"))[-1]
        for action in message["actions"]:
            await asyncio.to_thread(press, action)
        await sink.wait_for(b'"n"', "\u65e5".encode())
        ntfy.call("PUT", f"/shop/{message['sequence_id']}/clear")
        ntfy.call("PUT", "/shop/another/clear")
        ntfy.call("DELETE", f"/shop/{message['sequence_id']}")
        await sink.wait_for(b"message_clear")
    expected = [
        ("shop", Click(value="n", message_id=id_, label="No")),
        ("shop", Click(value=value, message_id=id_, label=label.replace("=?", "=\u2060?"))),
        ("shop", Receipt(message_id=id_, status="read")),
    ]
    assert sorted(sink.told(account), key=str) == sorted(expected, key=str)


async def test_a_connection_that_is_refused_says_why(adapter: NtfyAdapter, ntfy: NtfyServer, sink: HttpSink) -> None:
    sink.answers(200, body=b"<html>\n</html>\n")
    cases: list[tuple[Account, type[DeliveryError], str]] = [
        (ntfy_account(ntfy.url, topics="x", token=WRONG), AuthenticationError, "credentials_refused"),
        (ntfy_account(ntfy.url, topics="private-d"), PermanentError, "topic_forbidden"),
        (ntfy_account(sink.url, topics="x"), TemporaryError, "answer_unreadable"),
        (ntfy_account("http://127.0.0.1:2", topics="x"), TemporaryError, "connection_failed"),
    ]
    for account, kind, code in cases:
        with pytest.raises(kind) as caught:
            await NtfyLive(adapter.services).run(account, Kept(), None)
        assert caught.value.code == code
        assert WRONG not in str(caught.value)


def line(event: str, at: int, text: str = "") -> bytes:
    return msgspec.json.encode({"id": f"m{at}", "time": at, "event": event, "topic": "t", "message": text}) + b"\n"


async def test_what_overtakes_older_messages_does_not_hide_them(adapter: NtfyAdapter, sink: HttpSink) -> None:
    wanted = asyncio.Queue[bytes]()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while part := await wanted.get():
            await answer.write(part)
        return answer

    sink.answer = stream
    kept, account = Kept(largest=500), ntfy_account(sink.url, topics="t")
    steps: list[tuple[bytes, int]] = [
        (line("open", 5000) + line("message", 5001)[:20], 0),
        (line("message", 5001)[20:], 1000),  # it came meanwhile
        (line("message", 2000) + line("message", 2000, "x" * 600), 2000),
        (line("message", 5002), 2000),
        (line("message", 3000) + line("keepalive", 5045), 5045),
        (line("message", 5050, "x" * 600), 5045),
        (line("message", 5051), 5051),
    ]
    wanted.put_nowait(steps[0][0])
    state = {"server": sink.url, "since": 900, "newest": 1000}
    async with listening(adapter, account, kept, state) as running:
        for part, newest in steps[1:]:
            before = len(kept.states)
            wanted.put_nowait(part)
            async with asyncio.timeout(PATIENCE):
                while len(kept.states) == before:
                    await asyncio.sleep(0.01)
            assert kept.states[-1] == {"server": sink.url, "since": 900, "newest": newest}
        wanted.put_nowait(b"")
        async with asyncio.timeout(PATIENCE):
            await running  # it ends without an error, and is taken up again by whoever holds it
    assert sink.requests[0].path == f"/t/json?since={max(900, 1000 - OVERLAP)}"
    assert len(kept.bodies) == 5
    assert len(kept.notes) == 2

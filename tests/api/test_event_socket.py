"""The WebSocket for events: who gets in, what goes down and up, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from litestar import Litestar, WebSocket, websocket

from api.conftest import Running
from api.inbound import newest, path_of, report
from msgcore.api.app import require_declared_access
from msgcore.api.socket_session import Rules, SocketSession
from msgcore.core.scopes import ApiScope, Principal
from msgcore.inbound.bus import EventBus
from msgcore.services.event_streams import EventStreamService
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append
from servers.adapters import attachment_links
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess
from servers.patience import PATIENCE
from store.ledger_rows import NOW, PROJECT, add_project

WS = "/api/v1/projects/shop/ws"


class Talk:
    """A client's side of a socket."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, type_: str, **more: Any) -> None:
        await self.socket.send_json({"type": type_, **more})

    async def hear(self) -> dict[str, Any]:
        """The next frame."""
        message = await self.socket.receive(PATIENCE)
        assert message.type is WSMsgType.TEXT, message
        return json.loads(message.data)

    async def events(self, number: int) -> list[dict[str, Any]]:
        found = [await self.hear() for _ in range(number)]
        assert {frame["type"] for frame in found} <= {"event"}, found
        return found

    async def nothing_more(self) -> None:
        """Everything that was said is answered, and nothing else is under way."""
        await self.say("ping")
        assert await self.hear() == {"type": "pong"}

    async def end(self) -> tuple[int, str]:
        """The code and the reason of the close."""
        message = await self.socket.receive(PATIENCE)
        assert message.type is WSMsgType.CLOSE, message
        return int(message.data), str(message.extra)


@asynccontextmanager
async def connected(client: ApiClient, path: str = WS, **options: Any) -> AsyncIterator[Talk]:
    """A socket on which nothing was said yet."""
    options.setdefault("headers", client.headers)
    async with aiohttp.ClientSession() as session, session.ws_connect(client.url + path, **options) as socket:
        yield Talk(socket)


@asynccontextmanager
async def opened(client: ApiClient, **wanted: Any) -> AsyncIterator[Talk]:
    """A socket that gives events."""
    async with connected(client) as talk:
        await talk.say("open", **wanted)
        assert (await talk.hear())["type"] == "opened"
        yield talk


def post(running: Running, path: str, *texts: str, kind: str = "message", chat: str = "room") -> None:
    """Let things happen on a platform."""
    for text in texts:
        content = {"text": text} if kind == "message" else {}
        assert running.nobody.ask("POST", path, report(kind, chat, **content)).status == 200


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["text"] for event in events]


def a_message(platform_id: str, to: str = "bob") -> dict[str, Any]:
    return {"targets": [{"platformId": platform_id, "type": "user", "id": to}], "content": {"text": "hi"}}


@pytest.fixture
def box(running: Running) -> str:
    """The path of a sandbox's webhook."""
    return path_of(running, running.add_sandbox())


class TestWhoGetsIn:
    async def test_who_is_refused_gets_the_answer_of_a_request(self, running: Running) -> None:
        for client, path, status in (
            (running.nobody, WS, 401),
            (running.nobody.as_key("msc_dev_" + "x" * 43), WS, 401),
            (running.make_key("messages:write"), WS, 403),
            (running.make_key("messages:read", project="other"), WS, 404),
            (running.make_key("messages:read"), "/api/v1/projects/none/ws", 404),
            (running.key, "/api/v1/projects/sh%00op/ws", 400),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with connected(client, path):
                    pass
            assert refused.value.status == status, path

    async def test_a_key_in_the_address_is_none(self, running: Running) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with connected(running.nobody, f"{WS}?apiKey={running.key.headers['X-API-Key']}"):
                pass

    async def test_browsers_send_a_subprotocol(self, running: Running) -> None:
        key = running.key.headers["X-API-Key"]
        token = running.admin.headers["Authorization"].removeprefix("Bearer ")
        for credential in (f"msgcore.key.{key}", f"msgcore.token.{token}"):
            async with connected(running.nobody, protocols=("msgcore", credential)) as talk:
                assert talk.socket.protocol == "msgcore"  # and not the credential
                await talk.say("open")
                assert (await talk.hear())["type"] == "opened"
        for offered, code in ((("msgcore", "msgcore.key.msc_x"), 4401), (("msgcore",), 4401)):
            async with connected(running.nobody, protocols=offered) as talk:
                assert (await talk.end())[0] == code

    async def test_a_user_without_a_part_in_the_project_finds_none(self, running: Running) -> None:
        token = running.admin.headers["Authorization"].removeprefix("Bearer ")
        path = "/api/v1/projects/none/ws"
        async with connected(running.nobody, path, protocols=("msgcore", f"msgcore.token.{token}")) as talk:
            assert await talk.end() == (4404, "Project 'none' not found")

    def test_a_plain_request_is_told_what_is_here(self, running: Running) -> None:
        answer = running.key.ask("GET", WS)
        assert (answer.status, "WebSocket" in answer.body["message"]) == (405, True)

    def test_a_socket_that_declares_no_access_stops_the_start(self) -> None:
        @websocket("/open")
        async def forgetful(socket: WebSocket[Any, Any, Any]) -> None:
            await socket.accept()

        [route] = Litestar([forgetful], openapi_config=None).routes
        with pytest.raises(RuntimeError, match="declares no access"):
            require_declared_access(route)


class TestEvents:
    async def test_events_as_they_come(self, running: Running, box: str) -> None:
        after = newest(running)
        async with connected(running.key) as talk:
            await talk.say("open")
            assert await talk.hear() == {"type": "opened", "after": after, "window": 1000}
            post(running, box, "1", "2", "3")
            events = await talk.events(3)
        assert texts(events) == ["1", "2", "3"]
        page = running.key.ask("GET", f"projects/shop/events?after={after}").body["events"]
        assert events == [{"type": "event", **event} for event in page]

    async def test_from_a_place_and_filtered(self, running: Running, box: str) -> None:
        after = newest(running)
        other = running.add_sandbox()
        post(running, box, "a", chat="1")
        post(running, box, "", kind="typing", chat="1")
        post(running, path_of(running, other), "b", chat="2")
        async with opened(running.key, after=after) as talk:
            every = await talk.events(3)
        assert [event["id"] for event in every] == [after + 1, after + 2, after + 3]
        for wanted, field, value in (  # two platforms are read side by side: which comes first is not said
            ({"types": ["typing.started"]}, None, "typing.started"),
            ({"platformId": other}, "platform_id", other),
            ({"chatId": "2"}, "chat_id", "2"),
        ):
            expected = [event for event in every if (event["data"][field] if field else event["event"]) == value]
            async with opened(running.key, after=after, **wanted) as talk:
                assert await talk.events(1) == expected
                await talk.nothing_more()

    async def test_other_projects_are_not_heard(self, running: Running, box: str) -> None:
        after = newest(running)
        theirs = running.make_key("messages:read", project="other")
        async with connected(theirs, "/api/v1/projects/other/ws") as talk:
            await talk.say("open", after=0)
            assert (await talk.hear())["after"] == 0
            post(running, box, "ours")
            async with opened(running.key, after=after) as ours:
                assert texts(await ours.events(1)) == ["ours"]
            await talk.nothing_more()

    async def test_a_window_holds_back_until_it_is_acknowledged(self, running: Running, box: str) -> None:
        async with opened(running.key, window=2) as talk:
            post(running, box, *"12345")
            first = await talk.events(2)
            await talk.nothing_more()
            await talk.say("ack", id=first[0]["id"])
            [third] = await talk.events(1)
            await talk.nothing_more()
            await talk.say("ack", id=third["id"])  # and all before it
            assert texts([*first, third, *await talk.events(2)]) == list("12345")
            await talk.say("ack", id=first[0]["id"])  # an old one changes nothing
            await talk.nothing_more()

    async def test_many_clients_and_events(self, running: Running, box: str) -> None:
        after = newest(running)
        numbers = [str(number) for number in range(300)]  # more than a page
        async with opened(running.key, window=7) as slow, opened(running.key) as quick:
            await asyncio.to_thread(post, running, box, *numbers)
            assert texts(await quick.events(300)) == numbers
            for number in numbers:
                [event] = await slow.events(1)
                assert event["data"]["text"] == number
                await slow.say("ack", id=event["id"])
            async with opened(running.key, after=after) as late:
                assert texts(await late.events(300)) == numbers


class TestSends:
    async def test_a_message_is_accepted_as_by_a_request(self, running: Running) -> None:
        box = running.add_sandbox()
        async with opened(running.key, types=["message.received"]) as talk:
            await talk.say("send", requestId="r-1", message=a_message(box, "reply:bob"))
            sent = await talk.hear()
            [event] = await talk.events(1)
        asked = running.key.ask("POST", "projects/shop/messages/send", a_message(box))
        assert sent.keys() == asked.body.keys() | {"type", "requestId"}
        assert (sent["type"], sent["requestId"], sent["replayed"]) == ("sent", "r-1", False)
        assert event["data"]["text"] == "You wrote: hi"
        assert running.key.ask("GET", f"projects/shop/messages/status/{sent['jobId']}").status == 200

    async def test_an_idempotency_key_sends_once(self, running: Running) -> None:
        message, key = a_message(running.add_sandbox()), uuid4().hex
        async with opened(running.key, types=["message.received"]) as talk:
            for number in range(2):
                await talk.say("send", requestId=str(number), message=message, idempotencyKey=key)
            first, again = await talk.hear(), await talk.hear()
            assert (again["jobId"], again["replayed"], again["requestId"]) == (first["jobId"], True, "1")
            await talk.say("send", requestId="2", message=message | {"content": {"text": "x"}}, idempotencyKey=key)
            assert (await talk.hear())["statusCode"] == 422

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"targets": []}, "/targets"),
            ({"content": {}}, "/content"),
            ({"content": {"text": "\0"}}, "/content/text"),
            ({"unknown": 1}, "/unknown"),
            ({"targets": [{"platformId": str(uuid4()), "type": "user", "id": "x"}]}, "/targets/0/platformId"),
        ],
    )
    async def test_wrong_fields_are_named_and_the_socket_stays(
        self, running: Running, change: dict[str, Any], pointer: str
    ) -> None:
        message = a_message(running.add_sandbox()) | change
        async with opened(running.key, types=["message.received"]) as talk:
            await talk.say("send", requestId="r", message=message)
            answer = await talk.hear()
            await talk.nothing_more()
        expected = running.key.ask("POST", "projects/shop/messages/send", message).body
        assert answer == expected | {"type": "error", "requestId": "r", "retryAfter": None}
        assert (answer["statusCode"], answer["errors"][0]["pointer"]) == (400, pointer)

    async def test_sending_needs_its_scope(self, running: Running) -> None:
        async with opened(running.make_key("messages:read")) as talk:
            await talk.say("send", requestId="r", message=a_message(running.add_sandbox()))
            answer = await talk.hear()
        assert (answer["type"], answer["statusCode"]) == ("error", 403)
        assert "messages:write" in answer["message"]

    async def test_another_tenants_platform_is_none(self, running: Running) -> None:
        theirs = running.make_key("messages:read", "messages:write", project="other")
        async with connected(theirs, "/api/v1/projects/other/ws") as talk:
            await talk.say("open")
            await talk.hear()
            await talk.say("send", requestId="r", message=a_message(running.add_sandbox()))
            assert (await talk.hear())["errors"][0]["pointer"] == "/targets/0/platformId"


class TestEnds:
    @pytest.mark.parametrize(
        ("frame", "code", "reason"),
        [
            ("", 4400, "JSON"),
            ("{", 4400, "JSON"),
            ("[" * 10_000, 4400, "object"),
            ("[]", 4400, "object"),
            ('{"type":"dance"}', 4400, "dance"),
            ('{"type":"ack"}', 4400, "id"),
            ('{"type":"ack","id":-1}', 4400, "id"),
            ('{"type":"ack","id":999999999}', 4400, "not sent"),
            ('{"type":"open"}', 4400, "first frame"),
            ('{"type":"send","requestId":"","message":{}}', 4400, "requestId"),
            ('{"type":"send","message":{}}', 4400, "requestId"),
            ('{"type":"pong","more":1}', 4400, "more"),
            (b'{"type":"pong"}', 1003, "text"),
            ('{"type":"send","requestId":"r","message":"' + "\u00e9" * 524_300 + '"}', 1009, "1048576"),
        ],
        ids=lambda value: str(value)[:20],
    )
    async def test_a_malformed_frame(self, running: Running, frame: str | bytes, code: int, reason: str) -> None:
        async with opened(running.key) as talk:
            await (talk.socket.send_bytes if isinstance(frame, bytes) else talk.socket.send_str)(frame)
            ended = await talk.end()
        assert ended[0] == code
        assert reason in ended[1]

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            ({"type": "ack", "id": 1}, "open"),
            ({"type": "open", "after": 999999999}, "newest event"),
            ({"type": "open", "after": "1"}, "after"),
            ({"type": "open", "window": 0}, "window"),
            ({"type": "open", "window": 1001}, "window"),
            ({"type": "open", "types": "message.sent"}, "types"),
            ({"type": "open", "apiKey": "x"}, "apiKey"),
        ],
        ids=str,
    )
    async def test_a_wrong_opening(self, running: Running, frame: dict[str, Any], reason: str) -> None:
        async with connected(running.key) as talk:
            await talk.socket.send_json(frame)
            ended = await talk.end()
        assert ended[0] == 4400
        assert reason in ended[1]

    async def test_a_revoked_key(self, running: Running, box: str) -> None:
        made = running.admin.ask("POST", "projects/shop/keys", {"name": "k", "scopes": ["messages:read"]}).body
        async with opened(running.nobody.as_key(made["key"])) as talk:
            running.admin.ask("DELETE", f"projects/shop/keys/{made['id']}")
            began = time.monotonic()
            code, reason = await talk.end()
        assert (code, "revoked" in reason) == (4401, True)
        assert time.monotonic() - began < 10

    async def test_a_revoked_key_sends_nothing_more(self, running: Running) -> None:
        scopes = ["messages:read", "messages:write"]
        made = running.admin.ask("POST", "projects/shop/keys", {"name": "k", "scopes": scopes}).body
        box = running.add_sandbox()
        async with opened(running.nobody.as_key(made["key"])) as talk:
            running.admin.ask("DELETE", f"projects/shop/keys/{made['id']}")
            await talk.say("send", requestId="r", message=a_message(box))
            assert (await talk.end())[0] == 4401

    async def test_a_stop_of_the_server(self, tmp_path: Any) -> None:
        with GatewayProcess(data_dir=tmp_path) as gateway:
            client = ApiClient(gateway.url, {"X-API-Key": gateway.set_up("shop")})
            async with opened(client) as talk, connected(client) as silent, aiohttp.ClientSession() as session:
                headers = client.headers | {"Accept": "text/event-stream"}
                async with session.get(f"{gateway.url}/api/v1/projects/shop/events", headers=headers) as stream:
                    await asyncio.sleep(1)  # an HTTP server that has nothing to do cuts connections sooner
                    stopping = asyncio.to_thread(gateway.kill, signal.SIGTERM)
                    stopped, one, other, rest = await asyncio.gather(
                        stopping, talk.end(), silent.end(), stream.content.read()
                    )
            assert (stopped, one[0], other[0]) == (0, 1012, 1012)
            assert rest.startswith(b"retry: ")
            assert "cut off" not in gateway.log.read_text()

    def test_nothing_of_it_is_an_error_in_the_log(self, running: Running) -> None:
        log = running.gateway.log.read_text()
        assert "request_failed" not in log
        assert "Traceback" not in log
        assert running.key.headers["X-API-Key"] not in log


Said = list[dict[str, Any]]
Run = Callable[..., Awaitable[Said]]


class TestPatience:
    """With a client made of queues, so that seconds can be short."""

    @pytest.fixture
    async def run(self, database: Database) -> Run:
        """Run a session over a client that says these frames; what it is sent until the close."""
        await add_project(database)

        async def run(*frames: dict[str, Any], reads: bool = True, **rules: float) -> Said:
            said: Said = []
            heard = iter(frames)

            async def receive() -> dict[str, Any]:
                for frame in heard:
                    return {"type": "websocket.receive", "text": json.dumps(frame)}
                return await asyncio.Future()

            async def send(message: dict[str, Any]) -> None:
                said.append(message)
                if not reads:
                    await asyncio.Future()

            async def ask_access() -> Principal:
                return Principal("api-key", "k", project_id=PROJECT, scopes=frozenset(ApiScope))

            session = SocketSession(
                receive=receive,
                send=send,
                project=PROJECT,
                ask_access=ask_access,
                event_streams=EventStreamService(database=database, bus=EventBus(), links=attachment_links()),
                sending=None,  # type: ignore[arg-type] - nobody sends
                authenticator=None,  # type: ignore[arg-type]
                limits=None,  # type: ignore[arg-type]
                identifier="test",
                rules=Rules(**{"check_every": 0.01, "close_within": 0.01} | rules),
            )
            async with asyncio.timeout(PATIENCE):
                await session.run()
            return said

        return run

    async def test_a_client_that_never_begins(self, run: Run) -> None:
        [closed] = await run(open_within=0.01)
        assert (closed["type"], closed["code"]) == ("websocket.close", 4408)

    async def test_a_peer_that_is_dead(self, run: Run) -> None:
        *frames, closed = await run({"type": "open"}, ping_after=0.02, dead_after=0.2)
        assert [frame["text"] for frame in frames[1:]] == ['{"type":"ping"}'] * (len(frames) - 1)
        assert len(frames) > 2
        assert closed["code"] == 4408

    async def test_a_client_that_reads_nothing(self, run: Run) -> None:
        *_, closed = await run({"type": "open"}, reads=False, take_within=0.01)
        assert closed["code"] == 4429

    async def test_a_client_that_acknowledges_nothing(self, run: Run, database: Database) -> None:
        events = [NewEvent(PROJECT, "message.sent", {"n": number}, NOW) for number in range(5)]
        await database.transact(lambda connection: append(connection, events))
        *frames, closed = await run({"type": "open", "after": 0, "window": 3}, take_within=0.05)
        assert [json.loads(frame["text"])["type"] for frame in frames] == ["opened", "event", "event", "event"]
        assert (closed["code"], "acknowledged" in closed["reason"]) == (4429, True)

"""WebSockets of the transport: messages, ends, and what is not connected to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web

from msgcore.core.errors import DeliveryError
from msgcore.outbound import aiohttp_transport
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.outbound.transport import SocketClosedError, TooLargeError, Transport
from msgcore.security.egress import EgressGuard
from servers.http_sink import HttpSink, http_sink
from servers.patience import PATIENCE

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


@pytest.fixture
async def sink() -> AsyncIterator[HttpSink]:
    async with http_sink() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with open_transport(EgressGuard(["127.0.0.1"]), limit=1) as made:
        yield made


def talking(sink: HttpSink, talk: Talk) -> str:
    """The address of a WebSocket at whose other end somebody talks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        with suppress(ConnectionError):
            await talk(opened)
        return opened

    sink.answer = answer
    return f"ws://127.0.0.1:{sink.port}/?a=b"


async def test_messages_both_ways_and_none_lost_by_waiting_in_vain(transport: Transport, sink: HttpSink) -> None:
    ended_with: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def echo(opened: web.WebSocketResponse) -> None:
        async for message in opened:
            for number in range(50):
                await opened.send_str(f"{message.data} {number}")
                await asyncio.sleep(0.001)
            await opened.send_bytes(b"\x00\xff")
        ended_with.set_result(opened.close_code)

    got: list[bytes] = []
    async with asyncio.timeout(PATIENCE), transport.socket(talking(sink, echo), max_bytes=100, leave_with=4000) as it:
        await it.send("gr\u00fc\u00df")
        while len(got) < 51:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.0005):
                    got.append(await it.receive())
    assert got == [f"gr\u00fc\u00df {number}".encode() for number in range(50)] + [b"\x00\xff"]
    assert await asyncio.wait_for(ended_with, PATIENCE) == 4000
    assert sink.requests[0].path == "/?a=b"


async def test_how_a_socket_ends(transport: Transport, sink: HttpSink) -> None:
    async def refuse(opened: web.WebSocketResponse) -> None:
        await opened.close(code=4004, message=b"Authentication failed.")

    async with transport.socket(talking(sink, refuse), max_bytes=100) as it:
        with pytest.raises(SocketClosedError, match="Authentication failed") as closed:
            await it.receive()
        assert closed.value.code == 4004

    async def break_off(opened: web.WebSocketResponse) -> None:
        assert opened._req is not None
        assert opened._req.transport is not None
        opened._req.transport.abort()

    async with transport.socket(talking(sink, break_off), max_bytes=100) as it:
        with pytest.raises(SocketClosedError) as closed:
            await it.receive()
        assert closed.value.code is None
        with pytest.raises(SocketClosedError):
            await it.send("anybody there?")

    async def shout(opened: web.WebSocketResponse) -> None:
        await opened.send_str("x" * 101)
        await opened.receive()

    async with transport.socket(talking(sink, shout), max_bytes=100) as it:
        with pytest.raises(TooLargeError):
            await it.receive()


async def test_one_that_answers_no_ping_has_ended(transport: Transport, sink: HttpSink) -> None:
    async def deaf(request: web.BaseRequest) -> web.StreamResponse:
        opened = web.WebSocketResponse(autoping=False)
        await opened.prepare(request)
        while (await opened.receive()).type is web.WSMsgType.PING:
            pass
        return opened

    sink.answer = deaf
    where = f"ws://127.0.0.1:{sink.port}/"
    async with asyncio.timeout(PATIENCE), transport.socket(where, max_bytes=9, heartbeat=0.1) as it:
        with pytest.raises(SocketClosedError) as closed:
            await it.receive()
        assert closed.value.code is None


async def test_what_is_held_open_takes_no_places_of_requests(transport: Transport, sink: HttpSink) -> None:
    async def wait(opened: web.WebSocketResponse) -> None:
        await opened.receive()

    news = asyncio.Event()

    async def hold(_: web.BaseRequest) -> web.StreamResponse:
        await news.wait()
        return web.Response(body=b"news")

    where = talking(sink, wait)
    async with asyncio.timeout(PATIENCE), transport.socket(where, max_bytes=9), transport.socket(where, max_bytes=9):
        sink.answer = hold
        sink.arrived.clear()
        polling = asyncio.create_task(transport.poll(sink.url, b"?", headers={}, seconds=PATIENCE, max_bytes=9))
        await sink.arrived.wait()
        sink.answers(200)
        assert (await transport.request("GET", sink.url)).status == 200
        news.set()
        answer = await polling
        assert (answer.status, answer.body) == (200, b"news")


async def test_an_answer_that_goes_on_takes_no_place_and_ends_when_it_falls_silent(
    transport: Transport, sink: HttpSink
) -> None:
    async def talk(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=302, headers={"Location": "/elsewhere"})
        await answer.prepare(request)
        await answer.write(b"news")
        await asyncio.Event().wait()
        return answer

    sink.answer = talk
    async with transport.listen(sink.url, headers={"X-Who": "me"}, silence=0.2) as answer:
        sink.answers(200)
        assert (await transport.request("GET", sink.url)).status == 200
        assert (answer.status, sink.requests[0].headers["X-Who"]) == (302, "me")
        pieces: list[bytes] = []
        with pytest.raises(DeliveryError) as silent:
            async for piece in answer.pieces(2**62):
                pieces.append(piece)  # noqa: PERF401 - it ends with an error
    assert (silent.value.code, pieces) == ("timeout", [b"news"])
    with pytest.raises(DeliveryError) as refused:
        async with transport.listen(f"http://127.0.0.2:{sink.port}", headers={}, silence=1):
            raise AssertionError
    assert refused.value.code == "egress_denied"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:{port}/", "url_invalid"),
        ("ws://user@127.0.0.1:{port}/", "url_invalid"),
        ("ws://127.0.0.2:{port}/", "egress_denied"),
        ("ws://127.0.0.1:1/", "url_invalid"),
        ("ws://127.0.0.1:{port}/", "socket_refused"),
        ("wss://127.0.0.1:{port}/", "connection_failed"),
    ],
)
async def test_what_is_not_connected_to(url: str, code: str, transport: Transport, sink: HttpSink) -> None:
    for answer in ({"status": 200}, {"status": 302, "headers": {"Location": "/elsewhere"}}):
        sink.answers(**answer)
        with pytest.raises(DeliveryError) as refused:
            async with transport.socket(url.format(port=sink.port), max_bytes=100):
                raise AssertionError
        assert refused.value.code == code
    assert all(request.path != "/elsewhere" for request in sink.requests)


async def test_an_upgrade_that_takes_too_long(
    transport: Transport, sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_transport, "UPGRADE_SECONDS", 0.05)
    sink.never_answers()
    with pytest.raises(DeliveryError) as refused:
        async with transport.socket(f"ws://127.0.0.1:{sink.port}", max_bytes=100):
            raise AssertionError
    assert refused.value.code == "timeout"
    assert not isinstance(refused.value.__cause__, aiohttp.ClientError)

"""The transport against real sockets: what it must never do, and what its failures say."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import BodyPartReader, web

from msgcore.core.errors import DeliveryError, PermanentError, TemporaryError
from msgcore.outbound import aiohttp_transport
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.outbound.transport import Part, Response, TooLargeError, Transport
from msgcore.security.egress import AddrInfo, EgressDeniedError, EgressGuard
from servers.dns import FakeDns, addr_info
from servers.http_sink import HttpSink, http_sink
from servers.raw_http import OK, Connection, answers_all, raw_server, serving, until


@pytest.fixture
async def sink() -> AsyncIterator[HttpSink]:
    async with http_sink() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with open_transport(EgressGuard(["127.0.0.1"]), limit=10) as made:
        yield made


# --- requests and answers


async def test_an_answer(transport: Transport, sink: HttpSink) -> None:
    sink.answers(201, body=b"made", headers={"X-Thing": "1"})
    answer = await transport.request("PUT", f"{sink.url}/a?b=c", headers={"X-Mine": "ü"}, body=b"body")
    assert answer == Response(201, answer.headers, b"made")
    assert answer.headers["x-thing"] == "1"
    [request] = sink.requests
    assert (request.method, request.path, request.body) == ("PUT", "/a?b=c", b"body")
    assert request.headers["X-Mine"] == "ü"
    assert request.headers["User-Agent"].startswith("MsgCore/")
    assert request.headers["Accept-Encoding"] == "identity"


async def chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk():  # read() refuses more than a megabyte
        yield bytes(chunk)


async def test_a_form_with_files(transport: Transport, sink: HttpSink) -> None:
    large = b"x" * 3_000_000
    parts = [
        Part("caption", "Grüße".encode()),
        Part("json", b'{"a":"\xc3\xbc"}', mime_type="application/json"),
        Part("file", large, filename='résumé "1".pdf', mime_type="application/pdf"),
    ]
    received: list[tuple[str | None, str | None, str | None, bytes]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.content_length is not None, "some platforms refuse uploads of unknown length"
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            data = b"".join([chunk async for chunk in chunks(part)])
            received.append((part.name, part.filename, part.headers.get("Content-Type"), data))
        return web.Response()

    async with serving(handle) as port:
        assert (await transport.request("POST", f"http://127.0.0.1:{port}/", body=parts)).status == 200
    assert received == [
        ("caption", None, "text/plain; charset=utf-8", "Grüße".encode()),
        ("json", None, "application/json", b'{"a":"\xc3\xbc"}'),
        ("file", 'résumé "1".pdf', "application/pdf", large),
    ]


async def test_cookies_are_not_kept(transport: Transport, sink: HttpSink) -> None:
    sink.answers(200, headers={"Set-Cookie": "a=b; Path=/"})
    for _ in range(2):
        await transport.request("GET", sink.url)
    assert [request for request in sink.requests if "Cookie" in request.headers] == []
    assert len(sink.connections) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers(status: int, transport: Transport, sink: HttpSink) -> None:
    async with http_sink() as inside:
        sink.answers(status, headers={"Location": f"{inside.url}/private"})
        answer = await transport.request("POST", sink.url, body=b"x")
        assert (answer.status, answer.headers["Location"]) == (status, f"{inside.url}/private")
        async with transport.download(sink.url) as download:
            assert download.status == status
    assert inside.requests == []


async def test_proxies_of_the_environment_are_not_used(sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(answers_all) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with open_transport(EgressGuard(["127.0.0.1"]), limit=10) as transport:
            assert (await transport.request("POST", sink.url)).status == 204
    assert proxy.opened == 0
    assert len(sink.requests) == 1


@pytest.mark.parametrize("how", ["counted", "chunked", "until the end"])
async def test_a_body_above_the_limit_is_not_read(how: str, transport: Transport) -> None:
    head = {"counted": "Content-Length: 100000000", "chunked": "Transfer-Encoding: chunked", "until the end": "X-No: 1"}
    piece = b"x" * 10_000
    frame = b"2710\r\n" + piece + b"\r\n" if how == "chunked" else piece

    async def endless(connection: Connection) -> None:
        await connection.request()
        await connection.say(f"HTTP/1.1 200 OK\r\n{head[how]}\r\n\r\n".encode())
        while True:
            await connection.say(frame)

    async with raw_server(endless) as server:
        answer = await transport.request("POST", server.url, max_bytes=50_000)
        assert (answer.status, answer.body) == (200, None)
        async with transport.download(server.url) as download:
            with pytest.raises(TooLargeError):
                await download.read(50_000)
        await until(lambda: server.open == 0)


async def test_a_body_of_just_the_limit_is_read(transport: Transport, sink: HttpSink) -> None:
    sink.answers(200, body=b"x" * 50_000)
    assert (await transport.request("GET", sink.url, max_bytes=50_000)).body == b"x" * 50_000
    assert (await transport.request("GET", sink.url, max_bytes=49_999)).body is None
    async with transport.download(sink.url) as download:
        assert await download.read(50_000) == b"x" * 50_000


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_bomb_is_cut_off(coding: str, transport: Transport, sink: HttpSink) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    sink.answers(200, body=bomb, headers={"Content-Encoding": coding})
    assert (await transport.request("GET", sink.url, max_bytes=100_000)).body is None
    async with transport.download(sink.url) as download:
        with pytest.raises((TooLargeError, TemporaryError) if coding == "deflate" else TooLargeError):
            await download.read(100_000)


# --- what failures say


async def refused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return f"http://127.0.0.1:{unused.getsockname()[1]}/"


async def test_nobody_there_is_not_reached(transport: Transport) -> None:
    with pytest.raises(TemporaryError) as raised:
        await transport.request("POST", await refused(), body=b"x")
    assert (raised.value.code, raised.value.reached) == ("connection_failed", "no")


async def test_names_without_an_answer_are_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_host: str, _port: int) -> list[AddrInfo]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("msgcore.security.egress.RESOLVE_SECONDS", 0.05)
    async with open_transport(EgressGuard(resolve=silent), limit=10) as transport:
        with pytest.raises(TemporaryError) as raised:
            await transport.request("POST", "http://silent.example/")
    assert (raised.value.code, raised.value.reached) == ("connection_failed", "no")


SLOW_HEADS = [("silent", b""), ("drips", b"HTTP/1.1 200 OK\r\n")]


@pytest.mark.parametrize("start", [case[1] for case in SLOW_HEADS], ids=[case[0] for case in SLOW_HEADS])
async def test_a_head_that_drips_in_is_a_timeout(start: bytes, transport: Transport) -> None:
    async def drip(connection: Connection) -> None:
        await connection.request()
        await connection.say(start)
        while True:
            await asyncio.sleep(0.01)
            await connection.say(b"X-A: b\r\n" if start else b"")
            if not start and connection.reader.at_eof():
                return

    async with raw_server(drip) as server:
        with pytest.raises(TemporaryError) as raised:
            await transport.request("POST", server.url, body=b"x", timeout=0.2)
        assert (raised.value.code, raised.value.reached) == ("timeout", "maybe")
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("bound", ["timeout", "default"])
async def test_a_body_that_drips_in_leaves_the_status(
    bound: str, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drip(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await connection.say(b"x")
            await asyncio.sleep(0.01)

    if bound == "default":
        monkeypatch.setattr(aiohttp_transport, "BODY_SECONDS", 0.1)
    async with raw_server(drip) as server:
        timeout = 0.2 if bound == "timeout" else None
        answer = await transport.request("POST", server.url, timeout=timeout)
        assert (answer.status, answer.body) == (200, None)
        async with transport.download(server.url, timeout=0.2) as download:
            with pytest.raises(TemporaryError) as raised:
                await download.read(100_000)
        assert raised.value.code == "timeout"
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_post_that_meets_a_closing_connection_is_sent_once(how: str, transport: Transport) -> None:
    bodies: list[bytes] = []

    async def closes_at_the_second(connection: Connection) -> None:
        bodies.append(await connection.request())
        await connection.say(OK)
        bodies.append(await connection.request())
        if how == "reset":
            connection.reset()

    async with raw_server(closes_at_the_second) as server:
        assert (await transport.request("POST", server.url, body=b"1")).status == 200
        with pytest.raises(TemporaryError) as raised:
            await transport.request("POST", server.url, body=b"2")
        assert (raised.value.code, raised.value.reached) == ("connection_lost", "maybe")
        assert (server.opened, bodies) == (1, [b"1", b"2"])


async def test_a_connection_closed_while_idle_is_replaced(transport: Transport) -> None:
    bodies: list[bytes] = []

    async def closes_after_one(connection: Connection) -> None:
        bodies.append(await connection.request())
        await connection.say(OK)

    async with raw_server(closes_after_one) as server:
        for body in (b"1", b"2", b"3"):
            assert (await transport.request("POST", server.url, body=body)).status == 200
            await until(lambda: server.open == 0)
            await until_closed(transport)
        assert (server.opened, bodies) == (3, [b"1", b"2", b"3"])


async def until_closed(transport: Transport) -> None:
    """The client has seen the end of its idle connections."""
    assert isinstance(transport, aiohttp_transport._AiohttpTransport)
    connector = transport._session.connector
    assert connector is not None
    idle = [protocol for kept in connector._conns.values() for protocol, _ in kept]
    await until(lambda: not any(protocol.is_connected() for protocol in idle))


@pytest.mark.parametrize("answered", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"], ids=["head", "body"])
async def test_a_cancelled_request_closes_its_connection(answered: bytes) -> None:
    waiting = asyncio.Event()

    async def stalls(connection: Connection) -> None:
        await connection.request()
        if answered:
            await connection.say(answered)
        waiting.set()
        await connection.reader.read()

    async with raw_server(stalls) as server, open_transport(EgressGuard(["127.0.0.1"]), limit=1) as transport:
        for _ in range(3):
            waiting.clear()
            sending = asyncio.create_task(transport.request("POST", server.url, body=b"x"))
            await asyncio.wait_for(waiting.wait(), 10)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await until(lambda: server.open == 0)
        assert server.opened == 3, "the one place of the transport was free again each time"


async def test_a_request_cancelled_before_it_is_sent_is_not_sent() -> None:
    asked = asyncio.Event()

    async def silent(_host: str, _port: int) -> list[AddrInfo]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with raw_server(answers_all) as server:
        guard = EgressGuard(["127.0.0.1"], resolve=silent)
        async with open_transport(guard, limit=1) as transport:
            sending = asyncio.create_task(transport.request("POST", f"http://a.example:{server.port}/"))
            await asyncio.wait_for(asked.wait(), 10)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert (await transport.request("POST", server.url)).status == 200
        assert server.opened == 1


# --- the guard


async def test_a_literal_address_needs_no_name_server(sink: HttpSink) -> None:
    dns = FakeDns(["127.0.0.1"])
    async with open_transport(EgressGuard(["127.0.0.1"], resolve=dns), limit=10) as transport:
        assert (await transport.request("POST", sink.url)).status == 204
        with pytest.raises(EgressDeniedError):
            await transport.request("POST", f"http://127.0.0.2:{sink.port}/")
    assert dns.asked == 0


BAD_URLS = [
    "ftp://127.0.0.1/",
    "http://user:secret@127.0.0.1/",
    "http://127.0.0.1:25/",
    "http://a b/",
    "http://[x/",
    "",
]


@pytest.mark.parametrize("url", BAD_URLS)
async def test_urls_that_are_not_requested(url: str, transport: Transport) -> None:
    for make in (transport.request("POST", url), transport.download(url).__aenter__()):
        with pytest.raises(PermanentError) as raised:
            await make
        assert raised.value.code == "url_invalid"
        assert "secret" not in raised.value.message


async def test_nothing_resolves_between_the_check_and_the_connection(sink: HttpSink) -> None:
    dns = FakeDns(["127.0.0.1"], ["127.0.0.2"])
    async with open_transport(EgressGuard(["127.0.0.1"], resolve=dns), limit=10) as transport:
        sink.answers(200, headers={"Connection": "close"})
        for _ in range(2):
            assert (await transport.request("POST", f"http://evil.example:{sink.port}/")).status == 200
    assert (dns.asked, len(sink.connections)) == (1, 2)


async def test_a_name_that_moves_inside_is_denied(sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_transport, "DNS_CACHE_SECONDS", 0)
    dns = FakeDns(["127.0.0.1"], ["127.0.0.2"])
    async with open_transport(EgressGuard(["127.0.0.1"], resolve=dns), limit=10) as transport:
        sink.answers(200, headers={"Connection": "close"})
        assert (await transport.request("POST", f"http://evil.example:{sink.port}/")).status == 200
        with pytest.raises(EgressDeniedError) as raised:
            await transport.request("POST", f"http://evil.example:{sink.port}/")
    assert (dns.asked, len(sink.requests)) == (2, 1)
    assert "127.0.0.2" not in raised.value.message


async def test_an_address_put_into_the_cache_is_checked_once_more(sink: HttpSink) -> None:
    answer = [addr_info("127.0.0.1", sink.port)]

    async def resolve(_host: str, _port: int) -> list[AddrInfo]:
        return answer

    guard = EgressGuard(["127.0.0.1"], resolve=resolve)
    async with open_transport(guard, limit=10) as transport:
        sink.answers(200, headers={"Connection": "close"})
        await transport.request("POST", f"http://evil.example:{sink.port}/")
        guard._allow = ()  # as if the address had got into the cache by mistake
        with pytest.raises(DeliveryError) as raised:
            await transport.request("POST", f"http://evil.example:{sink.port}/")
    assert (raised.value.reached, len(sink.requests)) == ("no", 1)


async def test_the_next_address_is_tried(sink: HttpSink) -> None:
    dns = FakeDns(["127.0.0.3", "127.0.0.1"])
    guard = EgressGuard(["127.0.0.0/8"], resolve=dns)
    async with open_transport(guard, limit=10) as transport:
        assert (await transport.request("POST", f"http://two.example:{sink.port}/")).status == 204


async def test_a_thousand_hosts_do_not_keep_a_thousand_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_transport, "MOST_IDLE", 20)
    guard = EgressGuard(["127.0.0.1"], resolve=FakeDns(["127.0.0.1"]))
    async with raw_server(answers_all) as server, open_transport(guard, limit=10) as transport:

        async def visit(first: int) -> None:
            for number in range(first, 1000, 10):
                url = f"http://host{number}.example:{server.port}/"
                assert (await transport.request("POST", url)).status == 200

        await asyncio.gather(*(visit(first) for first in range(10)))
        assert server.opened == 1000
        await until(lambda: server.open <= 20)
        assert server.most <= 60, "closing takes a moment, but it keeps up"
        again = server.opened
        assert (await transport.request("POST", f"http://host999.example:{server.port}/")).status == 200
        assert server.opened == again, "the host of a moment ago kept its connection"
    await until(lambda: server.open == 0)

"""Attachments: what is refused at accept, what loading gives, what failures mean."""

from __future__ import annotations

import asyncio
import base64
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from msgcore.core.content import Attachment
from msgcore.core.errors import DeliveryError, PermanentError, TemporaryError
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.outbound.attachments import AttachmentLoader, LoadedAttachment, check_attachment
from msgcore.security.egress import EgressGuard
from servers.http_sink import HttpSink, http_sink

LARGEST = 100_000


def attachment(**fields: Any) -> Attachment:
    return msgspec.convert(fields, Attachment)


@pytest.fixture
async def sink() -> AsyncIterator[HttpSink]:
    async with http_sink() as server:
        yield server


@pytest.fixture
async def loader() -> AsyncIterator[AttachmentLoader]:
    async with open_transport(EgressGuard(["127.0.0.1"]), limit=10) as transport:
        yield AttachmentLoader(transport, LARGEST)


async def only(loader: AttachmentLoader, given: Attachment) -> LoadedAttachment:
    (file,) = await loader.load([given])
    return file


CHECKS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("url", {"url": "https://example.com/a"}, []),
    ("data", {"data": "QUJD"}, []),
    ("padded once", {"data": "QUI="}, []),
    ("padded twice", {"data": "QQ=="}, []),
    ("data URL", {"data": "data:image/png;base64,QUJD"}, []),
    ("data URL with a charset", {"data": "data:text/plain;charset=utf-8;base64,QUJD"}, []),
    ("data URL without a type", {"data": "data:;base64,QUJD"}, []),
    ("neither", {}, ["/a/0"]),
    ("both", {"url": "https://example.com/a", "data": "QUJD"}, ["/a/0"]),
    ("empty data", {"data": ""}, ["/a/0/data"]),
    ("not base64", {"data": "Hello!!!"}, ["/a/0/data"]),
    ("wrong length", {"data": "QUJ"}, ["/a/0/data"]),
    ("padding in the middle", {"data": "QQ==QUJD"}, ["/a/0/data"]),
    ("too much padding", {"data": "Q==="}, ["/a/0/data"]),
    ("line breaks", {"data": "QUJD\nQUJD"}, ["/a/0/data"]),
    ("url-safe alphabet", {"data": "_-_-"}, ["/a/0/data"]),
    ("not ASCII", {"data": "QUJü"}, ["/a/0/data"]),
    ("data URL in percent form", {"data": "data:text/plain,Hello"}, ["/a/0/data"]),
    ("url with a password", {"url": "https://u:p@example.com/a"}, ["/a/0/url"]),
    ("url to a mail port", {"url": "https://example.com:25/a"}, ["/a/0/url"]),
    ("path as a name", {"data": "QUJD", "filename": "../../etc/passwd"}, ["/a/0/filename"]),
    ("CRLF in the name", {"data": "QUJD", "filename": "a\r\nb"}, ["/a/0/filename"]),
]


@pytest.mark.parametrize(("fields", "pointers"), [case[1:] for case in CHECKS], ids=[case[0] for case in CHECKS])
async def test_checks_at_accept(fields: dict[str, Any], pointers: list[str], loader: AttachmentLoader) -> None:
    given = attachment(**fields)
    assert [error.pointer for error in check_attachment(given, "/a/0")] == pointers
    if "data" in fields and not pointers:
        assert (await only(loader, given)).data in (b"ABC", b"AB", b"A")
    if pointers == ["/a/0/data"] and fields["data"]:
        with pytest.raises(PermanentError) as raised:
            await only(loader, given)
        assert raised.value.code == "attachment_invalid"


LOADS: list[tuple[str, dict[str, Any], str, str]] = [
    ("given name and type", {"data": "QUJD", "filename": "a.pdf", "mimeType": "text/x-odd"}, "a.pdf", "text/x-odd"),
    ("type by name", {"data": "QUJD", "filename": "a.pdf"}, "a.pdf", "application/pdf"),
    ("type by data URL", {"data": "data:image/png;base64,QUJD"}, "file.png", "image/png"),
    ("nothing known", {"data": "QUJD"}, "file.bin", "application/octet-stream"),
    ("unknown ending", {"data": "QUJD", "filename": "a.zzz"}, "a.zzz", "application/octet-stream"),
]


@pytest.mark.parametrize(("fields", "name", "mime_type"), [case[1:] for case in LOADS], ids=[case[0] for case in LOADS])
async def test_inline_files(fields: dict[str, Any], name: str, mime_type: str, loader: AttachmentLoader) -> None:
    assert await only(loader, attachment(**fields)) == LoadedAttachment(name, mime_type, b"ABC")


FETCHES: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("all from the answer", "/files/r%C3%A9sum%C3%A9.pdf?v=2", {}, "résumé.pdf", "application/x-served"),
    ("given wins", "/x", {"filename": "b.txt", "mimeType": "text/csv"}, "b.txt", "text/csv"),
    ("no name in the path", "/", {}, "file", "application/x-served"),
    ("an escaped slash", "/..%2f..%2fetc%2fpasswd", {}, "passwd", "application/x-served"),
    ("an escaped line break", "/a%0d%0ab", {}, "a__b", "application/x-served"),
]


@pytest.mark.parametrize(
    ("path", "fields", "name", "mime_type"), [case[1:] for case in FETCHES], ids=[case[0] for case in FETCHES]
)
async def test_fetched_files(
    path: str, fields: dict[str, Any], name: str, mime_type: str, loader: AttachmentLoader, sink: HttpSink
) -> None:
    sink.answers(200, body=b"ABC", headers={"Content-Type": "application/x-served"})
    loaded = await only(loader, attachment(url=sink.url + path, **fields))
    assert loaded == LoadedAttachment(name, mime_type, b"ABC")


STATUSES: list[tuple[int, type[DeliveryError], str]] = [
    (204, PermanentError, "attachment_not_found"),
    (400, PermanentError, "attachment_not_found"),
    (401, PermanentError, "attachment_not_found"),
    (404, PermanentError, "attachment_not_found"),
    (410, PermanentError, "attachment_not_found"),
    (304, PermanentError, "attachment_not_found"),
    (408, TemporaryError, "attachment_unavailable"),
    (429, TemporaryError, "attachment_unavailable"),
    (500, TemporaryError, "attachment_unavailable"),
    (503, TemporaryError, "attachment_unavailable"),
]


@pytest.mark.parametrize(("status", "error", "code"), STATUSES)
async def test_refusals(
    status: int, error: type[DeliveryError], code: str, loader: AttachmentLoader, sink: HttpSink
) -> None:
    sink.answers(status)
    with pytest.raises(DeliveryError) as raised:
        await only(loader, attachment(url=sink.url))
    assert (type(raised.value), raised.value.code, raised.value.reached) == (error, code, "no")


async def test_a_file_that_says_it_is_too_large(loader: AttachmentLoader, sink: HttpSink) -> None:
    sink.answers(200, body=b"x" * (LARGEST + 1))
    with pytest.raises(PermanentError) as raised:
        await only(loader, attachment(url=sink.url))
    assert raised.value.code == "attachment_too_large"
    assert "MSGCORE_MAX_ATTACHMENT_BYTES" in raised.value.message


async def test_a_file_that_never_ends_is_cut_off(loader: AttachmentLoader, sink: HttpSink) -> None:
    gone = asyncio.Event()

    async def forever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        except ConnectionError:
            gone.set()
        return response

    sink.answer = forever
    with pytest.raises(PermanentError) as raised:
        await only(loader, attachment(url=sink.url))
    assert raised.value.code == "attachment_too_large"
    await asyncio.wait_for(gone.wait(), 5)


async def test_a_compressed_bomb_is_cut_off(loader: AttachmentLoader, sink: HttpSink) -> None:
    sink.answers(200, body=zlib.compress(b"x" * 5_000_000), headers={"Content-Encoding": "deflate"})
    with pytest.raises(PermanentError) as raised:
        await only(loader, attachment(url=sink.url))
    assert raised.value.code == "attachment_too_large"


async def test_inline_data_above_the_limit(loader: AttachmentLoader) -> None:
    with pytest.raises(PermanentError) as raised:
        await only(loader, attachment(data=base64.b64encode(b"x" * (LARGEST + 1)).decode()))
    assert raised.value.code == "attachment_too_large"


TOGETHER: list[tuple[str, list[tuple[str, int]], str | None]] = [
    ("none", [], None),
    ("just enough, by url", [("url", LARGEST // 2), ("url", LARGEST // 2)], None),
    ("just enough, inline", [("data", LARGEST // 2), ("data", LARGEST // 2)], None),
    ("an empty file when all is spent", [("data", LARGEST), ("url", 0)], None),
    ("too much by url", [("url", LARGEST // 2), ("url", LARGEST // 2), ("url", 1)], "attachments_too_large"),
    ("too much inline", [("data", LARGEST // 2), ("data", LARGEST // 2 + 1)], "attachments_too_large"),
    ("inline, then by url", [("data", LARGEST), ("url", 1)], "attachments_too_large"),
    ("by url, then inline", [("url", LARGEST), ("data", 1)], "attachments_too_large"),
    ("of unknown length", [("data", LARGEST), ("chunked", 1)], "attachments_too_large"),
    ("one alone is too large", [("url", LARGEST + 1), ("data", 1)], "attachment_too_large"),
]


@pytest.mark.parametrize(("files", "code"), [case[1:] for case in TOGETHER], ids=[case[0] for case in TOGETHER])
async def test_the_files_of_a_message_share_one_limit(
    files: list[tuple[str, int]], code: str | None, loader: AttachmentLoader, sink: HttpSink
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=b"x" * int(request.query["size"]))
        if request.path == "/chunked":
            response.enable_chunked_encoding()
        return response

    sink.answer = answer
    given = [
        attachment(data=base64.b64encode(b"x" * size).decode())
        if kind == "data"
        else attachment(url=f"{sink.url}/{kind}?size={size}")
        for kind, size in files
    ]
    if code is None:
        assert [len(file.data) for file in await loader.load(given)] == [size for _, size in files]
        return
    with pytest.raises(PermanentError) as raised:
        await loader.load(given)
    assert (raised.value.code, raised.value.reached) == (code, "no")
    assert str(LARGEST) in raised.value.message
    assert "MSGCORE_MAX_ATTACHMENT_BYTES" in raised.value.message


async def test_what_comes_after_the_limit_is_not_fetched(loader: AttachmentLoader, sink: HttpSink) -> None:
    sink.answers(200, body=b"x" * (LARGEST // 2 + 1))
    with pytest.raises(PermanentError):
        await loader.load([attachment(url=sink.url)] * 100)
    assert len(sink.requests) == 2


def redirecting(targets: dict[str, str]) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path in targets:
            return web.Response(status=302, headers={"Location": targets[request.path]})
        return web.Response(body=b"ABC")

    return answer


async def test_redirects_are_followed_and_checked_anew(loader: AttachmentLoader, sink: HttpSink) -> None:
    sink.answer = redirecting({"/a": "/b", "/b": f"{sink.url}/c.txt"})
    assert await only(loader, attachment(url=f"{sink.url}/a")) == LoadedAttachment("c.txt", "text/plain", b"ABC")


REDIRECTS = [
    ("to what is no URL", "http://[x", "attachment_invalid"),
    ("inside", "http://10.0.0.1/", "egress_denied"),
    ("metadata", "http://169.254.169.254/latest/meta-data", "egress_denied"),
    ("another scheme", "file:///etc/passwd", "url_invalid"),
    ("another protocol's port", "http://127.0.0.1:25/", "url_invalid"),
    ("itself", "/a", "attachment_invalid"),
]


@pytest.mark.parametrize(("location", "code"), [case[1:] for case in REDIRECTS], ids=[case[0] for case in REDIRECTS])
async def test_redirects_that_are_not_followed(
    location: str, code: str, loader: AttachmentLoader, sink: HttpSink
) -> None:
    sink.answer = redirecting({"/a": location})
    with pytest.raises(PermanentError) as raised:
        await only(loader, attachment(url=f"{sink.url}/a"))
    assert raised.value.code == code
    assert len(sink.requests) <= 4


async def test_a_host_that_is_away_is_temporary_and_sent_nothing(loader: AttachmentLoader, sink: HttpSink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    sink.hangs_up()
    for url in (f"http://127.0.0.1:{port}/", sink.url, "http://no-such-host.invalid/"):
        with pytest.raises(TemporaryError) as raised:
            await only(loader, attachment(url=url))
        assert (raised.value.code, raised.value.reached) == ("attachment_unavailable", "no")


async def test_silence_is_temporary(loader: AttachmentLoader, sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    sink.never_answers()
    monkeypatch.setattr("msgcore.outbound.aiohttp_transport.BY_DEFAULT", aiohttp.ClientTimeout(total=0.05))
    with pytest.raises(TemporaryError) as raised:
        await only(loader, attachment(url=sink.url))
    assert (raised.value.code, raised.value.reached) == ("attachment_unavailable", "no")


async def test_inner_addresses_are_denied() -> None:
    for url in ("http://10.0.0.1/", "http://localhost:80/", "http://[::ffff:10.0.0.1]/"):
        async with open_transport(EgressGuard(), limit=1) as transport:
            with pytest.raises(PermanentError) as raised:
                await AttachmentLoader(transport, LARGEST).load([attachment(url=url)])
            assert raised.value.code == "egress_denied"


async def test_neither_url_nor_data(loader: AttachmentLoader) -> None:
    with pytest.raises(PermanentError):
        await only(loader, attachment())

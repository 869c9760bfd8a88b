"""Files of messages: fetched or refused, within limits, once; and what is swept."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import delete, select, update

from inbound.test_reader import KEYRING, Inbox, inbox, request
from msgcore.blobs.store import BlobError
from msgcore.core.envelope import File
from msgcore.core.errors import PermanentError
from msgcore.core.ids import earliest_id, new_id
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.inbound.bus import EventBus
from msgcore.inbound.fetcher import LEASE, RETRIES, Fetcher
from msgcore.inbound.files import FileKeeper, FilePolicy, ReceivedFile
from msgcore.inbound.sweeper import GRACE, Sweeper
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.platforms.base import Account, FileSource, PlatformAdapter
from msgcore.platforms.sandbox import SandboxAdapter
from msgcore.security.egress import EgressGuard
from msgcore.setting_kinds import PROGRAMS
from msgcore.store.tables import blobs as blobs_table
from msgcore.store.tables import message_attachments, platform_logs, received_messages
from servers.adapters import adapter_services
from servers.dns import FakeDns
from servers.http_sink import HttpSink, http_sink
from servers.patience import PATIENCE

__all__ = ["inbox"]

LARGEST = 100_000
SECRET = "s3cr3t-of-a-url"
PE = b"MZ\x90\x00\x03\x00\x00\x00"


class MovedClock:
    """The time, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class Locating(SandboxAdapter):
    """A platform that knows its files by ids, and tells where they are."""

    target = ""

    async def locate_file(self, account: Account, file: File) -> FileSource:
        if file.url is not None:
            return await super().locate_file(account, file)
        return FileSource(f"{self.target}/{file.id}", {"Authorization": f"Bearer {SECRET}"})


class Office:
    """An inbox, fetchers over it, and what there is to see of it all."""

    def __init__(self, box: Inbox, sink: HttpSink, folder: Path, stack: AsyncExitStack) -> None:
        self.inbox = box
        self.sink = sink
        self.folder = folder
        self.clock = MovedClock()
        self.policy = FilePolicy(LARGEST, ("*/*",), PROGRAMS)
        self.fetchers: list[Fetcher] = []
        self._stack = stack

    async def fetch(self, *, number: int = 1, seconds: float = PATIENCE, dns: FakeDns | None = None) -> None:
        guard = EgressGuard(["127.0.0.1"], resolve=dns or FakeDns(["169.254.169.254"]))
        transport = await self._stack.enter_async_context(open_transport(guard, limit=100))
        services = await self._stack.enter_async_context(adapter_services(self.inbox.database))
        adapter: PlatformAdapter = Locating(services)
        Locating.target = self.sink.url
        for _ in range(number):
            fetcher = Fetcher(
                database=self.inbox.database,
                blobs=self.inbox.blobs,
                policy=self.policy,
                accounts=AccountDirectory(self.inbox.database, KEYRING),
                adapters={"sandbox": adapter},
                transport=transport,
                bus=EventBus(),
                clock=self.clock,
                every=0.02,
                seconds=seconds,
            )
            fetcher.start()
            self.fetchers.append(fetcher)

    async def receive(self, *files: dict[str, Any]) -> None:
        """Messages with one file each, read already and due to be fetched."""
        found = [request(f"{new_id()}", attachments=[file]) for file in files]
        await self.inbox.keep(*found)
        if not self.inbox.readers:
            self.inbox.start()
        await self.inbox.texts()
        async with self.inbox.database.write() as connection:
            due = update(message_attachments).where(message_attachments.c.state == "pending")
            await connection.execute(due.values(due_at=self.clock.now()))

    async def rows(self) -> list[Any]:
        async with self.inbox.database.read() as connection:
            return list((await connection.execute(select(message_attachments).order_by("id"))).all())

    async def until(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """All attachments, once each is as wanted."""
        async with asyncio.timeout(PATIENCE):
            while not all(map(wanted, rows := await self.rows())):
                await asyncio.sleep(0.01)
        return rows

    async def ended(self) -> list[Any]:
        return await self.until(lambda row: row.state != "pending")

    async def lines(self) -> list[Any]:
        async with self.inbox.database.read() as connection:
            return list((await connection.execute(select(platform_logs))).all())

    async def content(self, attachment_id: str) -> bytes:
        return b"".join([piece async for piece in (await self.inbox.blobs.get(attachment_id)).pieces])

    def kept(self) -> list[str]:
        """Names of all files of the store, half ones included."""
        return [path.name for path in (self.folder / "blobs").rglob("*") if path.is_file()]

    async def sweep(self, *, days: int = 30) -> int:
        sweeper = Sweeper(
            database=self.inbox.database, blobs=self.inbox.blobs, clock=self.clock, days=days, leads=lambda: True
        )
        return await sweeper.sweep()


@pytest.fixture
async def office(inbox: Inbox, tmp_path: Path) -> AsyncIterator[Office]:
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(http_sink())
        made = Office(inbox, sink, tmp_path, stack)
        yield made
        for fetcher in made.fetchers:
            await fetcher.stop()


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def plain(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"hello" * 10_000, content_type="image/png")


async def chunked_lie(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for _ in range(1000):
        await response.write(b"x" * 10_000)
    return response


async def broken_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 500)
    assert request.transport is not None
    request.transport.close()
    return response


def fixed(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return answer


PNG, PDF = b"\x89PNG\r\n\x1a\n\0", b"%PDF-1.7"
HELD: list[tuple[str, bytes, bool, bool]] = [
    # what is said, what it holds, whether it is kept where pictures are, and where all but pages and programs are
    ("image/png", PNG, True, True),
    ("image/jpg", b"\xff\xd8\xff\xe0", True, True),
    ("image/webp", PNG, True, True),  # nobody is harmed
    ("image/png", b"", True, True),
    ("image/png", b"anything", True, True),
    ("image/png", PDF, False, True),
    ("image/png", PE, False, False),
    ("image/png", b"\xef\xbb\xbf \n<!DOCTYPE HTML><p>", False, False),
    ("image/png", b"<svg xmlns=x onload=y>", False, False),
    ("text/plain", b"<Script>", False, False),
    ("text/plain", b"MZ is a text", False, True),
    ("text/plain", b"<p> is how paragraphs begin", False, True),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"PK\x03\x04\0", False, True),
    ("application/octet-stream", PNG, False, True),
]


@pytest.mark.parametrize(("said", "start", "among_pictures", "among_all"), HELD)
def test_a_file_is_what_it_holds(said: str, start: bytes, among_pictures: bool, among_all: bool) -> None:
    policies = [
        (FilePolicy(LARGEST, ("image/*",), ("image/svg+xml", *PROGRAMS)), among_pictures),
        (FilePolicy(LARGEST, ("*/*",), ("text/html", "image/svg+xml", *PROGRAMS)), among_all),
    ]
    for policy, is_kept in policies:
        with nullcontext() if is_kept else pytest.raises(PermanentError, match="Files of the type"):
            policy.check_type(said, start)


BOMB = gzip.compress(bytes(50 * LARGEST))
OUTCOMES: list[tuple[str, dict[str, Any], Answer, str, str]] = [
    ("by url", {"url": "{sink}/a.png"}, plain, "stored", ""),
    ("by the platform's id", {"id": "file-7"}, plain, "stored", ""),
    ("the metadata service", {"url": "http://169.254.169.254/latest/meta-data"}, plain, "refused", "egress_denied"),
    ("a name of it", {"url": "http://metadata.example/"}, plain, "refused", "egress_denied"),
    ("a redirect to it", {"url": "{sink}/a"}, fixed(status=302, Location="http://169.254.169.254/"), "refused", "egress_denied"),
    ("a redirect to a name of it", {"url": "{sink}/a"}, fixed(status=302, Location="http://inner.example/"), "refused", "egress_denied"),
    ("another scheme", {"url": "file:///etc/passwd"}, plain, "refused", "url_invalid"),
    ("it says it is too large", {"url": "{sink}/a"}, fixed(b"x" * (LARGEST + 1)), "refused", "attachment_too_large"),
    ("it is too large", {"url": "{sink}/a"}, chunked_lie, "refused", "attachment_too_large"),
    ("the platform says so", {"url": "{sink}/a", "size": LARGEST + 1}, plain, "refused", "attachment_too_large"),
    ("a compressed bomb", {"url": "{sink}/a"}, fixed(BOMB, Content_Encoding="gzip"), "refused", "attachment_too_large"),
    ("an archive is kept packed", {"url": "{sink}/a.zip"}, fixed(BOMB), "stored", ""),
    ("a program by its type", {"url": "{sink}/a", "mimeType": "application/x-msdownload"}, plain, "refused", "attachment_type_refused"),
    ("a program that says it is a picture", {"url": "{sink}/a", "mimeType": "image/png"}, fixed(PE * 20), "refused", "attachment_type_refused"),
    ("gone", {"url": "{sink}/a"}, fixed(status=404), "failed", "attachment_not_found"),
    ("redirected for ever", {"url": "{sink}/a"}, fixed(status=302, Location="/a"), "failed", "attachment_invalid"),
    ("nowhere", {}, plain, "failed", "attachment_empty"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "answer", "state", "code"), [case[1:] for case in OUTCOMES], ids=[case[0] for case in OUTCOMES]
)
async def test_what_becomes_of_a_file(
    office: Office,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    file: dict[str, Any],
    answer: Answer,
    state: str,
    code: str,
) -> None:
    office.sink.answer = answer
    given = dict(file)
    if "url" in given:
        given["url"] = given["url"].format(sink=office.sink.url) + ("" if "?" in given["url"] else f"?token={SECRET}")
    await office.fetch()
    await office.receive(given)
    [row] = await office.ended()
    lines = await office.lines()
    assert (row.state, [line.metadata["code"] for line in lines]) == (state, [code] if code else [])
    assert office.kept() == ([row.id] if state == "stored" else [])
    if state == "stored":
        content = await office.content(row.id)
        assert content == (BOMB if "zip" in str(file) else b"hello" * 10_000)
        assert (row.size, row.reason) == (len(content), None)
        assert ("Authorization" in office.sink.requests[0].headers) == ("id" in file)
    else:
        [line] = lines
        assert line.error == row.reason
        assert (line.level, line.category, line.metadata["attachmentId"]) == ("warn", "message", row.id)
        logged = [record.getMessage() for record in caplog.records if record.name.startswith("msgcore")]
        assert SECRET not in f"{line}{logged}{capsys.readouterr()}{row.reason}"


TROUBLE: list[tuple[str, Answer | None]] = [
    ("an error of the server", fixed(status=503)),
    ("it is slow", None),
    ("it breaks off", broken_off),
]


@pytest.mark.parametrize("answer", [case[1] for case in TROUBLE], ids=[case[0] for case in TROUBLE])
async def test_what_may_pass_is_tried_again_for_a_day_and_then_given_up(office: Office, answer: Answer | None) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.01)
        return response

    office.sink.answer = answer or drip
    await office.fetch(seconds=0.3)
    await office.receive({"url": f"{office.sink.url}/a"})
    for attempt, wait in enumerate(RETRIES, 1):
        later = office.clock.now() + wait

        def is_noted(row: Any, attempt: int = attempt, later: datetime = later) -> bool:
            """Its lease, which it has until then, ends at another time than the next wait."""
            return row.attempts == attempt and timedelta(0) <= row.due_at - later < timedelta(seconds=50)

        [row] = await office.until(is_noted)
        assert (row.state, office.kept()) == ("pending", [])
        office.clock.ahead += wait
    [row] = await office.ended()
    assert (row.state, row.attempts, office.kept()) == ("failed", len(RETRIES) + 1, [])
    [line] = await office.lines()
    assert line.metadata["code"] in ("attachment_unavailable", "connection_lost")


async def test_several_fetchers_fetch_each_file_once(office: Office) -> None:
    office.sink.answer = plain
    await office.receive(*({"url": f"{office.sink.url}/{number}"} for number in range(20)))
    await office.fetch(number=3)
    rows = await office.ended()
    assert {row.state for row in rows} == {"stored"}
    assert sorted(seen.path for seen in office.sink.requests) == sorted(f"/{number}" for number in range(20))
    assert sorted(office.kept()) == sorted(row.id for row in rows)


async def test_what_a_fetcher_left_another_takes_when_the_lease_is_over(office: Office) -> None:
    office.sink.never_answers()
    await office.receive({"url": f"{office.sink.url}/a"})
    await office.fetch()
    await asyncio.wait_for(office.sink.arrived.wait(), PATIENCE)
    await office.fetchers[0].stop()
    office.sink.answer = plain
    await office.fetch()
    assert [row.state for row in await office.rows()] == ["pending"]
    office.clock.ahead += LEASE
    assert [(row.state, row.attempts) for row in await office.ended()] == [("stored", 2)]


async def test_a_message_that_goes_meanwhile_takes_its_file_along(office: Office) -> None:
    go_on = asyncio.Event()

    async def waiting(request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return await plain(request)

    office.sink.answer = waiting
    await office.receive({"url": f"{office.sink.url}/a"})
    await office.fetch()
    await asyncio.wait_for(office.sink.arrived.wait(), PATIENCE)
    async with office.inbox.database.write() as connection:
        await connection.execute(delete(received_messages))
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        while not [name for name in office.kept() if "#" not in name]:
            await asyncio.sleep(0.01)
    assert await office.sweep() == 0
    office.clock.ahead += GRACE
    assert (await office.sweep(), office.kept()) == (1, [])


async def test_what_was_stored_before_a_crash_is_swept_and_what_is_used_is_not(office: Office) -> None:
    data = {"data": "aGVsbG8=", "filename": "a.txt"}
    await office.receive(data, data)
    used = await office.ended()
    assert {row.state for row in used} == {"stored"}
    assert [await office.content(row.id) for row in used] == [b"hello"] * 2
    keeper = FileKeeper(
        database=office.inbox.database, blobs=office.inbox.blobs, policy=office.policy, clock=office.clock
    )
    await keeper.keep([ReceivedFile(File(data=b"lost"))])  # and no message that has it is ever written down
    assert len(office.kept()) == 3
    assert await office.sweep() == 0
    office.clock.ahead += GRACE
    assert await office.sweep() == 1
    assert sorted(office.kept()) == sorted(row.id for row in used)


async def test_old_files_go_and_their_messages_stay(office: Office) -> None:
    await office.receive(*({"data": "aGVsbG8="} for _ in range(3)))
    rows = await office.ended()
    old = earliest_id(office.clock.now() - timedelta(days=8))
    async with office.inbox.database.write() as connection:
        for table in (message_attachments, blobs_table):
            await connection.execute(update(table).where(table.c.id == rows[0].id).values(id=old))
    await office.inbox.blobs.put(old, b"hello")
    await office.inbox.blobs.delete([rows[0].id])
    assert await office.sweep(days=7) == 1
    assert sorted((row.state, row.id in office.kept()) for row in await office.rows()) == [
        ("expired", False),
        ("stored", True),
        ("stored", True),
    ]
    assert await office.sweep(days=7) == 0


async def test_a_message_waits_while_its_files_cannot_be_stored(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = office.inbox.blobs.put
    failed = asyncio.Event()

    async def away(name: str, content: Any) -> None:
        if content == b"hello":
            await put(name, content)
            return
        failed.set()
        raise BlobError("away")

    monkeypatch.setattr(office.inbox.blobs, "put", away)
    await office.inbox.keep(request("with files", attachments=[{"data": "aGVsbG8="}, {"data": "YQ=="}]))
    office.inbox.start()
    await asyncio.wait_for(failed.wait(), PATIENCE)
    assert await office.rows() == []
    monkeypatch.setattr(office.inbox.blobs, "put", put)
    assert await office.inbox.texts() == ["with files"]
    rows = await office.rows()
    assert [row.state for row in rows] == ["stored"] * 2
    async with office.inbox.database.read() as connection:
        noted = set((await connection.execute(select(blobs_table.c.id))).scalars())
    assert noted == set(office.kept()) == {row.id for row in rows}, "tries before leave nothing behind"

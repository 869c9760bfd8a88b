"""Files of received messages over HTTP: from a mail or an address to the bytes, for whoever may have them."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import update

from api.conftest import Running
from api.inbound import in_database
from api.test_email_inbound import SECRET as MAIL_SECRET
from api.test_email_inbound import mail, post
from api.test_receiving import newest, next_events, path_of, report
from msgcore.blobs.store import BlobStore
from msgcore.config import load_settings
from msgcore.core.clock import SystemClock
from msgcore.core.ids import new_id
from msgcore.inbound.sweeper import GRACE, Sweeper
from msgcore.security.links import REMEDY, AttachmentLinks
from msgcore.store.database import Database
from msgcore.store.tables import message_attachments
from servers.gateway import GatewayProcess
from servers.patience import PATIENCE
from servers.s3 import s3_server
from servers.webhook_sink import WebhookSink

PICTURE = bytes(range(256)) * 300
REPORT = "Größe,Preis\n1,2\n".encode()
UNSAFE = "https://x.example/a?token=planted-secret-of-a-url"


@pytest.fixture
def mailbox(running: Running) -> str:
    """An e-mail platform that receives."""
    credentials = {"smtpHost": "127.0.0.1", "smtpPort": 2525, "fromEmail": "shop@example.com"}
    made = running.key.ask(
        "POST",
        "projects/shop/platforms",
        {"platform": "email", "name": "mail", "credentials": credentials | {"inboundSecret": MAIL_SECRET}},
    )
    assert made.status == 201, made
    return str(made.body["id"])


@pytest.fixture
def box(running: Running) -> str:
    return path_of(running, running.add_sandbox())


def with_files() -> bytes:
    """A mail with a picture, whose name has letters of another alphabet, and a table in an old charset's name."""
    picture = base64.encodebytes(PICTURE).decode().replace("\n", "\r\n")
    encoded = "Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment"
    named = 'filename="=?iso-8859-1?Q?Gr=F6=DFe=22.csv?="'
    parts = (
        "Content-Type: text/plain\r\n\r\nSee below",
        f"Content-Type: image/png; name*=koi8-r''%C6%CF%D4%CF.png\r\n{encoded}\r\n\r\n{picture}",
        f"Content-Type: text/html\r\n{encoded}; {named}\r\n\r\n{base64.b64encode(REPORT).decode()}",
    )
    body = "".join(f"--b\r\n{part}\r\n" for part in parts) + "--b--\r\n"
    return mail(body, f"{uuid4()}@example.org", "Content-Type: multipart/mixed; boundary=b")


def fetch(running: Running, url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What is at an address, for whoever has nothing but that."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
    connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    body = answer.read()
    connection.close()
    return answer.status, found, body


def received(running: Running, path: str, **content: Any) -> dict[str, Any]:
    """The data of the event of a message that was posted to a sandbox."""
    after = newest(running)
    assert running.nobody.ask("POST", path, report(**content)).status == 200
    data: dict[str, Any] = next_events(running, after, 1)[0]["data"]
    return data


def changed(url: str, **parameters: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | parameters)).geturl()


def explained(running: Running, url: str) -> tuple[int, str]:
    status, _, body = fetch(running, url)
    return status, str(json.loads(body)["message"])


def settled(running: Running, data: dict[str, Any]) -> dict[str, Any]:
    """The one attachment of a message once it is no longer pending."""
    path = f"projects/shop/messages/{data['message_id']}/attachments/{data['attachments'][0]['id']}"
    deadline = time.monotonic() + PATIENCE
    while (shown := running.key.ask("GET", path)).body["state"] == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    body: dict[str, Any] = shown.body
    return body


def test_the_files_of_a_mail_are_there_when_its_event_comes(running: Running, mailbox: str) -> None:
    after = newest(running)
    with WebhookSink() as sink:
        hook = {"name": "h", "url": sink.url(), "events": ["message.received"]}
        assert running.key.ask("POST", "projects/shop/webhooks", hook).status == 201
        assert post(running, mailbox, with_files()).status == 200
        [event] = next_events(running, after, 1)
        data = event["data"]
        [posted] = sink.wait(1)
    picture, table = data["attachments"]
    assert [(file["filename"], file["size"], file["state"]) for file in (picture, table)] == [
        ("фото.png", len(PICTURE), "stored"),
        ('Größe".csv', len(REPORT), "stored"),
    ]
    detail = running.key.ask("GET", f"projects/shop/messages/{data['message_id']}").body
    [chat] = running.key.ask("GET", f"projects/shop/chats?platformId={mailbox}").body["chats"]
    [said] = running.key.ask("GET", f"projects/shop/chats/{chat['id']}/messages").body["messages"]
    for shown in (data, posted.body["data"], detail, said):
        for file, content in zip(shown["attachments"], (PICTURE, REPORT), strict=True):
            status, _, body = fetch(running, file["url"])
            assert (status, body) == (200, content)
            assert file["id"] in (picture["id"], table["id"])
    assert str(detail["rawData"]).find("iVBOR") == -1

    _, headers, _ = fetch(running, table["url"], Range="bytes=2-5")
    assert headers["content-type"] == "application/octet-stream", "browsers would run the sender's text/html"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert headers["content-disposition"] == (
        "attachment; filename=\"Gr__e_.csv\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%22.csv"
    )
    assert (headers["x-content-type-options"], headers["content-security-policy"]) == (
        "nosniff",
        "default-src 'none'; sandbox",
    )


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=100-199", 206, slice(100, 200)),
        ("bytes=76000-", 206, slice(76000, None)),
        ("bytes=-10", 206, slice(-10, None)),
        ("bytes=-999999", 206, slice(0, None)),
        ("bytes=76000-999999", 206, slice(76000, None)),
        ("bytes=76800-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-2", 200, slice(0, None)),
        ("bytes=0-1,5-6", 200, slice(0, None)),
        ("lines=1-2", 200, slice(0, None)),
    ],
)
def test_a_part_of_a_file(running: Running, box: str, wanted: str, status: int, part: slice | None) -> None:
    [file] = received(running, box, attachments=[{"data": base64.b64encode(PICTURE).decode()}])["attachments"]
    found, headers, body = fetch(running, file["url"], Range=wanted)
    assert found == status
    if part is None:
        assert headers["content-range"] == f"bytes */{len(PICTURE)}"
        return
    assert body == PICTURE[part]
    assert headers["content-length"] == str(len(body))
    if status == 206:
        start = part.indices(len(PICTURE))[0]
        assert headers["content-range"] == f"bytes {start}-{start + len(body) - 1}/{len(PICTURE)}"


def test_addresses_that_are_not_valid(running: Running, box: str) -> None:
    first, second = received(running, box, attachments=[{"data": "YQ=="}, {"data": "Yg=="}])["attachments"]
    secrets = json.loads((running.gateway.data_dir / "secrets.json").read_text())
    links = AttachmentLinks(secrets["jwtSecret"], base_url="", seconds=60, clock=SystemClock())
    query = dict(parse_qsl(urlsplit(first["url"]).query))
    forged = [
        changed(second["url"], signature=query["signature"]),
        changed(first["url"], signature=("y" if query["signature"][0] == "x" else "x") + query["signature"][1:]),
        changed(first["url"], signature="é" * 20),
        changed(first["url"], signature=""),
        changed(first["url"], expires=str(int(query["expires"]) + 1)),
        first["url"].replace(first["id"], new_id()),
        first["url"].replace(first["id"], "secrets.json"),
    ]
    for url in forged:
        assert explained(running, url) == (403, f"The address is not one that this server made: {REMEDY}")
    late = links.url_of(first["id"], datetime.now(UTC) - timedelta(seconds=1))
    status, message = explained(running, late)
    assert (status, "expired" in message, "again" in message) == (403, True, True)
    assert fetch(running, f"/api/v1/attachments/{first['id']}")[0] == 400
    assert fetch(running, first["url"])[2] == b"a"
    gone = links.url_of(new_id())
    assert explained(running, gone)[0] == 410


def test_only_those_who_may_read_messages_get_an_address(running: Running, box: str) -> None:
    data = received(running, box, attachments=[{"data": "YQ==", "filename": "a.txt", "mimeType": "text/plain"}])
    [file] = data["attachments"]
    path = f"messages/{data['message_id']}/attachments/{file['id']}"
    shown = running.key.ask("GET", f"projects/shop/{path}")
    assert (shown.status, shown.body["filename"], shown.body["mimeType"]) == (200, "a.txt", "text/plain")
    assert fetch(running, shown.body["url"])[2] == b"a"
    left = datetime.fromisoformat(shown.body["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left < timedelta(minutes=15)
    assert running.nobody.ask("GET", f"projects/shop/{path}").status == 401
    assert running.make_key("messages:write").ask("GET", f"projects/shop/{path}").status == 403
    theirs = running.make_key("messages:read", project="other")
    replies = [
        theirs.ask("GET", f"projects/other/{path}"),
        theirs.ask("GET", f"projects/shop/{path}"),
        running.key.ask("GET", f"projects/shop/messages/{data['message_id']}/attachments/{new_id()}"),
        running.key.ask("GET", f"projects/shop/messages/{new_id()}/attachments/{file['id']}"),
        running.key.ask("GET", f"projects/shop/messages/{data['message_id']}/attachments/x"),
    ]
    assert [reply.status for reply in replies] == [404] * 5


def test_a_file_that_is_refused_says_why_and_nothing_else(running: Running, box: str) -> None:
    url = "http://169.254.169.254/latest/meta-data?token=planted-secret-of-a-url"
    data = received(running, box, attachments=[{"url": url, "type": "image"}])
    assert data["attachments"][0]["state"] == "pending"
    shown = settled(running, data)
    assert (shown["state"], "169.254.169.254 is not on the public internet" in shown["reason"]) == ("refused", True)
    status, message = explained(running, shown["url"])
    assert (status, shown["reason"] in message) == (403, True)
    [line] = [
        line
        for line in running.key.ask("GET", "projects/shop/platforms/logs?category=message").body["logs"]
        if line["metadata"]["attachmentId"] == shown["id"]
    ]
    assert (line["metadata"]["code"], line["level"]) == ("egress_denied", "warn")
    assert "planted-secret" not in str(line) + running.gateway.log.read_text() + str(shown)


def test_a_file_that_is_to_come_asks_for_patience(running: Running, box: str) -> None:
    data = received(running, box, attachments=[{"url": UNSAFE}])
    status, headers, body = fetch(running, data["attachments"][0]["url"])
    assert (status, "still to be fetched" in str(body)) == (503, True)
    assert 1 <= int(headers["retry-after"]) <= 3600
    assert "planted-secret" not in str(body)


@pytest.mark.parametrize(("state", "status"), [("expired", 410), ("failed", 404), ("refused", 403)])
def test_what_is_said_of_files_that_cannot_be_had(running: Running, box: str, state: str, status: int) -> None:
    [file] = received(running, box, attachments=[{"data": "YQ=="}])["attachments"]
    change = update(message_attachments).where(message_attachments.c.id == file["id"])
    in_database(running, lambda connection: connection.execute(change.values(state=state, reason="for a reason")))
    found, message = explained(running, file["url"])
    assert (found, "for a reason" in message) == (status, True)


def test_what_is_no_base64_is_refused_at_once(running: Running, box: str) -> None:
    refused = running.nobody.ask("POST", box, report(attachments=[{"data": "not base64!"}]))
    assert (refused.status, "attachments[0].data" in str(refused.body["message"])) == (400, True)


@pytest.fixture
def no_servers_left() -> Iterator[list[GatewayProcess]]:
    started: list[GatewayProcess] = []
    yield started
    for gateway in started:
        gateway.__exit__(None, None, None)


async def test_a_process_killed_between_storing_and_writing_down_leaves_nothing(
    tmp_path: Path, no_servers_left: list[GatewayProcess]
) -> None:
    """In a bucket: the file is there, its message is not yet, and the process ends."""
    async with s3_server() as server:
        gateway = GatewayProcess(data_dir=tmp_path, **server.settings())
        no_servers_left.append(gateway)
        await asyncio.to_thread(gateway.start)
        key = await asyncio.to_thread(gateway.set_up, "shop")
        box = await asyncio.to_thread(gateway.add_platform, key, "sandbox", {}, "shop")
        found = await asyncio.to_thread(gateway.call, "GET", f"/api/v1/projects/shop/platforms/{box}", x_api_key=key)
        server.hold_after_puts = True
        body = report(attachments=[{"data": "aGVsbG8=", "filename": "a.txt"}])
        await asyncio.to_thread(gateway.call, "POST", urlsplit(found["webhookUrl"]).path, body)
        async with asyncio.timeout(PATIENCE):
            while not server.objects:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(gateway.kill)
        [orphan] = server.objects
        server.hold_after_puts = False
        await asyncio.to_thread(gateway.start)
        page = await asyncio.to_thread(
            gateway.call, "GET", "/api/v1/projects/shop/events?after=0&wait=30", x_api_key=key
        )
        [file] = page["events"][0]["data"]["attachments"]
        assert sorted(name[-36:] for name in server.objects) == sorted((orphan[-36:], file["id"]))
        database = Database.open(f"sqlite:///{tmp_path}/msgcore.db")
        sweeper = Sweeper(
            database=database,
            blobs=BlobStore.open(load_settings(server.settings())),
            clock=Later(),
            days=30,
            leads=lambda: True,
        )
        assert await sweeper.sweep() == 1
        await database.close()
        assert [(name[-36:], content) for name, content in server.objects.items()] == [(file["id"], b"hello")]
        assert not server.uploads


class Later(SystemClock):
    """When what is not used may be swept."""

    def now(self) -> datetime:
        return super().now() + GRACE

"""What platforms' webhooks refuse: with which status, what is logged of it, and that nothing of it is stored."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.conftest import Running
from api.inbound import HOOK_SECRET, newest, next_events, path_of, report, signed, stored
from msgcore.inbound.refusals import MOST_LINES
from msgcore.store.tables import inbound_requests, platform_logs, received_messages
from servers.api_client import Reply
from servers.patience import PATIENCE

MAIL_SECRET = "a secret of forty characters or so, made up"
GOOD = json.dumps(report(text="hello")).encode()
MAIL = b"From: ann@example.org\r\nMessage-ID: <m1@example.org>\r\n"
MULTIPART = MAIL + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
FORM = b'--X\r\nContent-Disposition: form-data; name="email"\r\n\r\n' + MAIL + b"\r\n\r\nHello\r\n--X--\r\n"
PLANTED = "planted-secret-value"
CREDENTIALS = {
    "sandbox": {},
    "webhook": {"url": "https://example.com/hook", "secret": HOOK_SECRET},
    "email": {
        "smtpHost": "127.0.0.1",
        "smtpPort": 2525,
        "fromEmail": "shop@example.com",
        "inboundSecret": MAIL_SECRET,
    },
}


def login(password: str) -> str:
    return "Basic " + base64.b64encode(f"mail:{password}".encode()).decode()


def raw_mail(
    password: str = MAIL_SECRET, kind: str = "message/rfc822", **more: str
) -> Callable[[bytes], dict[str, str]]:
    """The headers that a mail service posts with."""
    return lambda _: {"Content-Type": kind, "Authorization": login(password), **more}


def nested(depth: int) -> bytes:
    lines = [b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(depth)]
    return MAIL + b"Content-Type: multipart/mixed; boundary=b0\r\n\r\n" + b"".join(lines)


@dataclass(frozen=True)
class Case:
    """A request, and what becomes of it. `announced` is how long its body is said to be, where it is longer."""

    platform: str
    body: bytes
    status: int
    why: str
    headers: Callable[[bytes], dict[str, str]] = field(default=lambda _: {})
    announced: int | None = None


OLD = datetime.now(UTC) - timedelta(minutes=6)
ZEROS = gzip.compress(bytes(100 * 1024 * 1024))
CASES = {
    "no signature": Case("webhook", GOOD, 401, "Missing required headers"),
    "wrong signature": Case(
        "webhook", GOOD, 401, "No matching signature", lambda body: signed(body, secret="whsec_" + "A" * 32)
    ),
    "signature of something else": Case("webhook", GOOD, 401, "No matching signature", lambda _: signed(b"{}")),
    "replayed timestamp": Case("webhook", GOOD, 401, "too old", lambda body: signed(body, at=OLD)),
    "no password": Case("email", MAIL, 401, "neither", lambda _: {"Content-Type": "message/rfc822"}),
    "wrong password": Case("email", MAIL, 401, "is not the inboundSecret", raw_mail(PLANTED)),
    "truncated JSON, signed": Case("webhook", GOOD[:40], 400, "not JSON", signed),
    "truncated JSON": Case("sandbox", GOOD[:40], 400, "truncated"),
    "other JSON, signed": Case("webhook", b'{"something":"else"}', 400, "no report", signed),
    "endless nesting": Case("sandbox", b'{"chat":' * 100_000, 400, "no report"),
    "unknown and long": Case(
        "sandbox", json.dumps(report("x" * 5_000_000)).encode(), 400, "the body is no report: Invalid value"
    ),
    "50 MB": Case("sandbox", b"{", 413, "MSGCORE_MAX_BODY_BYTES", announced=50 * 1024 * 1024),
    "50 MB of mail": Case("email", MAIL, 413, "MSGCORE_MAX_BODY_BYTES", raw_mail(), announced=50 * 1024 * 1024),
    "zip bomb": Case("sandbox", ZEROS, 415, "must not be compressed", lambda _: {"Content-Encoding": "gzip"}),
    "zipped mail": Case("email", gzip.compress(MAIL), 415, "compressed", raw_mail(**{"Content-Encoding": "gzip"})),
    "no mail": Case("email", b"{}", 400, "message/rfc822", raw_mail(kind="application/json")),
    "no headers of a mail": Case("email", b"just some words", 400, "no e-mail", raw_mail()),
    "truncated form": Case("email", FORM[:-8], 400, "form", raw_mail(kind="multipart/form-data; boundary=X")),
    "10,000 parts": Case("email", MULTIPART + b"--x\r\n\r\nhi\r\n" * 10_000, 422, "1000 parts", raw_mail()),
    "parts in parts": Case("email", nested(100), 422, "nested more than 20", raw_mail()),
    "10,001 headers": Case("email", MAIL + b"X-A: b\r\n" * 10_000 + b"\r\nHi", 422, "10000 headers", raw_mail()),
}


def add_platform(running: Running, platform: str) -> str:
    body = {"platform": platform, "name": "p", "credentials": CREDENTIALS[platform]}
    made = running.key.ask("POST", "projects/shop/platforms", body)
    assert made.status == 201, made
    return str(made.body["id"])


def post(running: Running, path: str, case: Case) -> Reply:
    url = urlsplit(running.gateway.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
    connection.putrequest("POST", path)
    headers = {"Content-Type": "application/json", **case.headers(case.body)}
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(case.announced or len(case.body)))
    connection.endheaders()
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.send(case.body)
    answer = connection.getresponse()
    reply = Reply(
        answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())
    )
    connection.close()
    return reply


def lines_of(running: Running, platform_id: str, number: int) -> list[Any]:
    """The platform's log, once it has so many lines: they are stored after the answer."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = stored(running, platform_logs, platform_logs.c.platform_id == platform_id)
        if len(found) >= number or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


@pytest.fixture(scope="module")
def after_all(running: Running) -> Iterator[None]:
    """Nothing that was refused here was stored, and no secret was logged."""
    after = newest(running)
    yield
    for platform in CREDENTIALS:
        case = Case(platform, GOOD, 200, "", signed)
        if platform == "email":
            case = Case(platform, MAIL + b"\r\nHello", 200, "", raw_mail())
        assert post(running, path_of(running, add_platform(running, platform)), case).status == 200
    assert len(next_events(running, after, 3)) == 3, "only those that were good"
    assert stored(running, inbound_requests) == []
    assert len(stored(running, received_messages)) == 3
    logged = running.gateway.log.read_text() + str(stored(running, platform_logs))
    for secret in (HOOK_SECRET, MAIL_SECRET, PLANTED, login(PLANTED).removeprefix("Basic ")):
        assert secret not in logged


@pytest.mark.usefixtures("after_all")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_input(running: Running, case: Case) -> None:
    platform_id = add_platform(running, case.platform)
    path = path_of(running, platform_id)
    reply = post(running, path, case)
    assert reply.status == reply.body["statusCode"] == case.status, reply
    assert reply.body["message"]
    assert len(json.dumps(reply.body)) < 2000
    assert reply.headers.get("accept-encoding") == ("identity" if case.status == 415 else None)
    [line] = lines_of(running, platform_id, 1)
    assert (line.level, line.category, line.metadata) == ("warn", "webhook", {"status": case.status})
    assert case.why in line.error
    assert len(line.error) <= 300
    [logged] = [each for each in running.gateway.log.read_text().splitlines() if platform_id in each]
    assert "inbound_refused" in logged
    assert case.why.replace("'", "") in logged.replace("'", "")
    wrong = post(running, path[:-1] + "x", case)
    assert wrong.status == 404, "whatever is sent to an address that is none"


def test_a_body_that_is_cut_off_is_nobodys_error(running: Running) -> None:
    path = path_of(running, add_platform(running, "sandbox"))
    url = urlsplit(running.gateway.url)
    for place in (path, "/api/v1/auth/login"):
        with socket.create_connection((url.hostname, url.port), timeout=PATIENCE) as connection:
            head = f"POST {place} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
            connection.sendall(head.encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                continue
    assert "request_failed" not in running.gateway.log.read_text()


def test_nobody_fills_the_log(running: Running) -> None:
    platform_id = add_platform(running, "webhook")
    path = path_of(running, platform_id)
    for _ in range(5 * MOST_LINES):
        assert running.nobody.ask("POST", path, GOOD).status == 401
    lines = lines_of(running, platform_id, MOST_LINES)
    assert MOST_LINES <= len(lines) <= 2 * MOST_LINES, "twice as many where a minute ended meanwhile"
    assert running.gateway.log.read_text().count(platform_id) <= 2 * MOST_LINES


def test_bodies_of_the_api_are_not_unpacked_either(running: Running) -> None:
    for path in ("projects/shop/messages/send", "projects/shop/messages/batch"):
        reply = running.key.ask("POST", path, ZEROS, Content_Encoding="gzip")
        assert (reply.status, reply.headers.get("accept-encoding")) == (415, "identity"), path

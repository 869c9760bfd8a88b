"""A mail comes into a mailbox of a real IMAP server, becomes an event that is posted, and is answered in its thread."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiosmtpd.controller import Controller

from e2e.test_first_message import Postbox
from servers.dovecot import PASSWORD, DovecotServer
from servers.gateway import PASSWORD as OWN_PASSWORD
from servers.gateway import GatewayProcess
from servers.patience import PATIENCE
from servers.webhook_sink import WebhookSink

USER = "shop"
WRONG = "not-the-password"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
def dovecot() -> Iterator[DovecotServer]:
    with DovecotServer() as server:
        yield server


@pytest.fixture(scope="module")
def postbox() -> Iterator[Postbox]:
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
def gateway(tmp_path: Path, dovecot: DovecotServer) -> Iterator[GatewayProcess]:
    with GatewayProcess(data_dir=tmp_path, SSL_CERT_FILE=str(dovecot.authority.file)) as running:
        yield running


def encoded(text: str, charset: str) -> str:
    """A header as mail programs of that charset write it, over as many words as it takes."""
    return Header(text, charset, maxlinelen=60).encode()


def question(subject: str, charset: str, text: str, name: str, message_id: str) -> bytes:
    """A mail with a file, whose text and headers are in a charset of long ago."""
    mail = EmailMessage(policy=SMTP)
    mail["To"] = "shop@example.com"
    mail["Date"] = localtime()
    mail["Message-ID"] = f"<{message_id}>"
    mail.set_content(text, charset=charset)
    mail.add_attachment(PDF, maintype="application", subtype="pdf", filename="Angebot \u00fc.pdf")
    head = f"From: {encoded(name, charset)} <Ann@Example.org>\r\nSubject: {encoded(subject, charset)}\r\n"
    return head.encode() + mail.as_bytes()


MAILS = [
    ("\u898b\u7a4d\u66f8\u306e\u4ef6", "iso-2022-jp", "\u9752\u3044\u306e\u306f\u3042\u308a\u307e\u3059\u304b\u3002", "\u5c71\u7530 \u592a\u90ce"),
    ("\u0412\u043e\u043f\u0440\u043e\u0441", "koi8-r", "\u041e\u043d\u043e \u0441\u0438\u043d\u0435\u0435?", "\u0410\u043d\u043d\u0430"),
    ("Une question \u2013 \u00e0 20 \u20ac", "windows-1252", "Est-ce \u201cbleu\u201d\u2026 \u0153uf ?", "Ir\u00e8ne \u0152"),
]  # fmt: skip


def test_mails_in_charsets_of_long_ago_come_in_and_are_answered_in_their_threads(
    gateway: GatewayProcess, dovecot: DovecotServer, postbox: Postbox
) -> None:
    key = gateway.set_up()
    credentials = {"smtpHost": "127.0.0.1", "smtpPort": postbox.port, "fromEmail": "shop@example.com"}
    credentials |= {"imapHost": "127.0.0.1", "imapPort": dovecot.tls_port, "imapUser": USER, "imapPassword": PASSWORD}
    dovecot.deliver(USER, question("Old", "utf-8", "From before", "Old", "old@example.org"))
    platform_id = gateway.add_platform(key, "email", credentials | {"imapTls": "tls"})
    wait_until_connected(gateway)
    with WebhookSink() as sink:
        hook = subscribe(gateway, sink)
        for number, (subject, charset, text, name) in enumerate(MAILS):
            asked = f"{charset}@example.org"
            mail = question(subject, charset, text, name, asked)
            dovecot.deliver(USER, mail)
            posted = sink.wait(number + 1)[-1]
            data = posted.verify(hook["secret"])["data"]
            assert (data["platform_id"], data["provider_message_id"]) == (platform_id, asked)
            assert (data["chat_id"], data["user_display"], data["text"].strip()) == ("ann@example.org", name, text)
            [file] = data["attachments"]
            assert (file["filename"], file["mime_type"], file["size"]) == (
                "Angebot \u00fc.pdf",
                "application/pdf",
                len(PDF),
            )
            answer = reply(gateway, key, platform_id, data, postbox)
            assert (answer["In-Reply-To"], answer["References"]) == (f"<{asked}>", f"<{asked}>")
            dovecot.deliver("ann", mail, answer.as_bytes(policy=SMTP))
    # As the asker's mail reader sees it: each question with its answer.
    assert threads_of(dovecot, "ann") == [["1", "2"], ["3", "4"], ["5", "6"]]
    assert is_untouched(dovecot, len(MAILS) + 1)


def test_a_wrong_password_is_told_once_and_a_right_one_is_used_at_once(
    gateway: GatewayProcess, dovecot: DovecotServer
) -> None:
    key = gateway.set_up()
    credentials = {"smtpHost": "127.0.0.1", "smtpPort": 25, "fromEmail": "shop@example.com", "imapHost": "127.0.0.1"}
    credentials |= {"imapPort": dovecot.port, "imapTls": "starttls", "imapUser": "late", "imapPassword": WRONG}
    platform_id = gateway.add_platform(key, "email", credentials)
    [line] = wait_for_lines(gateway, "The connection failed")
    assert (line["level"], line["metadata"]["code"]) == ("error", "imap_login_refused")
    assert line["metadata"]["retryInSeconds"] >= 90
    with WebhookSink() as sink:
        subscribe(gateway, sink)
        body = {"credentials": credentials | {"imapPassword": PASSWORD}}
        as_admin(gateway, "PATCH", f"/platforms/{platform_id}", body)
        wait_until_connected(gateway)
        dovecot.deliver("late", question("At last", "utf-8", "Hello", "Ann", "late@example.org"))
        [posted] = sink.wait(1)
        assert posted.body["data"]["provider_message_id"] == "late@example.org"
        as_admin(gateway, "PATCH", f"/platforms/{platform_id}", {"isActive": False})
        wait_until_hung_up(gateway, dovecot)
    logs = as_admin(gateway, "GET", "/platforms/logs")["logs"]
    assert [each["message"] for each in logs] == ["Connected", "The connection failed"]
    assert not {WRONG, PASSWORD} & set(re.findall(r"[^\s\"']+", str(logs) + gateway.log.read_text()))


def wait_until_connected(gateway: GatewayProcess) -> None:
    wait_for_lines(gateway, "Connected")


def wait_for_lines(gateway: GatewayProcess, message: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE
    while True:
        logs = as_admin(gateway, "GET", "/platforms/logs?category=connection")["logs"]
        found = [line for line in logs if line["message"] == message]
        if found:
            return found
        assert time.monotonic() < deadline, logs or gateway.tail()
        time.sleep(0.05)


def wait_until_hung_up(gateway: GatewayProcess, dovecot: DovecotServer) -> None:
    assert gateway.process is not None
    server = psutil.Process(gateway.process.pid)
    deadline = time.monotonic() + PATIENCE
    while any(each.raddr and each.raddr.port == dovecot.port for each in server.net_connections("tcp")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def as_admin(gateway: GatewayProcess, method: str, path: str, body: Any = None) -> Any:
    return gateway.call(method, f"/api/v1/projects/bench{path}", body, authorization=f"Bearer {signed_in(gateway)}")


@cache
def signed_in(gateway: GatewayProcess) -> str:
    login = {"email": "bench@example.com", "password": OWN_PASSWORD}
    return str(gateway.call("POST", "/api/v1/auth/login", login)["accessToken"])


def subscribe(gateway: GatewayProcess, sink: WebhookSink) -> dict[str, Any]:
    body = {"name": "hook", "url": sink.url(), "events": ["message.received"]}
    made: dict[str, Any] = as_admin(gateway, "POST", "/webhooks", body)
    return made


def reply(gateway: GatewayProcess, key: str, platform_id: str, data: dict[str, Any], postbox: Postbox) -> EmailMessage:
    before = len(postbox.messages)
    body = {
        "targets": [{"platformId": platform_id, "type": "user", "id": data["chat_id"]}],
        "content": {"subject": "Re: your question", "text": "Yes."},
        "options": {"replyTo": data["provider_message_id"]},
    }
    gateway.call("POST", "/api/v1/projects/bench/messages/send", body, x_api_key=key)
    deadline = time.monotonic() + PATIENCE
    while len(postbox.messages) == before:
        assert time.monotonic() < deadline, gateway.tail()
        time.sleep(0.02)
    return postbox.messages[-1]


def threads_of(dovecot: DovecotServer, user: str) -> list[list[str]]:
    client = dovecot.login(user)
    client.select("INBOX", readonly=True)
    _, [answer] = client.thread("REFERENCES", "UTF-8", "ALL")
    client.logout()
    return [found.split() for found in re.findall(r"\(([\d ]+)\)", answer.decode())]


def is_untouched(dovecot: DovecotServer, mails: int) -> bool:
    client = dovecot.login(USER)
    client.select("INBOX", readonly=True)
    found = [client.search(None, word)[1][0] for word in ("SEEN", "DELETED", "ALL")]
    client.logout()
    return found[:2] == [b"", b""] and len(found[2].split()) == mails

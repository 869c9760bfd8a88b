"""E-mail against a real SMTP server: what is sent, what the server answers, what that means."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

import pytest

from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    TemporaryError,
)
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import SentReceipt
from msgcore.platforms.email import EmailAdapter
from msgcore.platforms.email.client import is_loopback
from msgcore.platforms.email.pool import CONNECTIONS, Pools
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.egress import EgressGuard
from servers.adapters import LARGEST_ATTACHMENT
from servers.deliveries import PLATFORM_ID, make_account, make_content, make_delivery
from servers.http_sink import HttpSink
from servers.patience import PATIENCE
from servers.smtp import PASSWORD, USER, Certificate, SmtpServer, smtp_server

PDF = b"%PDF-1.7 tiny"


@pytest.fixture
async def adapter(services: AdapterServices) -> AsyncIterator[EmailAdapter]:
    made = EmailAdapter(services)
    yield made
    await made.close()


def credentials(server: SmtpServer, **more: Any) -> dict[str, Any]:
    return {"smtpHost": "127.0.0.1", "smtpPort": server.port, "fromEmail": "shop@example.com"} | more


async def send(
    adapter: EmailAdapter,
    server: SmtpServer,
    to: str = "bob@example.com",
    *,
    given: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **content: Any,
) -> SentReceipt:
    account = make_account("email", credentials(server, **(given or {})))
    delivery = make_delivery(to, make_content(**({"subject": "Hi", "text": "Hello"} | content)), options=options)
    return await adapter.send(account, delivery)


def lines(part: EmailMessage) -> str:
    """The text of a part with line ends as Python has them."""
    return str(part.get_content()).replace("\r\n", "\n")


# --- what is sent


@dataclass
class Sends:
    label: str
    content: dict[str, Any]
    to: str = "bob@example.com"
    headers: dict[str, str | None] = field(default_factory=dict)
    plain: str | None = None
    html: str | None = None
    recipients: list[str] | None = None
    given: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


UNSUBSCRIBE = "https://x.example/unsubscribe?list=weekly&who={recipient}&seal=" + "s" * 100 + ", mailto:off@x.example"
ONE_CLICK: dict[str, str | None] = {
    "List-Unsubscribe": f"<https://x.example/unsubscribe?list=weekly&who=o%27neil%2Btag%40example.com&seal={'s' * 100}>, <mailto:off@x.example>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
}
SENDS = [
    Sends("text alone", {"text": "Hello\n"}, plain="Hello\n", headers={"To": "bob@example.com", "From": "shop@example.com"}),
    Sends("subject alone", {"text": None}, plain="\n", headers={"Subject": "Hi"}),
    Sends("sender's name", {}, given={"fromName": 'Ünal "Shop", Ltd.'}, headers={"From": '"Ünal \\"Shop\\", Ltd." <shop@example.com>'}),
    Sends("non-ASCII subject", {"subject": "Grüße 🎉" + " lang" * 40}, headers={"Subject": "Grüße 🎉" + " lang" * 40}),
    Sends("non-ASCII text", {"text": "Zażółć gęślą jaźń 🎉\n"}, plain="Zażółć gęślą jaźń 🎉\n"),
    Sends("lines with dots", {"text": ".\n..\n.quit\n"}, plain=".\n..\n.quit\n"),
    Sends("a line of 5000 characters", {"text": "x" * 5000 + "\n"}, plain="x" * 5000 + "\n"),
    Sends("html brings its text", {"text": None, "html": "<h1>Hi</h1><p>a<br>b</p>"}, plain="Hi\n\na\nb\n", html="<h1>Hi</h1><p>a<br>b</p>\n"),
    Sends("text beside html", {"text": "plain\n", "html": "<b>rich</b>"}, plain="plain\n", html="<b>rich</b>\n"),
    Sends("markdown", {"text": None, "markdown": "**bold** [link](https://example.com)"}, plain="bold link (https://example.com)\n", html='<p><strong>bold</strong> <a href="https://example.com">link</a></p>\n'),
    Sends("raw HTML in markdown is text", {"text": None, "markdown": "<script>x</script>"}, plain="<script>x</script>\n", html="<p>&lt;script&gt;x&lt;/script&gt;</p>\n"),
    Sends("buttons become links", {"buttons": [{"text": "Open [it]", "url": "https://example.com/(a)"}, {"text": "Yes", "value": "y"}]},
          plain="Hello\n\nOpen [it] (https://example.com/%28a%29)\n\n1. Yes\n",
          html='<p>Hello</p>\n<p><a href="https://example.com/%28a%29">Open [it]</a></p>\n<ol>\n<li>Yes</li>\n</ol>\n'),
    Sends("embeds are written out", {"embeds": [{"title": "Order", "url": "https://example.com/1", "description": "*new*", "fields": [{"name": "Sum", "value": "5 <EUR>"}], "footer": {"text": "bye"}}]},
          plain="Hello\n\nOrder (https://example.com/1)\n\nnew\n\nSum: 5 <EUR>\n\nbye\n"),
    Sends("cc, bcc and reply-to", {"platformOptions": {"email": {"cc": ["c@example.com"], "bcc": ["d@example.com", "bob@example.com"], "replyTo": "desk@example.com"}}},
          headers={"Cc": "c@example.com", "Bcc": None, "Reply-To": "desk@example.com"}, recipients=["bob@example.com", "c@example.com", "d@example.com"]),
    Sends("own headers", {"platformOptions": {"email": {"headers": {"X-Order": "17 ü", "List-Unsubscribe": "<https://example.com/u>"}}}},
          headers={"X-Order": "17 ü", "List-Unsubscribe": "<https://example.com/u>"}),
    Sends("off the list: the account's way", {}, given={"listUnsubscribe": UNSUBSCRIBE}, to="o'neil+tag@example.com", headers=ONE_CLICK),
    Sends("off the list: an address that tells nobody", {}, given={"listUnsubscribe": "https://x.example/u"}, headers={"List-Unsubscribe": "<https://x.example/u>", "List-Unsubscribe-Post": None}),
    Sends("off the list: by mail alone", {}, given={"listUnsubscribe": "mailto:off@x.example?subject={recipient}"}, headers={"List-Unsubscribe": "<mailto:off@x.example?subject=bob%40example.com>", "List-Unsubscribe-Post": None}),
    Sends("off the list: the message's own way", {"platformOptions": {"email": {"listUnsubscribe": "https://x.example/u/17"}}}, given={"listUnsubscribe": UNSUBSCRIBE},
          headers={"List-Unsubscribe": "<https://x.example/u/17>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}),
    Sends("off the list: a message that has none", {"platformOptions": {"email": {"listUnsubscribe": ""}}}, given={"listUnsubscribe": UNSUBSCRIBE}, headers={"List-Unsubscribe": None}),
    Sends("off the list: a header of one's own", {"platformOptions": {"email": {"headers": {"list-unsubscribe": "<https://x.example/u>"}}}}, given={"listUnsubscribe": UNSUBSCRIBE},
          headers={"List-Unsubscribe": "<https://x.example/u>", "List-Unsubscribe-Post": None}),
    Sends("a reply", {}, options={"replyTo": "first@example.com"}, headers={"In-Reply-To": "<first@example.com>", "References": "<first@example.com>"}),
    Sends("non-ASCII domain", {}, to="bob@bücher.example", headers={"To": "bob@xn--bcher-kva.example"}, recipients=["bob@xn--bcher-kva.example"]),
    Sends("plus and quotes in an address", {}, to="o'neil+tag@example.com", headers={"To": "o'neil+tag@example.com"}),
]  # fmt: skip


@pytest.mark.parametrize("case", SENDS, ids=lambda case: case.label)
async def test_what_is_sent(case: Sends, adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        receipt = await send(adapter, server, case.to, given=case.given, options=case.options, **case.content)
        [mail] = server.mails
    message = mail.message
    assert message["Message-ID"] == receipt.provider_message_id
    assert mail.sender == "shop@example.com"
    assert mail.recipients == (case.recipients or [case.to])
    for name, value in case.headers.items():
        assert message[name] == value, name
    assert mail.data.isascii()
    assert max(map(len, mail.data.split(b"\r\n"))) <= 998
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    if case.plain is not None:
        assert lines(plain) == case.plain
    if case.html is not None:
        assert html is not None
        assert lines(html) == case.html


@pytest.mark.parametrize("to", ["bob@example.com", "bücher@example.com"])
async def test_long_words_of_headers_are_written_as_they_are(adapter: EmailAdapter, to: str) -> None:
    """Nobody looks for addresses and ids in encoded words."""
    parent = f"first@{'a' * 60}.example.com"
    async with smtp_server() as server:
        await send(
            adapter, server, to, given={"listUnsubscribe": UNSUBSCRIBE}, options={"replyTo": parent}, text="Hello"
        )
        [mail] = server.mails
    assert b"List-Unsubscribe: <https://x.example/unsubscribe?list=weekly&who=b" in mail.data
    assert b">,\r\n <mailto:off@x.example>\r\n" in mail.data
    assert f"In-Reply-To: <{parent}>\r\n".encode() in mail.data


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "http://x.example/",
        "mailto:x",
        "https://x.example/ y",
        "<https://x.example>",
        "https:///x",
        "https://x.example/,",
        "https://x.example/\u00fc",
    ],
)
def test_ways_off_the_list_that_are_none(value: str) -> None:
    credentials = {"smtpHost": "x", "smtpPort": 25, "fromEmail": "shop@example.com", "listUnsubscribe": value}
    [error] = PlatformRegistry().check_credentials("email", credentials)
    assert error.pointer == "/credentials/listUnsubscribe"
    content = make_content(subject="Hi", text="x", platformOptions={"email": {"listUnsubscribe": value}})
    [error] = PlatformRegistry().check_content("email", content)
    assert error.pointer == "/content/platformOptions/email/listUnsubscribe"


async def test_a_non_ascii_mailbox_uses_smtputf8(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        await send(adapter, server, "bücher@example.com", subject="Grüße")
        [mail] = server.mails
    assert "SMTPUTF8" in mail.options
    assert mail.recipients == ["bücher@example.com"]
    assert mail.message["To"] == "bücher@example.com"
    assert mail.message["Subject"] == "Grüße"


async def test_a_server_without_smtputf8_refuses_a_non_ascii_mailbox_for_good(adapter: EmailAdapter) -> None:
    async with smtp_server(smtputf8=False) as server:
        with pytest.raises(PermanentError) as raised:
            await send(adapter, server, "bücher@example.com")
        assert raised.value.code == "smtputf8_unsupported"
        await send(adapter, server)
        assert len(server.mails) == 1


async def test_the_message_id_stays_the_same_over_attempts(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        account = make_account("email", credentials(server))
        delivery = make_delivery("bob@example.com", make_content(subject="Hi"))
        receipts = [await adapter.send(account, delivery) for _ in range(2)]
    assert {receipt.provider_message_id for receipt in receipts} == {f"<{delivery.id}@example.com>"}


# --- attachments


async def test_attachments_arrive_intact(adapter: EmailAdapter, sink: HttpSink) -> None:
    large = os.urandom(5 * 1024 * 1024)
    sink.answers(200, body=PDF, headers={"Content-Type": "application/pdf"})
    files = [
        {"data": base64.b64encode(large).decode(), "filename": "größe.bin"},
        {"url": f"{sink.url}/a/offer%201.pdf?x=1", "caption": "The offer"},
        {
            "data": "data:text/plain;charset=utf-8;base64," + base64.b64encode("é".encode()).decode(),
            "filename": "a.txt",
        },
        {"data": base64.b64encode(b"From: x\r\n\r\n").decode(), "mimeType": "message/rfc822", "filename": "old.eml"},
    ]
    async with smtp_server() as server:
        await send(adapter, server, attachments=files)
        [mail] = server.mails
    parts = list(mail.message.iter_attachments())
    assert [(part.get_filename(), part.get_content_type()) for part in parts] == [
        ("größe.bin", "application/octet-stream"),
        ("offer 1.pdf", "application/pdf"),
        ("a.txt", "text/plain"),
        ("old.eml", "application/octet-stream"),
    ]
    assert [part.get_payload(decode=True) for part in parts] == [large, PDF, "é".encode(), b"From: x\r\n\r\n"]
    body = mail.message.get_body(("plain",))
    assert body is not None
    assert lines(body) == "Hello\n\nThe offer\n"


async def test_an_attachment_that_is_gone_stops_the_mail(adapter: EmailAdapter, sink: HttpSink) -> None:
    sink.answers(404)
    async with smtp_server() as server:
        with pytest.raises(PermanentError) as raised:
            await send(adapter, server, attachments=[{"url": f"{sink.url}/gone"}])
        assert not server.mails
    assert raised.value.code == "attachment_not_found"


async def test_the_files_of_a_mail_share_one_limit(adapter: EmailAdapter, sink: HttpSink) -> None:
    part = b"x" * (LARGEST_ATTACHMENT // 2)
    sink.answers(200, body=part)
    files = [{"data": base64.b64encode(part).decode()}, {"url": sink.url}]
    async with smtp_server() as server:
        await send(adapter, server, attachments=files)
        with pytest.raises(PermanentError) as raised:
            await send(adapter, server, attachments=[*files, {"data": "QUJD"}])
        assert len(server.mails) == 1
    assert raised.value.code == "attachments_too_large"


async def test_attachments_that_take_too_long_sent_nothing(
    adapter: EmailAdapter, sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msgcore.platforms.email.ATTACHMENT_SECONDS", 0.05)
    sink.never_answers()
    async with smtp_server() as server, asyncio.timeout(PATIENCE):
        with pytest.raises(TemporaryError) as raised:
            await send(adapter, server, attachments=[{"url": sink.url}])
        assert not server.sessions
    assert (raised.value.code, raised.value.reached) == ("attachment_timeout", "no")


# --- what the server answers


@dataclass
class Refuses:
    label: str
    answers: dict[str, str]
    error: type[DeliveryError] | None
    code: str = ""
    says: str = ""


REFUSES = [
    Refuses("unknown recipient", {"RCPT": "550 5.1.1 No such user"}, PermanentError, "recipient_refused", "550 5.1.1 No such user"),
    Refuses("greylisting", {"RCPT": "451 4.7.1 Try later"}, TemporaryError, "recipient_refused", "451"),
    Refuses("full mailbox, for now", {"RCPT": "452 4.2.2 Full"}, TemporaryError, "recipient_refused"),
    Refuses("sender refused", {"MAIL": "550 5.7.1 Not you"}, PermanentError, "sender_refused"),
    Refuses("sender refused for now", {"MAIL": "421 4.3.2 Closing"}, TemporaryError, "sender_refused"),
    Refuses("login wanted", {"MAIL": "530 5.7.0 Authentication required"}, AuthenticationError, "smtp_login_required"),
    Refuses("spam", {"answer": "554 5.7.1 Spam"}, PermanentError, "message_refused", "554 5.7.1 Spam"),
    Refuses("queue full", {"answer": "452 4.3.1 Later"}, TemporaryError, "message_refused"),
    Refuses("a server of before 1995: no EHLO, but HELO", {"EHLO": "502 What?"}, None),
    Refuses("a copy refused", {"RCPT c@example.com": "550 No"}, None),
    Refuses("only the main recipient refused", {"RCPT bob@example.com": "550 No"}, PermanentError, "recipient_refused"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSES, ids=lambda case: case.label)
async def test_what_an_answer_means(case: Refuses, adapter: EmailAdapter) -> None:
    options = {"email": {"cc": ["c@example.com"]}}
    async with smtp_server() as server:
        server.answers = case.answers
        if case.error is None:
            await send(adapter, server, platformOptions=options)
            assert len(server.mails) == 1
            return
        with pytest.raises(DeliveryError) as raised:
            await send(adapter, server, platformOptions=options)
        assert type(raised.value) is case.error
        assert raised.value.code == case.code
        assert raised.value.reached == "no"
        assert case.says in raised.value.message
        assert not server.mails
        server.answers = {}
        await send(adapter, server)
        assert len(server.mails) == 1, "what was refused must not spoil the next mail"


@pytest.mark.parametrize(
    ("hangs_up_on", "reached"),
    [("MAIL", "no"), ("RCPT", "no"), ("answer", "maybe")],
    ids=["MAIL", "RCPT", "after the text"],
)
async def test_a_dropped_connection(hangs_up_on: str, reached: str, adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        server.hangs_up_on = hangs_up_on
        with pytest.raises(TemporaryError) as raised:
            await send(adapter, server)
        assert raised.value.reached == reached
        server.hangs_up_on = None
        await send(adapter, server)


async def test_a_mail_above_the_servers_limit_is_not_sent(adapter: EmailAdapter) -> None:
    async with smtp_server(largest=1000) as server:
        with pytest.raises(PermanentError) as raised:
            await send(adapter, server, text="x" * 2000)
        assert "MAIL" not in server.commands
    assert raised.value.code == "message_too_large"
    assert "1000" in raised.value.message


async def test_no_server_is_temporary(adapter: EmailAdapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TemporaryError) as raised:
        await send(adapter, SmtpServer(port=port))
    assert (raised.value.code, raised.value.reached) == ("smtp_connection", "no")


async def test_a_server_that_never_greets_is_temporary(adapter: EmailAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msgcore.platforms.email.client.COMMAND_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TemporaryError) as raised:
        await send(adapter, SmtpServer(port=silent.getsockname()[1]))
    assert (raised.value.code, raised.value.reached) == ("smtp_timeout", "no")


async def test_private_servers_are_refused_unless_allowed(services: AdapterServices) -> None:
    pools = Pools(EgressGuard())
    async with smtp_server() as server:
        for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"):
            account = make_account("email", credentials(server, smtpHost=host), version=host)
            with pytest.raises(PermanentError) as raised:
                await pools.of(account)._connector.connect(account.credentials)
            assert raised.value.code == "egress_denied"
            assert host in raised.value.message
        assert not server.sessions
    await pools.close()


# --- TLS and login


async def test_starttls_is_used_where_it_is_offered(adapter: EmailAdapter, certificate: Certificate) -> None:
    async with smtp_server(starttls=certificate.context) as server:
        await send(adapter, server)
        assert server.mails[0].over_tls


async def test_tls_from_the_first_byte(adapter: EmailAdapter, certificate: Certificate) -> None:
    async with smtp_server(implicit_tls=certificate.context) as server:
        await send(adapter, server, given={"smtpSecure": True, "smtpTlsVerify": False})
        assert server.mails[0].over_tls


@pytest.mark.parametrize(
    "given", [{"smtpSecure": True}, {"smtpUser": USER, "smtpPassword": PASSWORD}], ids=["secure", "login"]
)
async def test_a_certificate_nobody_vouches_for_gets_no_mail(
    given: dict[str, Any], adapter: EmailAdapter, certificate: Certificate
) -> None:
    tls = {"implicit_tls" if "smtpSecure" in given else "starttls": certificate.context}
    async with smtp_server(login=True, **tls) as server:
        with pytest.raises(TemporaryError) as raised:
            await send(adapter, server, given=given)
        assert not server.mails
    assert raised.value.code == "smtp_certificate"
    assert "smtpTlsVerify" in raised.value.message


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_the_certificate_is_checked_against_the_host(
    host: str, services: AdapterServices, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    adapter = EmailAdapter(services)
    async with smtp_server(starttls=certificate.context, login=True) as server:
        await send(adapter, server, given={"smtpHost": host, "smtpUser": USER, "smtpPassword": PASSWORD})
        await adapter.close()
    assert (server.mails[0].over_tls, server.mails[0].login) == (True, USER)


async def test_tls_spoken_to_a_plain_port_says_so(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        with pytest.raises(TemporaryError) as raised:
            await send(adapter, server, given={"smtpSecure": True})
    assert raised.value.code == "smtp_tls"
    assert "smtpSecure" in raised.value.message


LOGIN = {"smtpUser": USER, "smtpPassword": PASSWORD}


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of the tests count as those of another machine."""
    monkeypatch.setattr("msgcore.platforms.email.client.is_loopback", lambda _peer: False)


@pytest.mark.usefixtures("far_away")
async def test_a_password_is_not_sent_in_the_clear(adapter: EmailAdapter) -> None:
    async with smtp_server(login=True) as server:
        with pytest.raises(TemporaryError) as raised:
            await send(adapter, server, given=LOGIN)
        assert (raised.value.code, raised.value.reached) == ("smtp_tls_required", "no")
        assert "STARTTLS" in raised.value.message
        assert PASSWORD not in raised.value.message
        [session] = server.sessions
        assert session.session is not None
        assert not session.session.authenticated
        assert not server.mails
        await adapter.forget(PLATFORM_ID)
        await send(adapter, server)
        assert len(server.mails) == 1, "without a login there is nothing to lose"


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize("kind", ["starttls", "implicit_tls"])
async def test_a_password_is_sent_over_tls(kind: str, adapter: EmailAdapter, certificate: Certificate) -> None:
    given = LOGIN | {"smtpSecure": kind == "implicit_tls", "smtpTlsVerify": False}
    tls: dict[str, Any] = {kind: certificate.context}
    async with smtp_server(login=True, **tls) as server:
        await send(adapter, server, given=given)
        assert (server.mails[0].over_tls, server.mails[0].login) == (True, USER)


PEERS = [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::1%lo", True),
         ("10.0.0.1", False), ("192.0.2.1", False), ("0.0.0.0", False), ("2001:db8::1", False), ("fe80::1%eth0", False),
         ("::ffff:10.0.0.1", False), ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False), ("localhost", False), ("", False)]  # fmt: skip


@pytest.mark.parametrize(("peer", "expected"), PEERS)
def test_which_peers_are_this_machine(peer: str, expected: bool) -> None:
    assert is_loopback(peer) is expected


async def test_a_login_over_a_plain_connection(adapter: EmailAdapter) -> None:
    async with smtp_server(login=True, login_required=True) as server:
        await send(adapter, server, given={"smtpUser": USER, "smtpPassword": PASSWORD})
        assert server.mails[0].login == USER


@pytest.mark.parametrize(
    ("login", "code"),
    [(True, "smtp_login_refused"), (False, "smtp_login_unsupported")],
    ids=["wrong password", "no login offered"],
)
async def test_a_login_that_fails_pauses_the_account(login: bool, code: str, adapter: EmailAdapter) -> None:
    async with smtp_server(login=login) as server:
        with pytest.raises(AuthenticationError) as raised:
            await send(adapter, server, given={"smtpUser": USER, "smtpPassword": "hunter2-secret"})
    assert raised.value.code == code
    assert "smtpUser" in raised.value.message
    assert "hunter2" not in raised.value.message


async def test_a_login_that_is_missing_pauses_the_account(adapter: EmailAdapter) -> None:
    async with smtp_server(login=True, login_required=True) as server:
        with pytest.raises(AuthenticationError):
            await send(adapter, server)


# --- the pool


def test_no_more_mails_are_under_way_than_there_are_connections() -> None:
    assert EmailAdapter.declaration.limits.in_flight == CONNECTIONS


async def test_connections_are_used_again(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        for _ in range(3):
            await send(adapter, server)
        assert (len(server.mails), len(server.sessions)) == (3, 1)


async def test_many_mails_at_once_share_five_connections(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        await asyncio.gather(*(send(adapter, server) for _ in range(50)))
        assert len(server.mails) == 50
        assert len(server.sessions) <= CONNECTIONS


async def test_a_connection_serves_a_hundred_mails(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        for _ in range(101):
            await send(adapter, server)
        assert (len(server.mails), len(server.sessions)) == (101, 2)


async def test_a_connection_that_the_server_closed_is_replaced(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        await send(adapter, server)
        server.hang_up_all()
        await send(adapter, server)
        assert (len(server.mails), len(server.sessions)) == (2, 2)


async def test_a_server_that_says_421_to_an_old_connection_gets_a_new_one(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        await send(adapter, server)
        server.once["MAIL"] = "421 4.4.2 Idle too long"
        await send(adapter, server)
        assert (len(server.mails), len(server.sessions)) == (2, 2)


async def test_new_credentials_get_new_connections(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        for version in ("1", "1", "2"):
            account = make_account("email", credentials(server), version=version)
            await adapter.send(account, make_delivery("bob@example.com", make_content(subject="Hi")))
        assert len(server.sessions) == 2
        await adapter.close()
        assert server.commands.count("QUIT") == 2


async def test_an_idle_connection_says_goodbye(services: AdapterServices) -> None:
    adapter = EmailAdapter(services)
    adapter._pools = Pools(services.egress, idle_seconds=0.01)
    async with smtp_server() as server:
        await send(adapter, server)
        await asyncio.wait_for(server.left.wait(), 5)
        assert "QUIT" in server.commands
        await adapter.close()


async def test_an_interrupted_mail_does_not_leave_its_connection_behind(adapter: EmailAdapter) -> None:
    async with smtp_server() as server:
        await send(adapter, server)
        server.holds_on = "RCPT"
        sending = asyncio.create_task(send(adapter, server))
        await asyncio.wait_for(server.held.wait(), 5)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        server.holds_on = None
        await send(adapter, server)
        assert (len(server.mails), len(server.sessions)) == (2, 2)


# --- what is refused before it is accepted


@dataclass
class Checks:
    label: str
    pointer: str | None
    content: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def email_options(**options: Any) -> dict[str, Any]:
    return {"platformOptions": {"email": options}}


CHECKS = [
    Checks("a good one", None),
    Checks("everything good", None, email_options(cc=["a@example.com"], bcc=["b@bücher.example"], replyTo="c@example.com", headers={"X-A": "b"}), {"replyTo": "<a@b>"}),
    Checks("no subject", "/content/subject", {"subject": None}),
    Checks("blank subject", "/content/subject", {"subject": " "}),
    Checks("CRLF in the subject", "/content/subject", {"subject": "a\r\nBcc: x@example.com"}),
    Checks("line separator in the subject", "/content/subject", {"subject": "a\u2028b"}),
    Checks("vertical tab in the subject", "/content/subject", {"subject": "a\x0bb"}),
    Checks("cc no address", "/content/platformOptions/email/cc/1", email_options(cc=["a@example.com", "nobody"])),
    Checks("bcc with CRLF", "/content/platformOptions/email/bcc/0", email_options(bcc=["a@example.com\r\nX: y"])),
    Checks("replyTo two addresses", "/content/platformOptions/email/replyTo", email_options(replyTo="a@example.com,b@example.com")),
    Checks("too many copies", "/content/platformOptions/email/cc", email_options(cc=["a@example.com"] * 60, bcc=["b@example.com"] * 40)),
    Checks("cc not a list", "/content/platformOptions/email/cc", email_options(cc="a@example.com")),
    Checks("unknown option", "/content/platformOptions/email/importance", email_options(importance="high")),
    Checks("header not text", "/content/platformOptions/email/headers", email_options(headers={"X-A": 1})),
    Checks("header with CRLF", "/content/platformOptions/email/headers/X-A", email_options(headers={"X-A": "b\r\nBcc: c@example.com"})),
    Checks("header name with CRLF", "/content/platformOptions/email/headers", email_options(headers={"X-A\r\nBcc": "c@example.com"})),
    Checks("header name with a colon", "/content/platformOptions/email/headers", email_options(headers={"X:A": "b"})),
    Checks("a header that is ours", "/content/platformOptions/email/headers/BCC", email_options(headers={"BCC": "c@example.com"})),
    Checks("a MIME header", "/content/platformOptions/email/headers/Content-Type", email_options(headers={"Content-Type": "text/html"})),
    Checks("bad attachment", "/content/attachments/0/data", {"attachments": [{"data": "%%%"}]}),
    Checks("file name with CRLF", "/content/attachments/0/filename", {"attachments": [{"data": "QUJD", "filename": "a\r\nb"}]}),
    Checks("huge markdown", "/content/markdown", {"markdown": "x" * 100_001}),
    Checks("replyTo no Message-ID", "/options/replyTo", {}, {"replyTo": "a b"}),
    Checks("replyTo with CRLF", "/options/replyTo", {}, {"replyTo": "<a@b>\r\nBcc: c@example.com"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CHECKS, ids=lambda case: case.label)
def test_what_is_refused_at_once(case: Checks) -> None:
    content = make_content(**({"subject": "Hi", "text": "Hello"} | case.content))
    delivery = make_delivery("bob@example.com", content, options=case.options)
    errors = PlatformRegistry().check_content("email", content, delivery.options)
    assert [error.pointer for error in errors] == ([] if case.pointer is None else [case.pointer])
    for error in errors:
        assert "\r" not in error.message


GOOD_ADDRESSES = ["a@b.co", "first.last+tag@sub.example.com", "o'x@example.com", "bücher@example.com", "a@bücher.example",
                  "x@localhost", "x@[192.0.2.1]", "x@[IPv6:2001:db8::1]", "a" * 64 + "@example.com"]  # fmt: skip
BAD_ADDRESSES = ["", "a", "@example.com", "a@", "a@b", "a b@example.com", "a@exa mple.com", "a@@example.com", ".a@example.com",
                 "a.@example.com", "a..b@example.com", "a@example..com", "a@-example.com", "a@example.com-", "a@example.123",
                 "a@example.com.", "Bob <a@example.com>", "<a@example.com>", "a@example.com,b@example.com", "a@example.com\r\nBcc: x",
                 "a\x00@example.com", '"a b"@example.com', "a;b@example.com", "a" * 65 + "@example.com", "a@" + "b." * 130 + "com",
                 "a@\u2028example.com", "a@ex\u200dample.com", "a\u2028@example.com"]  # fmt: skip


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_good_recipients(address: str) -> None:
    delivery = make_delivery(address, make_content(subject="Hi"))
    assert PlatformRegistry().check_target("email", delivery.target) == []


@pytest.mark.parametrize("address", BAD_ADDRESSES[1:])
def test_bad_recipients(address: str) -> None:
    delivery = make_delivery(address, make_content(subject="Hi"))
    [error] = PlatformRegistry().check_target("email", delivery.target)
    assert error.pointer == "/target/id"
    assert "name@example.com" in error.message


@pytest.mark.parametrize("kind", ["channel", "group", "chat"])
def test_mails_go_to_users_only(kind: str) -> None:
    delivery = make_delivery("bob@example.com", make_content(subject="Hi"), target_type=kind)
    [error] = PlatformRegistry().check_target("email", delivery.target)
    assert error.pointer == "/target/type"
    assert "user" in error.message


GOOD = {"smtpHost": "smtp.example.com", "smtpPort": 587, "fromEmail": "a@example.com"}

CREDENTIALS = [
    ("least", GOOD, []),
    ("all", GOOD | {"smtpSecure": False, "smtpTlsVerify": True, "smtpUser": "u", "smtpPassword": "p", "fromName": "A"}, []),
    ("null for unset", GOOD | {"smtpUser": None, "smtpPassword": None}, []),
    ("empty for unset", GOOD | {"smtpUser": "", "smtpPassword": "", "fromName": ""}, []),
    ("nothing", {}, ["/credentials/smtpHost", "/credentials/smtpPort", "/credentials/fromEmail"]),
    ("port as text", GOOD | {"smtpPort": "587"}, ["/credentials/smtpPort"]),
    ("port as boolean", GOOD | {"smtpPort": True}, ["/credentials/smtpPort"]),
    ("port too high", GOOD | {"smtpPort": 65536}, ["/credentials/smtpPort"]),
    ("secure as text", GOOD | {"smtpSecure": "yes"}, ["/credentials/smtpSecure"]),
    ("host with a path", GOOD | {"smtpHost": "smtp.example.com/x"}, ["/credentials/smtpHost"]),
    ("host with CRLF", GOOD | {"smtpHost": "a\r\nb"}, ["/credentials/smtpHost"]),
    ("empty host", GOOD | {"smtpHost": ""}, ["/credentials/smtpHost"]),
    ("no address", GOOD | {"fromEmail": "me"}, ["/credentials/fromEmail"]),
    ("user without password", GOOD | {"smtpUser": "u"}, ["/credentials/smtpPassword"]),
    ("password without user", GOOD | {"smtpPassword": "p"}, ["/credentials/smtpUser"]),
    ("name with CRLF", GOOD | {"fromName": "A\r\nBcc: x@example.com"}, ["/credentials/fromName"]),
    ("long name", GOOD | {"fromName": "x" * 256}, ["/credentials/fromName"]),
    ("unknown field", GOOD | {"smtp/pass": "p"}, ["/credentials/smtp~1pass"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "pointers"), [case[1:] for case in CREDENTIALS], ids=[case[0] for case in CREDENTIALS]
)
def test_credentials(given: dict[str, Any], pointers: list[str]) -> None:
    assert [error.pointer for error in PlatformRegistry().check_credentials("email", given)] == pointers

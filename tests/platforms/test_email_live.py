"""Mailboxes read by IMAP: a real Dovecot, and servers that do what none should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.email import EmailAdapter, imap, live, mailbox
from msgcore.platforms.email.imap_words import quoted, uid_set, wire_folder
from msgcore.platforms.email.live import EmailLive
from msgcore.platforms.live import Payload, State
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.egress import EgressGuard, PortDeniedError
from servers.deliveries import make_account
from servers.dovecot import PASSWORD, DovecotServer
from servers.live_sink import MemorySink, connected
from servers.patience import PATIENCE

SMTP = {"smtpHost": "127.0.0.1", "smtpPort": 25, "fromEmail": "shop@example.com"}
FOLDER = "Entw\u00fcrfe & \u65e5\u672c"


@pytest.fixture(scope="module")
def dovecot() -> Iterator[DovecotServer]:
    with DovecotServer() as server:
        yield server


@pytest.fixture
async def adapter(services: AdapterServices) -> AsyncIterator[EmailLive]:
    made = EmailLive(services)
    yield made
    await made.close()


class Kept(MemorySink):
    """Of mails."""

    async def store(self, payloads: Sequence[Payload], state: State, notes: Sequence[str] = ()) -> None:
        assert all(payload.headers == {"content-type": "message/rfc822"} for payload in payloads)
        await super().store(payloads, state, notes)

    @property
    def texts(self) -> list[str]:
        return [mail.rpartition(b"\r\n\r\n")[2].decode().strip() for mail in self.bodies]

    async def wait_for(self, *texts: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.texts != list(texts):
                assert len(self.texts) <= len(texts), self.texts
                await asyncio.sleep(0.01)


def mail(text: str, size: int = 0) -> bytes:
    return f"From: ann@example.org\r\nMessage-ID: <{text}@x>\r\nX: {'x' * size}\r\n\r\n{text}\r\n".encode()


def credentials(server: DovecotServer, user: str, **more: Any) -> dict[str, Any]:
    own = {"imapHost": "127.0.0.1", "imapPort": server.port, "imapTls": "none", "imapUser": user}
    return SMTP | own | {"imapPassword": PASSWORD} | more


def reading(
    adapter: EmailLive, given: Mapping[str, Any], sink: Kept, state: State | None = None
) -> AbstractAsyncContextManager[asyncio.Task[None]]:
    """A connection that is up, and hung up in the end."""
    return connected(adapter, make_account("email", dict(given)), sink, state)


async def failure(adapter: EmailLive, given: Mapping[str, Any]) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        async with asyncio.timeout(PATIENCE):
            await adapter.run(make_account("email", dict(given)), Kept(), None)
    assert PASSWORD not in str(caught.value)
    return caught.value


# --- what is read


async def test_new_mails_come_at_once_and_after_a_break_from_where_it_was(
    adapter: EmailLive, dovecot: DovecotServer
) -> None:
    given = credentials(dovecot, "ann")
    await asyncio.to_thread(dovecot.deliver, "ann", mail("before"))
    sink = Kept()
    async with reading(adapter, given, sink):
        await asyncio.to_thread(dovecot.deliver, "ann", mail("one"))
        await sink.wait_for("one")
        await asyncio.to_thread(dovecot.deliver, "ann", mail("two"), mail("three"))
        await sink.wait_for("one", "two", "three")
    await asyncio.to_thread(dovecot.deliver, "ann", mail("meanwhile"))
    again = Kept()
    async with reading(adapter, given, again, sink.states[-1]):
        await again.wait_for("meanwhile")
    # Another mailbox begins anew, whatever its UIDs.
    other = Kept()
    async with reading(adapter, credentials(dovecot, "ann", imapHost="localhost"), other, sink.states[-1]):
        assert other.texts == []
    client = dovecot.login("ann")
    client.select("INBOX", readonly=True)
    assert client.search(None, "SEEN") == ("OK", [b""])
    client.logout()


async def test_a_crash_within_a_backlog_skips_nothing(
    adapter: EmailLive, dovecot: DovecotServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WINDOW", 3), ("PAGE", 2), ("BATCH", 400)):
        monkeypatch.setattr(mailbox, name, value)
    given = credentials(dovecot, "bob")
    first = Kept()
    async with reading(adapter, given, first):
        pass
    texts = [f"m{number}" for number in range(9)]
    await asyncio.to_thread(dovecot.deliver, "bob", *(mail(text, 250) for text in texts))
    state, got = first.states[-1], []
    for allowed in (4, 0, 10):
        sink = Kept(fails_after=allowed)
        try:
            async with reading(adapter, given, sink, state):
                pass
        except ConnectionError:
            assert allowed < 10
        got += sink.texts
        state = (sink.states or [state])[-1]
    assert got == texts


async def test_mails_that_are_numbered_anew_are_looked_into_again(adapter: EmailLive, dovecot: DovecotServer) -> None:
    given = credentials(dovecot, "cem")
    sink = Kept()
    async with reading(adapter, given, sink):
        await asyncio.to_thread(dovecot.deliver, "cem", mail("one"))
        await sink.wait_for("one")
    await asyncio.to_thread(dovecot.deliver, "cem", mail("meanwhile"))
    await asyncio.to_thread(dovecot.renumber, "cem")
    state = sink.states[-1] | {"uidValidity": sink.states[-1]["uidValidity"] - 1}
    again = Kept()
    async with reading(adapter, given, again, state):
        # What is known is dropped by its Message-ID when it is read.
        await again.wait_for("one", "meanwhile")
        await asyncio.to_thread(dovecot.deliver, "cem", mail("after"))
        await again.wait_for("one", "meanwhile", "after")
    assert [note.partition(":")[0] for note in again.notes] == ["The server numbers the mails of INBOX anew"]
    assert again.states[-1]["since"] is None
    late = state | {"lookedAt": "2031-01-01T00:00:00Z"}
    nothing = Kept()
    async with reading(adapter, given, nothing, late):
        assert nothing.texts == []


async def test_what_is_too_large_is_left_out_with_a_note(adapter: EmailLive, dovecot: DovecotServer) -> None:
    sink = Kept(largest=20_000)
    async with reading(adapter, credentials(dovecot, "dan"), sink):
        await asyncio.to_thread(dovecot.deliver, "dan", mail("a"), mail("large", 900) * 30, mail("b"))
        await sink.wait_for("a", "b")
    assert len(sink.notes) == 1
    assert "was left out (UID 2): at most 20000 are taken" in sink.notes[0]


async def test_a_folder_of_any_name(adapter: EmailLive, dovecot: DovecotServer) -> None:
    client = dovecot.login("eve")
    client.create(quoted(wire_folder(FOLDER)).decode())
    sink = Kept()
    async with reading(adapter, credentials(dovecot, "eve", imapFolder=FOLDER), sink):
        client.append(quoted(wire_folder(FOLDER)).decode(), "", "", mail("there"))
        await sink.wait_for("there")
    client.logout()


async def test_a_server_that_does_not_tell_is_asked(adapter: EmailLive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_SECONDS", 0.05)
    sink = Kept()
    with DovecotServer(idle=False) as server:
        async with reading(adapter, credentials(server, "ann"), sink):
            await asyncio.to_thread(server.deliver, "ann", mail("asked for"))
            await sink.wait_for("asked for")


async def test_idle_is_renewed(adapter: EmailLive, dovecot: DovecotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "IDLE_SECONDS", 0.05)
    sink = Kept()
    async with reading(adapter, credentials(dovecot, "fay"), sink):
        await asyncio.sleep(0.8)  # several rounds
        await asyncio.to_thread(dovecot.deliver, "fay", mail("still there"))
        await sink.wait_for("still there")


@pytest.mark.parametrize("given", [{"imapTls": "tls"}, {"imapTls": "starttls"}, {"imapTls": None}])
async def test_tls(
    services: AdapterServices, dovecot: DovecotServer, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = dovecot.port if given["imapTls"] == "starttls" else dovecot.tls_port
    where = credentials(dovecot, "gus", imapPort=port, **given)
    adapter = EmailLive(services)
    assert (await failure(adapter, where)).code == "imap_certificate"
    async with reading(adapter, where | {"imapTlsVerify": False}, Kept()):
        pass
    await adapter.close()
    monkeypatch.setenv("SSL_CERT_FILE", str(dovecot.authority.file))
    adapter = EmailLive(services)
    sink = Kept()
    async with reading(adapter, where, sink):
        await asyncio.to_thread(dovecot.deliver, "gus", mail(f"over {given}"))
        await sink.wait_for(f"over {given}")
    await adapter.close()


# --- what goes wrong


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        ({"imapPassword": "wrong"}, AuthenticationError, "imap_login_refused"),
        ({"imapFolder": "Nowhere"}, PermanentError, "imap_folder"),
        ({"imapPort": 47}, TemporaryError, "imap_connection"),
        ({"imapPort": 6379}, PortDeniedError, "egress_denied"),
        ({"imapHost": "no-such-host.invalid"}, TemporaryError, "imap_connection"),
        ({"imapTls": "tls", "imapTlsVerify": False}, TemporaryError, "imap_tls"),
    ],
    ids=lambda given: str(given) if isinstance(given, dict) else "",
)
async def test_what_a_server_refuses(
    adapter: EmailLive, dovecot: DovecotServer, given: dict[str, Any], kind: type[DeliveryError], code: str
) -> None:
    error = await failure(adapter, credentials(dovecot, "hal", **given))
    assert (type(error), error.code) == (kind, code)


async def test_a_password_is_not_sent_in_the_clear(
    adapter: EmailLive, dovecot: DovecotServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap, "is_loopback", lambda _: False)
    assert (await failure(adapter, credentials(dovecot, "ida"))).code == "imap_tls_required"


async def test_a_host_of_the_operators_network_is_denied(services: AdapterServices, dovecot: DovecotServer) -> None:
    adapter = EmailLive(replace(services, egress=EgressGuard()))
    assert (await failure(adapter, credentials(dovecot, "jan"))).code == "egress_denied"
    await adapter.close()


async def test_a_server_that_ends(services: AdapterServices) -> None:
    adapter = EmailLive(services)
    sink = Kept()
    with DovecotServer() as server:
        given = credentials(server, "ann")
        async with reading(adapter, given, sink) as running:
            await asyncio.sleep(0.5)  # it waits for mail
            server.stop()
            with pytest.raises(TemporaryError):
                await running
    await adapter.close()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[dict[str, Any]]:
    """A server that does what it is told to; the credentials for it."""
    server = await asyncio.start_server(script, "127.0.0.1", 0, limit=2**20)
    port = server.sockets[0].getsockname()[1]
    try:
        own = {"imapHost": "127.0.0.1", "imapPort": port, "imapTls": "none", "imapUser": "ann"}
        yield SMTP | own | {"imapPassword": PASSWORD}
    finally:
        server.close()


def answering(**answers: str) -> Script:
    """Sends for each command what is given for it, before its OK; `{tag}` where it is to say that itself."""
    usual = {
        "CAPABILITY": "* CAPABILITY IMAP4rev1 IDLE\r\n",
        "EXAMINE": "* 1 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 2] x\r\n",
        "greeting": "* OK hello\r\n",
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await answer(reader, writer)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies = usual | answers
        for _ in range(100 if "~" in replies["greeting"] else 1):
            writer.write(replies["greeting"].replace("~", "x" * 100_000).encode())
        while line := (await reader.readline()).decode().split():
            tag, name = line[0], line[-1] if line[0] == "DONE" else line[1]
            reply = replies.get(" ".join(line[1:3]) if name == "UID" else name, "")
            said = reply.format(tag=tag) if "{tag}" in reply else f"{reply}{tag} OK done\r\n"
            for _ in range(400 if "~" in said else 1):
                writer.write(said.replace("~", "x" * 100_000).encode())
                await writer.drain()

    return serve


HUGE = "* 1 FETCH (UID 1 BODY[] {{4000000000}}\r\n~{tag}"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"greeting": "* BYE busy\r\n"}, "imap_answer"),
        ({"greeting": "220 smtp.example.com ESMTP\r\n"}, "imap_connection"),
        ({"greeting": "~"}, "imap_connection"),
        ({"LOGIN": "{tag} NO [UNAVAILABLE] later\r\n"}, "imap_login_unavailable"),
        ({"LOGIN": "{tag} NO no\r\n"}, "imap_login_refused"),
        ({"LOGIN": "* BYE too many\r\n{tag} NO no\r\n"}, "imap_connection"),
        ({"EXAMINE": "* 1 EXISTS\r\n"}, "imap_unsupported"),
        ({"EXAMINE": "* OK [UIDVALIDITY x] x\r\n* OK [UIDNEXT 2] x\r\n"}, "imap_answer"),
        ({"EXAMINE": "* 1 EXISTS\r\n~{tag}"}, "imap_connection"),
        ({"UID SEARCH": "{tag} BAD what\r\n"}, "imap_answer"),
        ({"UID FETCH": HUGE}, "imap_connection"),
        ({"IDLE": "* BYE tired\r\n"}, "imap_connection"),
        ({"IDLE": "{tag} NO not now\r\n"}, "imap_answer"),
    ],
    ids=str,
)
async def test_servers_that_do_what_none_should(adapter: EmailLive, answers: dict[str, str], code: str) -> None:
    usual = {"UID SEARCH": "* SEARCH 1\r\n", "UID FETCH": "* 1 FETCH (UID 1 RFC822.SIZE 10)\r\n"}
    state = {"mailbox": "ann 127.0.0.1 INBOX", "uidValidity": 7, "lastUid": 0, "lookedAt": "2031-01-01T00:00:00Z"}
    async with scripted(answering(**usual | answers)) as given:
        with pytest.raises(DeliveryError) as caught:
            async with asyncio.timeout(PATIENCE):
                await adapter.run(make_account("email", given), Kept(), state)
    assert caught.value.code == code


async def test_a_server_that_says_nothing_is_given_up(adapter: EmailLive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "COMMAND_SECONDS", 0.2)

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(silent) as given:
        assert (await failure(adapter, given)).code == "imap_timeout"
        assert (await failure(adapter, given | {"imapTls": "tls"})).code == "imap_timeout"


async def test_news_before_the_server_waits_are_not_missed(adapter: EmailLive) -> None:
    """RFC 3501 allows a server to tell at any time, so before its consent to IDLE, or in one packet with it."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        writer.write(b"* OK hello\r\n")
        while line := (await reader.readline()).decode().split():
            tag, name = line[0], line[-1]
            if name == "IDLE":
                asked += 1
                writer.write(b"* 2 EXISTS\r\n+ ok\r\n" if asked == 1 else b"+ ok\r\n* 2 EXISTS\r\n")
            elif name == "DONE":
                writer.write(b"IDLE1 OK\r\n")
            elif line[1] == "EXAMINE":
                writer.write(f"* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 2] x\r\n{tag} OK x\r\n".encode())
            else:
                writer.write(f"* CAPABILITY IMAP4rev1 IDLE\r\n{tag} OK x\r\n".encode())

    sink = Kept()
    async with scripted(serve) as given, reading(adapter, given, sink), asyncio.timeout(PATIENCE):
        while asked < 3:
            await asyncio.sleep(0.01)


# --- what is written, and what may be configured


def test_how_values_are_written() -> None:
    assert quoted('a"b\\c') == b'"a\\"b\\\\c"'
    assert wire_folder("Entw\u00fcrfe & Co/\u65e5\u672c\u8a9e") == "Entw&APw-rfe &- Co/&ZeVnLIqe-"
    assert [uid_set(uids) for uids in ([4], [4, 5], [1, 2, 3, 7, 9, 10])] == ["4", "4:5", "1:3,7,9:10"]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, []),
        ({"imapHost": "x", "imapUser": "a", "imapPassword": "b"}, []),
        ({"imapHost": "x", "smtpUser": "a", "smtpPassword": "b"}, []),
        ({"imapHost": "x", "smtpUser": "a", "smtpPassword": "b", "imapUser": "a"}, []),
        ({"imapHost": "x", "smtpUser": "a", "smtpPassword": "b", "imapUser": "other"}, ["imapPassword"]),
        ({"imapHost": "x"}, ["imapUser", "imapPassword"]),
        ({"imapHost": "x", "imapPassword": "b"}, ["imapUser"]),
        ({"imapFolder": "x"}, ["imapHost"]),
        ({"imapHost": "x", "imapTls": "ssl", "imapUser": "a", "imapPassword": "b"}, ["imapTls"]),
        ({"imapHost": "x y", "imapUser": "a\r\nb", "imapPassword": "b"}, ["imapHost", "imapUser"]),
    ],
    ids=str,
)
def test_which_credentials_are_taken(given: dict[str, Any], wrong: list[str]) -> None:
    errors = PlatformRegistry().check_credentials("email", SMTP | given)
    assert [error.pointer for error in errors] == [f"/credentials/{name}" for name in wrong]


def test_a_mailbox_is_read_where_a_server_is_named() -> None:
    assert EmailAdapter.live is EmailLive
    assert EmailLive.wanted(make_account("email", SMTP | {"imapHost": "x"}))
    assert not EmailLive.wanted(make_account("email", SMTP))

"""Mails made to break their reader, the forms that they come in, and what an IMAP server may answer, for the fuzz runs."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from fuzz.mutation import ODD_BYTES, ODD_TEXTS, damaged, lines, spliced
from fuzz.stored import check_all, check_text
from fuzz.target import Target
from msgcore.core.errors import DeliveryError
from msgcore.core.ids import new_id
from msgcore.inbound.recording import read
from msgcore.platforms.email import EmailAdapter
from msgcore.platforms.email.imap import ImapSession, Login
from msgcore.platforms.email.inbound import EmailInbound
from msgcore.platforms.receiving import InboundRequest, UnreadableError
from msgcore.store.inbound import RawRequest
from servers.deliveries import make_account
from servers.facts import samples_of

NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
SERVER = "mx.example.com"
ACCOUNT = make_account(
    "email", {"smtpHost": "x", "fromEmail": "me@example.com", "inboundSecret": "s" * 24, "authenticationServer": SERVER}
)
INBOUND = EmailInbound()

# --- mails

ODD_LINES = (
    *ODD_BYTES,
    *(b"Content-Type: multipart/mixed; boundary=", b'Content-Type: multipart/mixed; boundary=""', b"Content-Type: multipart/alternative; boundary=r"),
    *(b"Content-Type: text/plain; charset=" + each for each in (b"", b"x-unknown", b"utf-7", b"utf-16", b"zlib", b"unicode_escape", b"\xff", b"iso-2022-jp", b'"a" b')),
    *(b"Content-Type: text/html", b"Content-Type: message/rfc822", b"Content-Type: message/delivery-status", b"Content-Type: message/partial; id=1", b"Content-Type: ;;;=", b"Content-Type: text/plain; charset*0*=us'en'utf; charset*1=-8; charset*999999999999=x"),
    *(b"Content-Transfer-Encoding: " + each for each in (b"base64", b"BASE64 ", b"quoted-printable", b"x-uuencode", b"8bit, base64", b"\xff")),
    *(b"Content-Disposition: attachment; filename=" + each for each in (b"", b'"../../etc/passwd"', b'"a\\"b\r\n c"', b"\xff.exe", b'"=?utf-8?b?=?="', b"*=utf-8''%ff%00")),
    *(b"From: " + each for each in (b"", b"a@b, c@d", b'"a, b" <x@y>', b"<<<<>>>>", b"=?utf-8?q?=40?=@x", b"a" * 3000 + b"@x", b"(" * 2000, b"x\0@y", b"\xe4@\xff", b"group: a@b, c@d;")),
    *(b"Date: " + each for each in (b"", b"Wed, 06 May 99999999999 12:00:00 +0000", b"Wed, 06 May 2026 12:00:00 +99999999", b"0", b"\xff")),
    *(b"Message-ID: " + each for each in (b"", b"<>", b"<" + b"x" * 3000 + b">", b"<a\0b@c>", b"no brackets", b"<a>\r\n <b>")),
    *(b"References: " + b"<a@b> " * 3000, b"In-Reply-To: <", b"Subject: =?utf-8?b?" + b"A" * 999 + b"?=", b"Subject: " + b"=?x?q?=e4?= " * 300, b"Subject:\r\n\t\r\n\t"),
    *(b"--r", b"--r--", b"--", b"--r\r\n\r\n--r", b"begin 644 x", b"MIME-Version: 1.0", b": no name", b" folded", b"From x@y Wed May  6 12:00:00 2026", b"X-H: " + b"h" * 5000),
    *(b"Authentication-Results: " + SERVER.encode() + each for each in (b"; dmarc=pass header.from=example.org", b'; "', b"; (((", b'; \\"\\"\\"', b" 1;;;;")),
    *(b"Auto-Submitted: auto-replied", b"Final-Recipient: rfc822; x@y", b"Action: failed", b"Action: delivered", b"Diagnostic-Code: smtp; 550 \0", b"Original-Recipient: ;"),
)  # fmt: skip
SAMPLES = [sample.content for sample in samples_of("email")]


@st.composite
def mails(draw: Any) -> bytes:
    """A mail with odd lines; sometimes within others, very deep, or with very many parts or headers."""
    mail = draw(lines(SAMPLES, ODD_LINES))
    times = draw(st.sampled_from((0, 0, 0, 0, 1, 5, 30, 100)))
    kind = draw(st.sampled_from((b"multipart/mixed", b"multipart/report", b"multipart/alternative", b"message/rfc822")))
    for number in range(times):
        mark = b"d%d" % number
        if kind == b"message/rfc822":
            mail = b"From: x@y\r\nContent-Type: message/rfc822\r\n\r\n" + mail
        else:
            mail = b"From: x@y\r\nContent-Type: %s; boundary=%s\r\n\r\n--%s\r\n%s\r\n--%s--" % (
                kind,
                mark,
                mark,
                mail,
                mark,
            )
    return mail


def look_at_mail(mail: bytes) -> None:
    """A mail that was posted: refused at once, or read into what can be stored."""
    request = InboundRequest("POST", {"content-type": "message/rfc822"}, "", mail, NOW)
    try:
        INBOUND.check(ACCOUNT, request)
    except UnreadableError as error:
        check_text(str(error), 1000)
    _look_at(request)


def _look_at(request: InboundRequest) -> None:
    raw = RawRequest(new_id(), "demo", ACCOUNT.id, "email", request.headers, request.query, request.body, NOW)
    [reading] = read(EmailAdapter, INBOUND, ACCOUNT, [(1, raw)])
    assert not (reading.error or "").startswith("the reader failed"), reading.error
    check_all(reading.occurrences)


@st.composite
def posted(draw: Any) -> InboundRequest:
    """A mail in a form, as mail services post it."""
    mark = draw(st.sampled_from((b"b", b"", b"=b=", b"b" * 80, b"\xff", b" b")))
    name = draw(st.sampled_from((b"email", b"body-mime", b"", b'em"ail', b"text")))
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (mark, name, draw(st.sampled_from(SAMPLES)))
        for _ in range(draw(st.sampled_from((0, 1, 1, 2, 1100))))
    ]
    body = spliced(draw, damaged(draw, b"".join(parts) + b"--" + mark + b"--\r\n"), ODD_LINES)
    kinds = (
        "multipart/form-data; boundary=",
        "Multipart/Form-Data;boundary=",
        "application/x-www-form-urlencoded;",
        "text/plain; x=",
        "",
    )
    kind = draw(st.sampled_from(kinds)) + draw(st.sampled_from((mark.decode("latin-1"), '"', "\xff", "b; boundary=c")))
    odd = st.sampled_from([text for text in ODD_TEXTS if text.isascii() and len(text) < 3000])
    return InboundRequest("POST", {"content-type": draw(st.just(kind) | odd)}, "", body, NOW)


def look_at_form(request: InboundRequest) -> None:
    """Refused at once, or read."""
    with suppress(UnreadableError):
        INBOUND.check(ACCOUNT, request)
    _look_at(request)
    with suppress(UnreadableError):
        INBOUND.check(ACCOUNT, replace(request, headers={}))


def read_mail(text: str) -> None:
    """A mail with a text in each place where its length may matter."""
    piece = text.encode("latin-1", "replace")
    head = b"From: a@b.example\r\nTo: %s\r\nSubject: %s\r\nReferences: %s\r\nDate: %s\r\n" % ((piece,) * 4)
    said = b"Authentication-Results: %s; %s\r\n" % (SERVER.encode(), piece)
    for kind in (b"text/plain", b"text/html", b"multipart/mixed; boundary=r", b"text/plain; " + piece):
        mail = b"%s%sContent-Type: %s\r\n\r\n%s" % (head, said, kind, piece)
        with suppress(UnreadableError):
            INBOUND.read(ACCOUNT, InboundRequest("POST", {}, "", mail, NOW))


# --- IMAP

ANSWERS: dict[str, bytes] = {
    "CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE\r\nTAG OK done\r\n",
    "LOGIN": b"TAG OK [CAPABILITY IMAP4rev1 IDLE] in\r\n",
    "EXAMINE": b"* 3 EXISTS\r\n* FLAGS (\\Seen)\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 12] x\r\nTAG OK [READ-ONLY] done\r\n",
    "UID SEARCH": b"* SEARCH 9 10 11\r\nTAG OK done\r\n",
    "UID FETCH SIZE": b"* 1 FETCH (UID 9 RFC822.SIZE 20)\r\n* 2 FETCH (RFC822.SIZE 30 UID 10)\r\nTAG OK done\r\n",
    "UID FETCH BODY": b"* 1 FETCH (UID 9 BODY[] {10}\r\nSubject: x)\r\n* 2 FETCH (BODY[] {3}\r\nabc UID 10)\r\nTAG OK done\r\n",
    "IDLE1": b"+ idling\r\n* 4 EXISTS\r\n",
    "DONE": b"IDLE1 OK done\r\n",
}
ODD_ANSWERS = (
    *ODD_BYTES,
    *(b"* ", b"+ ", b"TAG ", b"TAG NO [AUTHENTICATIONFAILED] no\r\n", b"TAG BAD what\r\n", b"* BYE gone\r\n", b"IDLE1 BAD\r\n", b"\r\n"),
    *(b"{9999999999}\r\n", b"{-1}\r\n", b"{3}\r\n", b"UIDVALIDITY", b"UIDNEXT x]", b"UID 99999999999999999999999 ", b"UID 9 " * 50, b"RFC822.SIZE " + b"9" * 5000),
    *(b"* 1 FETCH ()\r\n", b"* SEARCH" + b" 1" * 5000 + b"\r\n", b"* 1 FETCH (BODY[] {5}\r\nabcde)\r\n", b"* OK [UIDNEXT " + b"9" * 5000 + b"]\r\n"),
)  # fmt: skip
_COMMAND = re.compile(rb"(\S+) ((?:UID )?\w+)(?: \S+ \((\w+))?")


@st.composite
def conversations(draw: Any) -> dict[str, bytes]:
    """What a server answers to each command, with one or two of them odd. `` is its greeting."""
    said = {"": b"* OK ready\r\n", **ANSWERS}
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(said)))
        said[name] = draw(lines([said[name]], ODD_ANSWERS))
    return said


@contextmanager
def imap_server(said: dict[str, bytes]) -> Iterator[socket.socket]:
    """The client's end of a connection to a server that answers so; it hangs up after an odd answer."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        usual = {"": b"* OK ready\r\n", **ANSWERS}
        with suppress(OSError), theirs, theirs.makefile("rwb") as stream:
            name, tag = "", b"TAG"
            while True:
                stream.write(said[name].replace(b"TAG", tag))
                stream.flush()
                if said[name] != usual[name]:
                    return
                found = _COMMAND.match(stream.readline()) or _COMMAND.match(b"x DONE")
                assert found is not None
                tag, name = found[1], _named(found)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join()


def _named(found: re.Match[bytes]) -> str:
    word = found[2].decode().upper()
    if word == "UID FETCH":
        word += " SIZE" if b"RFC822" in (found[3] or b"") else " BODY"
    if found[1] == b"IDLE1":
        return "IDLE1"
    return word if word in ANSWERS else "DONE"


def look_at_conversation(said: dict[str, bytes]) -> None:
    """Each command gives what it should, or a DeliveryError."""

    async def run(session: ImapSession) -> None:
        login = Login("imap.example.com", 143, "none", "me", "secret", "INBOX")
        await session.begin(login, _CONTEXT, may_be_plain=True)
        folder = await session.examine("INBOX")
        assert isinstance(folder.next_uid, int)
        uids = await session.search(9, 11, None)
        assert all(9 <= uid <= 11 for uid in uids)
        assert all(isinstance(size, int) for size in (await session.sizes([9, 10])).values())
        assert all(isinstance(mail, bytes) for mail in (await session.fetch([9, 10], 100_000)).values())
        if session.can_idle:
            await session.idle(0.01)

    with imap_server(said) as sock:
        session = ImapSession(sock, "imap.example.com", _THREADS)
        try:
            asyncio.run(run(session))
        except DeliveryError as error:
            error.message.encode("utf-8", "surrogatepass")
        finally:
            session.close()


_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_THREADS = ThreadPoolExecutor(2)

HOSTILE = ("=?utf-8?q?a?= ", "<a@b> ", "a@b, ", "(", '"', '\\"', ";a=b", "; a*0=", "\r\n--r", "\r\n--r\r\n\r\n", "\r\n ", "<div>x", "a;", ",", "<", "=\r\n", "((", "@")  # fmt: skip

TARGETS: Sequence[Target] = (
    Target("email: mails", mails(), look_at_mail, read_mail, HOSTILE),
    Target("email: forms with mails", posted(), look_at_form),
    Target("email: what it tells who listens", conversations(), look_at_conversation),
)

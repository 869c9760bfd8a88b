"""E-mails as they come in: who may post them, what is read out of them, and what hostile ones cost."""

from __future__ import annotations

import base64
import hmac
import re
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from msgcore.core.envelope import Envelope, File, Message, Receipt
from msgcore.core.ids import new_id
from msgcore.platforms.base import Account
from msgcore.platforms.email import EmailAdapter
from msgcore.platforms.email.inbound import EmailInbound
from msgcore.platforms.email.mime import DEEPEST, LARGEST, MOST_LINES, MOST_PARTS
from msgcore.platforms.email.safe_html import LARGEST_SHOWN
from msgcore.platforms.receiving import (
    BeyondLimitsError,
    InboundRequest,
    OversizedError,
    SignatureError,
    UnreadableError,
)
from msgcore.platforms.registry import PlatformRegistry
from servers.deliveries import make_account
from servers.patience import PATIENCE

INBOUND = EmailInbound()
SECRET = "correct horse battery staple"
NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
OURS = f"{new_id()}@example.com"
ACCOUNT = make_account(
    "email", {"smtpHost": "x", "smtpPort": 25, "fromEmail": "shop@example.com", "inboundSecret": SECRET}
)


def account(**changed: Any) -> Account:
    return make_account("email", {**ACCOUNT.credentials, **changed})


def request(body: bytes, content_type: str | None = "message/rfc822", **headers: str) -> InboundRequest:
    given_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        given_headers["content-type"] = content_type
    return InboundRequest("POST", given_headers, "", body, NOW)


def basic(password: str = SECRET, user: str = "mail") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def mail(body: str | bytes = "Hello", /, *lines: str, **headers: str | None) -> bytes:
    """A mail with usual headers, some of them changed, and more lines of header as they are."""
    usual: dict[str, str | None] = {
        "From": "Ann <Ann@Example.org>",
        "To": "shop@example.com",
        "Subject": "Question",
        "Date": "Wed, 06 May 2026 11:59:00 +0000",
        "Message-ID": "<m1@example.org>",
    }
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = [f"{name}: {value}" for name, value in usual.items() if value is not None]
    text = "\r\n".join((*head, *lines, "", "")).encode("utf-8", "surrogateescape")
    return text + (body if isinstance(body, bytes) else body.encode())


def multi(kind: str, *parts: bytes | str, boundary: str = "=b=", **parameters: str) -> tuple[bytes, str]:
    """The body of a multipart mail, and its header line."""
    pieces = [part if isinstance(part, bytes) else part.encode() for part in parts]
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), piece) for piece in pieces)
    more = "".join(f'; {name.replace("_", "-")}="{value}"' for name, value in parameters.items())
    return body + f"--{boundary}--\r\n".encode(), f'Content-Type: multipart/{kind}; boundary="{boundary}"{more}'


def part(kind: str, text: str | bytes, *lines: str) -> bytes:
    body = text if isinstance(text, bytes) else text.encode()
    return "\r\n".join((f"Content-Type: {kind}", *lines, "", "")).encode() + body


def strings(value: Any) -> Iterator[str]:
    """All texts in decoded JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


def read(data: bytes, content_type: str | None = "message/rfc822", by: Account = ACCOUNT) -> list[Envelope]:
    envelopes = list(INBOUND.read(by, request(data, content_type)))
    for envelope in envelopes:  # what is read keeps to the envelope's own bounds, and can be written as JSON
        text = msgspec.json.encode(envelope)
        assert msgspec.json.decode(text, type=Envelope).content == envelope.content
        assert not any("\0" in each for each in strings(msgspec.json.decode(text)))
    return envelopes


def read_one(data: bytes) -> tuple[Envelope, Message]:
    [envelope] = read(data)
    assert isinstance(envelope.content, Message)
    return envelope, envelope.content


# --- who may post


class TestWhoMayPost:
    @pytest.mark.parametrize(
        ("headers", "why"),
        [
            ({}, "neither"),
            ({"authorization": basic("wrong")}, "not the inboundSecret"),
            ({"authorization": basic(SECRET[:-1])}, "not the inboundSecret"),
            ({"authorization": basic("", SECRET)}, "not the inboundSecret"),
            ({"authorization": "Basic \u00ff\u00ff"}, "malformed"),
            ({"authorization": "Basic abc"}, "malformed"),
            ({"authorization": f"Bearer {SECRET}"}, "neither"),
            ({"webhook_signature": "v1,\u00ff", "webhook_id": "a", "webhook_timestamp": "1"}, "older"),
            ({"webhook_signature": "v1,x", "webhook_id": "a", "webhook_timestamp": "soon"}, "malformed"),
            ({"webhook_signature": "v1,x", "webhook_id": "a", "webhook_timestamp": "9" * 30}, "malformed"),
            ({"webhook_signature": "v1,x"}, "missing"),
        ],
    )
    def test_others_may_not(self, headers: dict[str, str], why: str) -> None:
        with pytest.raises(SignatureError, match=why) as refused:
            INBOUND.verify(ACCOUNT, request(mail(), **headers))
        assert SECRET not in str(refused.value)

    @pytest.mark.parametrize("secret", [None, "", "too short"])
    def test_an_account_without_a_secret_receives_nothing(self, secret: str | None) -> None:
        with pytest.raises(SignatureError, match=r"set credentials\.inboundSecret to 24 or more"):
            INBOUND.verify(account(inboundSecret=secret), request(mail(), authorization=basic(secret or "")))

    def test_the_password_is_enough_whoever_the_user_is(self) -> None:
        for user in ("", "mail", "\u00e9"):
            INBOUND.verify(ACCOUNT, request(mail(), authorization=basic(user=user)))
        odd = "p\u00e4ss:word with colons and more"
        INBOUND.verify(account(inboundSecret=odd), request(mail(), authorization=basic(odd)))

    @pytest.mark.parametrize("secret", [SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    def test_a_standard_webhooks_signature(self, secret: str) -> None:
        key = secret if secret.startswith("whsec_") else secret.encode()
        stamp = str(int(NOW.timestamp()))
        right = Webhook(key).sign("a", NOW, mail().decode())
        by = account(inboundSecret=secret)
        headers = {"webhook_id": "a", "webhook_timestamp": stamp}
        INBOUND.verify(by, request(mail(), webhook_signature=f"v1a,xyz {right}", **headers))
        for wrong in (
            request(mail() + b" ", webhook_signature=right, **headers),
            request(mail(), webhook_signature="v1,\u00ff", **headers),
        ):
            with pytest.raises(SignatureError, match="no signature is right"):
                INBOUND.verify(by, wrong)

    def test_a_signature_over_bytes_that_are_no_text_and_over_time(self) -> None:
        body = mail(b"\xff\xfe")

        def signed(at: datetime) -> InboundRequest:
            stamp = str(int(at.timestamp()))
            digest = hmac.digest(SECRET.encode(), f"a.{stamp}.".encode() + body, "sha256")
            signature = "v1," + base64.b64encode(digest).decode()
            return request(body, webhook_id="a", webhook_timestamp=stamp, webhook_signature=signature)

        INBOUND.verify(ACCOUNT, signed(NOW - timedelta(minutes=4)))
        for at in (NOW - timedelta(minutes=6), NOW + timedelta(minutes=6)):
            with pytest.raises(SignatureError, match="five minutes"):
                INBOUND.verify(ACCOUNT, signed(at))

    def test_what_is_no_mail_is_refused_at_once(self) -> None:
        with pytest.raises(UnreadableError, match=r"application/json.*message/rfc822"):
            INBOUND.check(ACCOUNT, request(b"{}", "application/json"))
        with pytest.raises(OversizedError, match="bytes; at most"):
            INBOUND.check(ACCOUNT, request(b"x" * (LARGEST + 1)))

    def test_a_secret_must_be_long(self) -> None:
        registry = PlatformRegistry()
        given_credentials = {"smtpHost": "x.example", "smtpPort": 25, "fromEmail": "a@example.com"}
        [error] = registry.check_credentials("email", {**given_credentials, "inboundSecret": "short"})
        assert error.pointer == "/credentials/inboundSecret"
        assert "at least 24 characters" in error.message
        assert not registry.check_credentials("email", {**given_credentials, "inboundSecret": SECRET})
        assert EmailAdapter.declaration.supports_webhooks


# --- how mails are posted


def form(**fields: bytes) -> bytes:
    pieces = [
        b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.replace("_", "-").encode(), value)
        for name, value in fields.items()
    ]
    return b"".join(pieces) + b"--XX--\r\n"


class TestPosting:
    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("message/rfc822", mail(b"\xe9t\xe9")),
            ("application/octet-stream", mail(b"\xe9t\xe9")),
            ("Text/Plain; charset=utf-8", mail(b"\xe9t\xe9")),
            (None, mail(b"\xe9t\xe9")),
            ("multipart/form-data; boundary=XX", form(to=b"a@b.example", email=mail(b"\xe9t\xe9"), SPF=b"pass")),
            ("multipart/form-data; boundary=XX", form(body_mime=mail(b"\xe9t\xe9"), subject=b"Question")),
            ("application/x-www-form-urlencoded", urlencode({"a": "b", "body-mime": mail(b"\xe9t\xe9")}).encode()),
        ],
        ids=["rfc822", "octets", "text", "no type", "sendgrid", "mailgun", "mailgun urlencoded"],
    )
    def test_a_raw_mail_or_a_form_with_one(self, content_type: str | None, body: bytes) -> None:
        INBOUND.verify(ACCOUNT, request(body, content_type, authorization=basic()))
        [envelope] = read(body, content_type)
        assert isinstance(envelope.content, Message)
        assert (envelope.event_id, envelope.content.text) == ("m1@example.org", "\u00e9t\u00e9")

    @pytest.mark.parametrize(
        ("content_type", "body", "why"),
        [
            ("multipart/form-data; boundary=XX", form(text=b"Hello"), "no field email or body-mime"),
            ("multipart/form-data; boundary=XX", form(email=mail())[:-8], "cannot be read"),
            ("multipart/form-data", form(email=mail()), "cannot be read: Empty boundary"),
            ("multipart/form-data; boundary=XX", form(**{f"f{n}": b"" for n in range(1001)}), "Maximum segment count"),
            ("application/x-www-form-urlencoded", b"text=Hello", "no field"),
            ("application/x-www-form-urlencoded", b"a&" * 2000, "too many fields"),
            ("message/rfc822", b"", "no e-mail"),
            ("message/rfc822", b"just some words\n\nand more", "no e-mail"),
            ("message/rfc822", b'{"from": "x"}', "no e-mail"),
        ],
    )
    def test_what_has_no_mail(self, content_type: str, body: bytes, why: str) -> None:
        for look in (INBOUND.check, INBOUND.read):
            with pytest.raises(UnreadableError, match=why):
                look(ACCOUNT, request(body, content_type))


# --- what is read out of mails


@dataclass
class Case:
    label: str
    data: bytes
    text: str | None = "Hello"
    files: list[tuple[str | None, str | None, str | None, int | None]] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    chat: tuple[str, str | None] = ("ann@example.org", "Ann")
    ids: tuple[str, str | None, str | None] = ("m1@example.org", None, "m1@example.org")


PDF = part(
    "application/pdf",
    base64.b64encode(b"%PDF-1.7 tiny"),
    "Content-Transfer-Encoding: base64",
    'Content-Disposition: attachment; filename="a.pdf"',
)
PDF_FILE = ("a.pdf", "application/pdf", 13)
ALTERNATIVE, ALTERNATIVE_TYPE = multi(
    "alternative", part("text/plain", "Hello"), part("text/html", "<p>Hello <b>you</b></p>"), boundary="alt"
)
RELATED, RELATED_TYPE = multi(
    "related",
    ALTERNATIVE_TYPE.encode() + b"\r\n\r\n" + ALTERNATIVE,
    part(
        "image/png",
        "aGVsbG8=",
        "Content-Transfer-Encoding: base64",
        "Content-ID: <i@x>",
        "Content-Disposition: inline; filename=logo.png",
    ),
    boundary="rel",
)


def nested(*parts: bytes | str, kind: str = "mixed", **parameters: str) -> bytes:
    body, line = multi(kind, *parts, **parameters)
    return mail(body, line)


CASES = [
    Case(
        "plain",
        mail(),
        raw={
            "subject": "Question",
            "from": "Ann <Ann@Example.org>",
            "to": ["shop@example.com"],
            "cc": [],
            "date": "Wed, 06 May 2026 11:59:00 +0000",
            "messageId": "<m1@example.org>",
        },
    ),
    Case("bare line feeds", mail().replace(b"\r\n", b"\n")),
    Case("blank lines and a mark before", b"\xef\xbb\xbf\r\n\r\n" + mail()),
    Case("an mbox line before", b"From ann@example.org Wed May  6 11:59:00 2026\n" + mail()),
    Case("no body", mail(""), text=None),
    Case("lines end as they should", mail("a\r\nb\rc\nd\r\n\r\n"), text="a\nb\nc\nd"),
    Case("html only", mail("<p>Hello <b>you</b></p><script>x</script>", "Content-Type: text/html"), text="Hello you", raw={"html": "<p>Hello <b>you</b></p><script>x</script>"}),
    Case("both", mail(ALTERNATIVE, ALTERNATIVE_TYPE), raw={"html": "<p>Hello <b>you</b></p>"}),
    Case("both, but the plain one is empty", nested(part("text/plain", " \r\n"), part("text/html", "<p>Hello</p>"), kind="alternative"), raw={"html": "<p>Hello</p>"}),
    Case("a form of it for watches", nested(part("text/plain", "Hello"), part("text/x-amp-html", "<html amp>"), kind="alternative")),
    Case("several texts", nested(part("text/plain", "Hello"), part("text/plain", "--\r\nThe list")), text="Hello\n\n--\nThe list"),
    Case("html after text", nested(part("text/plain", "Hello"), part("text/html", "<i>there</i>")), text="Hello\n\nthere", raw={"html": "<i>there</i>"}),
    # charsets
    Case("utf-8", mail("Zażółć", "Content-Type: text/plain; charset=UTF-8"), text="Zażółć"),
    Case("iso-2022-jp", mail("日本語".encode("iso-2022-jp"), "Content-Type: text/plain; charset=ISO-2022-JP"), text="日本語"),
    Case("gb18030", mail("你好𠮷".encode("gb18030"), "Content-Type: text/plain; charset=gb18030"), text="你好𠮷"),
    Case("gb2312 that is more", mail("镕".encode("gbk"), "Content-Type: text/plain; charset=gb2312"), text="镕"),
    Case("koi8-r", mail("Привет".encode("koi8-r"), 'Content-Type: text/plain; charset="KOI8-R"'), text="Привет"),
    Case("koi8-u", mail("Привіт".encode("koi8-u"), "Content-Type: text/plain; charset=koi8-u"), text="Привіт"),
    Case("utf-16", mail(base64.b64encode("Grüße".encode("utf-16")), "Content-Type: text/plain; charset=utf-16", "Content-Transfer-Encoding: base64"), text="Grüße"),
    Case("latin-1 that is windows", mail("“10 €”".encode("cp1252"), "Content-Type: text/plain; charset=iso-8859-1"), text="“10 €”"),
    Case("ascii that is utf-8", mail("Grüße", "Content-Type: text/plain; charset=us-ascii"), text="Grüße"),
    Case("ascii that is windows", mail("Grüße".encode("cp1252"), "Content-Type: text/plain; charset=us-ascii"), text="Grüße"),
    Case("iso-2022-jp that is utf-8", mail("日本語", "Content-Type: text/plain; charset=iso-2022-jp"), text="日本語"),
    Case("an unknown charset", mail("Grüße", "Content-Type: text/plain; charset=klingon-1"), text="Grüße"),
    Case("no charset at all", mail("Grüße".encode("latin-1")), text="Grüße"),
    Case("damage costs only what is damaged", mail(b"a\xffb\xc3\xa9", "Content-Type: text/plain; charset=utf-8"), text="a\ufffdb\u00e9"),
    Case("NUL in a charset", mail("Grüße", "Content-Type: text/plain; charset=x\0y"), text="Grüße"),
    Case("a codec that is no charset", mail(b"789c4b04000062", "Content-Type: text/plain; charset=zlib"), text="789c4b04000062"),
    Case("another", mail("abc", "Content-Type: text/plain; charset=punycode"), text="abc"),
    # transfer encodings
    Case("quoted-printable", mail("Gr=C3=BC=\r\n=C3=9Fe", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: Quoted-Printable"), text="Grüße"),
    Case("damaged quoted-printable", mail("100=% =XY =C3=BC =", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable"), text="100=% =XY ü"),
    Case("truncated base64", mail("SGVsbG8gd29yb", "Content-Transfer-Encoding: base64"), text="Hello wor"),
    Case("base64 with rubbish", mail("SGV\0s!bG8\r\n=\r\n", "Content-Transfer-Encoding: BASE64"), text="Hello"),
    Case("base64 in pieces", mail("SGVs\r\nbG8=\r\nIQ==\r\n", "Content-Transfer-Encoding: base64"), text="Hello!"),
    Case("an unknown encoding", mail("Hello", "Content-Transfer-Encoding: rot13")),
    Case("NUL and other control characters", mail(b"Hel\x00lo\x07\tyou\x1b"), text="Hello\tyou"),
    Case("lone surrogates", mail(b"a\xed\xa0\x80b", "Content-Type: text/plain; charset=utf-8"), text="a\ufffd\ufffd\ufffdb"),
    Case("lone surrogates in utf-7", mail(b"a+2AA-b", "Content-Type: text/plain; charset=utf-7"), text="a?b"),
    # headers
    Case("encoded words", mail(From="=?utf-8?B?w4ludG9uaW4=?= =?utf-8?Q?_Dvo=C5=99=C3=A1k?= <a@x.example>", Subject="=?iso-8859-1?q?Gr=FC=DFe?= and =?koi8-r?B?8NLJ18XU?="), raw={"subject": "Grüße and Привет", "from": "Éntonin Dvořák <a@x.example>"}, chat=("a@x.example", "Éntonin Dvořák")),
    Case("a character cut between two words", mail(Subject="=?utf-8?B?w4k=?= =?utf-8?Q?=C3?=\r\n =?utf-8?Q?=A9?="), raw={"subject": "Éé"}),
    Case("words in an unknown charset, and damaged", mail(Subject="=?x-nope?Q?ok?= =?utf-8?B?!!!?= =?utf-8?Q?a"), raw={"subject": "ok =?utf-8?Q?a"}),
    Case("raw bytes in headers", mail(Subject="Grüße", From='"Jörg" <j@x.example>'), raw={"subject": "Grüße"}, chat=("j@x.example", "Jörg")),
    Case("folded headers", mail(Subject="a\r\n b\r\n\tc", From="Ann\r\n <ann@example.org>"), raw={"subject": "a b\tc".replace("\t", " ")}),
    Case("no header can be smuggled", mail(Subject="=?utf-8?Q?a=0D=0ABcc:_x@y.example?=", From="=?utf-8?Q?A=0AB?= <ann@example.org>"), raw={"subject": "a Bcc: x@y.example"}, chat=("ann@example.org", "A B")),
    Case("a huge subject", mail(Subject="x" * 500_000), raw={"subject": "x" * 2000}),
    Case("an address in an encoded name", mail(From="=?utf-8?Q?=3Cboss=40x=2Eexample=3E?= <ann@example.org>"), chat=("ann@example.org", "<boss@x.example>")),
    Case("a name with a comma", mail(From="Doe, Ann <ann@example.org>"), chat=("ann@example.org", "Doe, Ann")),
    Case("names with commas", mail(To="Doe, Ann <ann@x.example>, Roe, Bob <bob@x.example>"), raw={"to": ["Doe, Ann <ann@x.example>", "Roe, Bob <bob@x.example>"]}),
    Case("recipients that are not told", mail(To="undisclosed-recipients:;"), raw={"to": []}),
    Case("only an address", mail(From="ann@example.org"), chat=("ann@example.org", None)),
    Case("no sender", mail(From=None), chat=("unknown", None), raw={"from": None}),
    Case("the sender is elsewhere", mail("Hello", "Return-Path: <ann@example.org>", From=None), chat=("ann@example.org", None)),
    Case("a long address", mail(From=f"{'a' * 300}@x.example"), chat=(sha256(b"a" * 300 + b"@x.example").hexdigest(), None)),
    Case("many recipients", mail(To=", ".join(f"U{n} <u{n}@x.example>" for n in range(150)), Cc="Bob <bob@x.example>,", Reply_To="desk@x.example"), raw={"to": [f"U{n} <u{n}@x.example>" for n in range(100)], "cc": ["Bob <bob@x.example>"], "replyTo": ["desk@x.example"]}),
    # threads
    Case("an answer", mail(In_Reply_To="<p@x>", References="<root@x> <p@x>"), ids=("m1@example.org", "p@x", "root@x")),
    Case("an answer without references", mail(In_Reply_To="<p@x>"), ids=("m1@example.org", "p@x", "p@x")),
    Case("references alone", mail(References="<root@x>\r\n\t<p@x>"), ids=("m1@example.org", "p@x", "root@x")),
    Case("an old way to answer", mail(In_Reply_To="Your mail of Tuesday p@x"), ids=("m1@example.org", "p@x", "p@x")),
    Case("an answer to nothing that has an id", mail(In_Reply_To="your mail"), ids=("m1@example.org", None, "m1@example.org")),
    Case("an id without brackets", mail(Message_ID="m2@x"), ids=("m2@x", None, "m2@x"), raw={"messageId": "m2@x"}),
    # files
    Case("a file", nested(part("text/plain", "Hello"), PDF), files=[("2", *PDF_FILE)]),
    Case("nested", nested(RELATED_TYPE.encode() + b"\r\n\r\n" + RELATED, PDF), files=[("1.2", "logo.png", "image/png", 5), ("2", *PDF_FILE)], raw={"html": "<p>Hello <b>you</b></p>"}),
    Case("a mail that is a file", mail(b"GIF89a", "Content-Type: image/gif; name=a.gif"), text=None, files=[("1", "a.gif", "image/gif", 6)]),
    Case("RFC 2231", nested(part("text/plain", "Hello"), part("application/x", "", "Content-Disposition: attachment; filename*=utf-8''na%C3%AFve%20%E2%82%AC.txt")), files=[("2", "naïve €.txt", "application/x", 0)]),
    Case("RFC 2231 in pieces", nested(part("text/plain", "Hello"), part("application/x", "", "Content-Disposition: attachment;\r\n filename*0*=koi8-r''%F0%D2;\r\n filename*1*=%C9%D7;\r\n filename*2=.txt")), files=[("2", "Прив.txt", "application/x", 0)]),
    Case("an encoded word as file name", nested(part("text/plain", "Hello"), part("application/x", "", 'Content-Disposition: attachment; filename="=?utf-8?Q?=E2=82=AC.txt?="')), files=[("2", "€.txt", "application/x", 0)]),
    Case("a file name with folders", nested(part("text/plain", "Hello"), part("application/x", "", 'Content-Disposition: attachment; filename="../../etc/passwd"')), files=[("2", "passwd", "application/x", 0)]),
    Case("a long file name", nested(part("text/plain", "Hello"), part("application/x", "", f'Content-Disposition: attachment; filename="{"x" * 300}.txt"')), files=[("2", "x" * 251 + ".txt", "application/x", 0)]),
    Case("digits without end in a parameter", nested(part("text/plain", "Hello"), part("application/x", "", f"Content-Disposition: attachment; filename*{'9' * 4000}=x")), files=[("2", "x", "application/x", 0)]),
    Case("an attached text", nested(part("text/plain", "Hello"), part("text/plain", "notes", "Content-Disposition: attachment; filename=n.txt")), files=[("2", "n.txt", "text/plain", 5)]),
    Case("a calendar", nested(part("text/plain", "Hello"), part("text/calendar; method=REQUEST", "BEGIN:VCALENDAR"), kind="alternative"), files=[("2", None, "text/calendar", 15)]),
    Case("a forwarded mail", nested(part("text/plain", "Hello"), part("message/rfc822", mail("inner", Subject="Old"))), files=[("2", "Old.eml", "message/rfc822", 135)]),
    Case("PGP", nested(part("application/pgp-encrypted", "Version: 1"), part("application/octet-stream", "-----BEGIN PGP MESSAGE-----", "Content-Disposition: inline; filename=encrypted.asc"), kind="encrypted", protocol="application/pgp-encrypted"), text=None, files=[("1", None, "application/pgp-encrypted", 10), ("2", "encrypted.asc", "application/octet-stream", 27)]),
    Case("signed", nested(part("text/plain", "Hello"), part("application/pgp-signature", "sig", "Content-Description: x"), kind="signed"), files=[("2", None, "application/pgp-signature", 3)]),
    Case("more files than are listed", nested(part("text/plain", "Hello"), *[part("image/png", "x")] * 103), files=[(str(n), None, "image/png", 1) for n in range(2, 102)], raw={"attachmentsLeftOut": 3}),
    # broken structures
    Case("a multipart without parts", mail("Hello", "Content-Type: multipart/mixed; boundary=x")),
    Case("a multipart without a boundary", mail("Hello", "Content-Type: multipart/mixed")),
    Case("a multipart without an end", mail(b"--x\r\n" + part("text/plain", "Hello"), "Content-Type: multipart/mixed; boundary=x")),
    Case("an empty multipart", mail("", "Content-Type: multipart/mixed; boundary=x"), text=None),
    Case("a nonsense type", mail("Hello", "Content-Type: ////;;;==")),
    # mails that no person wrote
    Case("a vacation reply", mail("Hello", "Auto-Submitted: auto-replied (vacation)"), raw={"autoSubmitted": "auto-replied (vacation)"}),
    Case("an old vacation reply", mail("Hello", "Precedence: auto_reply"), raw={"autoSubmitted": "auto-replied"}),
    Case("another", mail("Hello", "X-Autoreply: yes"), raw={"autoSubmitted": "auto-replied"}),
    Case("a person's mail that says so", mail("Hello", "Auto-Submitted: no")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_mails(case: Case) -> None:
    envelope, message = read_one(case.data)
    assert message.text == case.text
    assert [(file.id, file.filename, file.mime_type, file.size) for file in message.attachments] == case.files
    assert [len(file.data or b"") for file in message.attachments] == [file[3] for file in case.files]
    assert {name: envelope.raw.get(name) for name in case.raw} == case.raw
    assert ("html" in envelope.raw) is ("safeHtml" in envelope.raw)
    for optional in ("html", "autoSubmitted", "attachmentsLeftOut", "replyTo"):
        assert optional in case.raw or optional not in envelope.raw
    assert (envelope.chat.id, envelope.chat.name) == case.chat
    assert envelope.chat.type == "user"
    assert envelope.author is not None
    assert (envelope.author.id, envelope.author.name, envelope.author.email) == (*case.chat, None)
    assert (message.id, message.reply_to, message.thread_id) == case.ids
    assert envelope.event_id == message.id


HARMFUL = [
    ("<script>alert(1)</script>Hi", "Hi"),
    ("<p onclick=x style='position:fixed' class=c id=i>Hi</p>", "<p>Hi</p>"),
    ("<a href='JAVASCRIPT:x'>a</a>", '<a rel="noopener noreferrer nofollow">a</a>'),
    ("<a href='https://x.example/?a=1&amp;b'>a</a>", '<a href="https://x.example/?a=1&amp;b" rel="noopener noreferrer nofollow">a</a>'),
    ("<a href='/api/v1/projects'>a</a>", '<a rel="noopener noreferrer nofollow">a</a>'),
    ("<a href='//evil.example'>a</a>", '<a rel="noopener noreferrer nofollow">a</a>'),
    ("<img src=http://x.example/pixel alt=Logo onerror=x>", '<img alt="Logo">'),
    ("<style>@import 'http://x.example'</style><link rel=stylesheet href=x><base href=//x.example>Hi", "Hi"),
    ("<iframe src=x></iframe><object data=x></object><embed src=x><form action=x><input value=y></form>Hi", "Hi"),
    ("<svg><a xlink:href=javascript:x>a</a><style><img src=x onerror=y></style></svg>", "<img>"),
    ("<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>", ""),
    ("<noscript><p title='</noscript><img src=x onerror=y>'>", "&lt;p title='<img>'&gt;"),
    ("<b title='<i onclick=x>'>Hi</b>", "<b>'&gt;Hi</b>"),
    ("<!--[if mso]><p>Office</p><![endif]--><font color=red>Hi</font>", "Hi"),
    ("<meta http-equiv=refresh content='0;url=http://x.example'><title>t</title>Hi", "Hi"),
    ("".join(f"<b id=x{n}><p>" for n in range(5000)), None),
    ("<div>" * 20_000 + "Hi", None),
]  # fmt: skip


@pytest.mark.parametrize(("html", "safe"), HARMFUL, ids=[case[0][:40] for case in HARMFUL])
def test_html_to_be_shown(html: str, safe: str | None) -> None:
    found = read_one(mail(html, "Content-Type: text/html"))[0].raw["safeHtml"]
    if safe is None:  # what would grow without end
        assert found is None or len(found) <= LARGEST_SHOWN
    else:
        assert found.strip() == safe


def test_ids_that_are_missing_or_long_are_hashes() -> None:
    first, again, other = (read_one(mail(text, Message_ID=None))[0].event_id for text in ("a", "a", "b"))
    assert first == again != other
    assert len(first) == 64
    long_ones = [read_one(mail(Message_ID=f"<{'x' * 300}{n}@x>", References=f"<{'y' * 300}@x>"))[1] for n in (1, 1, 2)]
    assert long_ones[0].id == long_ones[1].id != long_ones[2].id
    assert {len(each.id) for each in long_ones} | {len(each.thread_id or "") for each in long_ones} == {64}


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Wed, 06 May 2026 13:30:00 +0200", datetime(2026, 5, 6, 11, 30, tzinfo=UTC)),
        ("Wed, 06 May 2026 11:30:00 -0000", datetime(2026, 5, 6, 11, 30, tzinfo=UTC)),
        ("Mon, 04 May 2026 11:30:00 GMT", datetime(2026, 5, 4, 11, 30, tzinfo=UTC)),
        ("Wed, 06 May 2026 12:30:00 +0000", None),
        ("Wed, 06 May 1970 12:30:00 +0000", None),
        ("Wed, 06 May 99999 12:30:00 +0000", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_dates(date: str | None, expected: datetime | None) -> None:
    assert read_one(mail(Date=date))[0].occurred_at == expected


def test_file_types() -> None:
    kinds = ["image/png", "video/mp4", "audio/ogg", "application/zip", "font/x"]
    files: tuple[File, ...] = read_one(nested(*(part(kind, "x") for kind in kinds)))[1].attachments
    assert [file.type for file in files] == ["image", "video", "audio", "document", "document"]


# --- bounces


def bounce(
    *blocks: str, original: str = f"Message-ID: <{OURS}>\r\nSubject: Hi", kind: str = "text/rfc822-headers", status: str = "message/delivery-status"
) -> bytes:  # fmt: skip
    reporting = "Reporting-MTA: dns; mx.example.net\r\nArrival-Date: Wed, 06 May 2026 11:58:00 +0000\r\n"
    return mail(
        *multi("report", part("text/plain", "It could not be delivered"), part(status, "\r\n".join((reporting, *blocks))), part(kind, original), report_type="delivery-status"),
        From="Mail Delivery System <MAILER-DAEMON@mx.example.net>",
        Message_ID="<b1@mx.example.net>",
    )  # fmt: skip


FAILED = "Original-Recipient: rfc822;Bob@Example.org\r\nFinal-Recipient: rfc822; bob@inner.example.org\r\nAction: Failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 <bob@inner.example.org>:\r\n no such user\r\n"
OTHER = "Final-Recipient: rfc822; eve@example.org\r\nAction: failed\r\nStatus: 5.2.2\r\n"
ARRIVED = "Final-Recipient: rfc822; joe@example.org\r\nAction: delivered\r\nStatus: 2.0.0\r\n"
LATE = "Final-Recipient: rfc822; joe@example.org\r\nAction: delayed\r\nStatus: 4.4.1\r\n"
WHY = "550 5.1.1 <bob@inner.example.org>: no such user"


class TestBounces:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (bounce(FAILED), [("bob@example.org", "failed", WHY)]),
            (bounce(FAILED, kind="message/rfc822", original=f"Message-ID: <{OURS}>\r\n\r\nHello"), [("bob@example.org", "failed", WHY)]),
            (bounce(FAILED).replace(b"\r\n", b"\n"), [("bob@example.org", "failed", WHY)]),
            (bounce(OTHER), [("eve@example.org", "failed", "5.2.2")]),
            (bounce(FAILED, OTHER, ARRIVED, LATE), [("bob@example.org", "failed", WHY), ("eve@example.org", "failed", "5.2.2"), ("joe@example.org", "delivered", None)]),
            (bounce(FAILED, OTHER, status="message/global-delivery-status", kind="message/global-headers"), [("bob@example.org", "failed", WHY), ("eve@example.org", "failed", "5.2.2")]),
            (bounce("Action: failed\r\n"), [("mailer-daemon@mx.example.net", "failed", "no reason was given")]),
        ],
        ids=["headers", "whole mail", "line feeds", "status only", "several", "RFC 6533", "nobody named"],
    )  # fmt: skip
    def test_one_of_ours_is_a_receipt(self, data: bytes, expected: list[tuple[str, str, str | None]]) -> None:
        found = read(data)
        contents = [each.content for each in found]
        assert [
            (each.chat.id, what.status, what.error)
            for each, what in zip(found, contents, strict=True)
            if isinstance(what, Receipt)
        ] == expected
        assert {what.message_id for what in contents if isinstance(what, Receipt)} == {f"<{OURS}>"}
        assert len({each.event_id for each in found}) == len(found)
        assert found[0].event_id == "b1@mx.example.net"

    @pytest.mark.parametrize(
        "data",
        [
            bounce(LATE),
            bounce(FAILED, original="Message-ID: <abc@example.com>"),
            bounce(FAILED, original=f"Message-ID: <{new_id()}@elsewhere.example>"),
            bounce(FAILED, original="Subject: Hi"),
            bounce(FAILED, original=""),
            bounce(),
        ],
        ids=["delayed", "another program's", "another domain's", "no id", "no original", "no recipients"],
    )
    def test_others_are_messages_of_a_program(self, data: bytes) -> None:
        envelope, message = read_one(data)
        assert envelope.raw["autoSubmitted"] == "auto-generated"
        assert message.text == "It could not be delivered"


# --- limits, and what hostile mails cost


def chain(depth: int, kind: str = "multipart/mixed") -> bytes:
    if kind == "message/rfc822":
        return mail(b"Content-Type: message/rfc822\r\n\r\n" * depth, "Content-Type: message/rfc822")
    lines = [f"--b{n}\r\nContent-Type: {kind}; boundary=b{n + 1}\r\n\r\n" for n in range(depth)]
    return mail("".join(lines), f"Content-Type: {kind}; boundary=b0")


MANY_HEADERS = [f"X-{n}: y" for n in range(10_001)]
BEYOND = {
    "10,000 parts": (mail(b"--x\r\n\r\nhi\r\n" * 10_000, "Content-Type: multipart/mixed; boundary=x"), f"{MOST_PARTS} parts"),
    "parts without end": (mail(b"--x\r\n\r\n" * 240_000, "Content-Type: multipart/mixed; boundary=x"), f"{MOST_PARTS} parts"),
    "delivery statuses": (mail(b"Action: failed\r\n\r\n" * 100_000, "Content-Type: message/delivery-status"), f"{MOST_PARTS} parts"),
    "depth": (chain(10_000), f"nested more than {DEEPEST}"),
    "depth of mails": (chain(10_000, "message/rfc822"), f"nested more than {DEEPEST}"),
    "headers": (mail("", *MANY_HEADERS), "headers"),
    "size of headers": (mail("", *[f"X-Long: {'y' * 100_000}"] * 11), "headers"),
    "lines": (mail(b"a\n" * (MOST_LINES + 1)), "lines"),
    "carriage returns": (mail(b"\r" * (MOST_LINES + 1)), "lines"),
    "size": (mail(b"a" * LARGEST), "bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "why"), BEYOND.values(), ids=BEYOND.keys())
def test_beyond_the_limits(data: bytes, why: str) -> None:
    tracemalloc.start()
    started = time.process_time()
    try:
        for look in (INBOUND.check, INBOUND.read):
            with pytest.raises((BeyondLimitsError, OversizedError), match=why):
                look(ACCOUNT, request(data))
        assert time.process_time() - started < 10
        assert tracemalloc.get_traced_memory()[1] < 20 * len(data) + 50_000_000
    finally:
        tracemalloc.stop()


def test_within_the_limits() -> None:
    assert read_one(chain(DEEPEST - 1))[1].text is None
    many = nested(part("text/plain", "Hello"), *[part("text/plain", "x")] * (MOST_PARTS - 2))
    assert read_one(many)[1].text == "Hello" + "\n\nx" * (MOST_PARTS - 2)


SLOW = {
    "opened encoded words": mail(Subject="=?x?q? " * 70_000),
    "encoded words": mail(Subject="=?utf-8?q?a?= " * 35_000),
    "parentheses": mail(From="(" * 500_000),
    "angles": mail(From="<" * 200_000, References="<" * 200_000),
    "addresses": mail(To="a@b.example," * 20_000, Cc='\\",' * 60_000),
    "dots": mail(From="a." * 100_000, In_Reply_To="a" * 200_000),
    "semicolons": nested(*[part(";" * 4000, "x")] * 120),
    "quotes": nested(*[part('text/plain; a="' + '";' * 2000, "x")] * 120),
    "paddings": mail(b"A=" * 5_000_000, "Content-Transfer-Encoding: base64"),
    "escapes": mail(b"=" * 10_000_000, "Content-Transfer-Encoding: quoted-printable"),
    "tags": mail(b"<" * 10_000_000, "Content-Type: text/html"),
    "a large text": mail("日本語" * 2_000_000, "Content-Type: text/plain; charset=utf-8"),
    "boundaries": mail(b"".join(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(18)) + b"-" * 60 + b"\r\n" + b"x\r\n" * 400_000, "Content-Type: multipart/mixed; boundary=b0"),
}  # fmt: skip


@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW.keys())
def test_what_is_meant_to_be_slow(data: bytes) -> None:
    started = time.process_time()
    envelope, message = read_one(data)
    assert time.process_time() - started < 10, "seconds; each takes below two on a slow machine"
    assert envelope.event_id == "m1@example.org"
    assert len(message.text or "") <= 1_000_000


def test_a_large_mail_is_read() -> None:
    encoded = base64.encodebytes(b"x" * 12_000_000)
    large = nested(
        part("text/plain", "Hello"),
        part("image/png", encoded, "Content-Transfer-Encoding: base64", "Content-Disposition: attachment"),
    )
    _, message = read_one(large)
    assert (message.text, message.attachments[0].size) == ("Hello", 12_000_000)


SAMPLES = [case.data for case in CASES if len(case.data) < 5000] + [bounce(FAILED, OTHER)]


def problem(data: bytes, content_type: str = "message/rfc822") -> str:
    """Why something cannot be read; empty where it can. What is refused at once could not be read either."""
    try:
        INBOUND.check(ACCOUNT, request(data, content_type))
    except UnreadableError as error:
        if "content-type" not in str(error):
            with pytest.raises(type(error), match=re.escape(str(error))):
                read(data, content_type)
        return str(error)
    try:
        read(data, content_type)
    except UnreadableError as error:
        return str(error)
    return ""


def survives(data: bytes, content_type: str = "message/rfc822") -> None:
    started = time.monotonic()
    assert "could not be read" not in problem(data, content_type), "an error of Python's that should be foreseen"
    assert time.monotonic() - started < PATIENCE


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    survives(data)
    survives(b"From: a@b.example\n" + data)
    survives(b"From: a@b.example\nContent-Type: multipart/mixed; boundary=x\n\n--x\n" + data)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.one_of(st.binary(max_size=8), st.sampled_from([b"\r\n", b"\n\n", b"=?", b"?=", b"<", b";", b"*0*=", b'"', b"\x00", b"\xed\xa0\x80", b"charset=utf-16", b"multipart/", b"message/rfc822", b"base64"]))), max_size=6),
)  # fmt: skip
def test_changed_mails(sample: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    data = sample
    for place, removed, put in changes:
        at = int(place * len(data))
        data = data[:at] + put + data[at + removed :]
    survives(data)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=500), st.sampled_from(["multipart/form-data; boundary=XX", "application/x-www-form-urlencoded", "multipart/form-data; boundary=\x00", ";;"]))  # fmt: skip
def test_any_form(data: bytes, content_type: str) -> None:
    for body in (data, form(email=mail())[:200] + data, b"email=" + data):
        survives(body, content_type)


@settings(deadline=None)
@given(st.text(max_size=100), st.text(max_size=100), st.text(max_size=30))
def test_any_login(authorization: str, signature: str, stamp: str) -> None:
    for headers in ({"authorization": authorization}, {"authorization": f"Basic {signature}"}, {"webhook_id": signature, "webhook_timestamp": stamp, "webhook_signature": signature}):  # fmt: skip
        with pytest.raises(SignatureError):
            INBOUND.verify(ACCOUNT, request(mail(), **headers))


def test_a_forwarded_mail_is_a_file_as_it_was_written() -> None:
    inner = mail(b"caf\xe9\n\nbye", "X-Raw: gr\u00fc\u00dfe", Subject="=?utf-8?q?Caf=C3=A9?=" + " long" * 40)
    [file] = read_one(nested(part("message/rfc822", inner)))[1].attachments
    assert file.data is not None
    assert file.data.replace(b"\r\n", b"\n").strip() == inner.replace(b"\r\n", b"\n").strip()

"""A real SMTP server (aiosmtpd) that keeps what it gets and can be told to misbehave."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "mailer", "open sesame"
OK = "250 OK"
LARGEST = 32 * 1024 * 1024


@dataclass
class Mail:
    """One mail as it arrived."""

    sender: str
    recipients: list[str]
    options: list[str]
    data: bytes
    over_tls: bool
    login: str | None

    @property
    def message(self) -> EmailMessage:
        """The parsed message."""
        parsed = message_from_bytes(self.data, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class SmtpServer:
    """What arrived, and what the server is to answer.

    Places in a session are named by the command word, `RCPT <address>`, or `answer` for after the
    text of a mail. `answers` holds replies to give there instead of 250, `once` those to give a
    single time; on `hangs_up_on` the connection is closed, on `holds_on` nothing is ever answered.
    """

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    once: dict[str, str] = field(default_factory=dict)
    hangs_up_on: str | None = None
    holds_on: str | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: list[SMTP] = field(default_factory=list)

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        reply = await self._reply(server, "EHLO")
        return responses if reply == OK else [reply]

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = await self._reply(server, "MAIL")
        if reply == OK:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return reply

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        reply = await self._reply(server, "RCPT", f"RCPT {address}")
        if reply == OK:
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_RSET(self, server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        return await self._reply(server, "RSET")

    async def handle_QUIT(self, server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        await self._reply(server, "QUIT")
        return "221 Bye"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        reply = await self._reply(server, "answer")
        if reply == OK:
            self.mails.append(
                Mail(
                    sender=envelope.mail_from or "",
                    recipients=list(envelope.rcpt_tos),
                    options=list(envelope.mail_options),
                    data=envelope.content,
                    over_tls=session.ssl is not None or bool(server.transport.get_extra_info("sslcontext")),
                    login=session.auth_data.login.decode() if isinstance(session.auth_data, LoginPassword) else None,
                )
            )
        return reply

    def hang_up_all(self) -> None:
        """Close every connection, as a server does with those that idle too long."""
        for session in self.sessions:
            if session.transport is not None:
                session.transport.close()

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _method: str, data: Any
    ) -> AuthResult:
        """Whether a login is the right one."""
        good = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == (USER, PASSWORD)
        return AuthResult(success=good, handled=False, auth_data=data)

    async def _reply(self, server: SMTP, *places: str) -> str:
        self.commands.append(places[0])
        if self.hangs_up_on in places:
            server.transport.close()
        if self.holds_on in places:
            self.held.set()
            await asyncio.Event().wait()
        for place in reversed(places):
            if place in self.once:
                return self.once.pop(place)
            if place in self.answers:
                return self.answers[place]
        return OK


class _Session(SMTP):
    """One connection, known to its server."""

    def __init__(self, server: SmtpServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        server.sessions.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._server.left.set()


@asynccontextmanager
async def smtp_server(
    *,
    starttls: ssl.SSLContext | None = None,
    implicit_tls: ssl.SSLContext | None = None,
    login: bool = False,
    login_required: bool = False,
    smtputf8: bool = True,
    largest: int = LARGEST,
) -> AsyncIterator[SmtpServer]:
    """A server on a free port of 127.0.0.1, in the running event loop."""
    server = SmtpServer()
    offers_login: dict[str, Any] = (
        {"authenticator": server.authenticate, "auth_required": login_required, "auth_require_tls": False}
        if login
        else {"auth_exclude_mechanism": ["LOGIN", "PLAIN"]}
    )
    loop = asyncio.get_running_loop()

    def make_session() -> SMTP:
        return _Session(
            server,
            data_size_limit=largest,
            enable_SMTPUTF8=smtputf8,
            tls_context=starttls,
            hostname="mail.test",
            loop=loop,
            **offers_login,
        )

    listening = await loop.create_server(make_session, "127.0.0.1", 0, ssl=implicit_tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        server.hang_up_all()


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate on disk, and the server's context with it."""

    path: Path
    context: ssl.SSLContext


def make_certificate(directory: Path, *names: str) -> Certificate:
    """A self-signed certificate for host names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_general_name(text) for text in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{names[0]}.pem"
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    path.write_bytes(pem)
    key_path = directory / f"{names[0]}.key"
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path, key_path)
    return Certificate(path, context)


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)

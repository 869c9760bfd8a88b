"""One SMTP connection: opened, logged in, handing over one mail at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any, Final

import aiosmtplib

from msgcore.core.errors import PermanentError
from msgcore.platforms.email.errors import as_delivery_error, is_no_answer, login_error, tls_required, unknown_result
from msgcore.platforms.email.render import OutgoingMail
from msgcore.platforms.email.tls import TlsContexts
from msgcore.security.addresses import parse_address
from msgcore.security.egress import EgressGuard

MESSAGES_PER_CONNECTION: Final = 100
CONNECT_SECONDS: Final = 20.0
COMMAND_SECONDS: Final = 30.0
IMPLICIT_TLS_PORT: Final = 465


class StaleConnectionError(Exception):
    """A pooled connection had been closed by the server; nothing was sent over it."""


class Connection:
    """A connection that is ready to send."""

    def __init__(self, smtp: aiosmtplib.SMTP, host: str) -> None:
        self._smtp = smtp
        self._host = host
        self._sent = 0
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def is_usable(self) -> bool:
        """Whether another mail may go over it."""
        return self._smtp.is_connected and self._sent < MESSAGES_PER_CONNECTION

    async def send(self, mail: OutgoingMail) -> int:
        """One mail transaction (RFC 5321, section 3.3); returns how many copies were refused.

        The mail counts as sent when its main recipient is taken. Raises DeliveryError, or
        StaleConnectionError if the server had closed the connection before.
        """
        options = self._mail_options(mail)
        encoding = "utf-8" if mail.needs_utf8 else "ascii"
        refused = 0
        try:
            await self._begin(mail, options, encoding)
            await self._smtp.rcpt(mail.recipients[0], encoding=encoding)
            for copy in mail.recipients[1:]:
                try:
                    await self._smtp.rcpt(copy, encoding=encoding)
                except aiosmtplib.SMTPRecipientRefused:
                    refused += 1
        except (aiosmtplib.SMTPException, OSError) as error:
            await self._reset(error)
            raise as_delivery_error(error, self._host) from error
        await self._hand_over(mail)
        self._sent += 1
        return refused

    async def quit(self) -> None:
        """Say goodbye."""
        with suppress(aiosmtplib.SMTPException, OSError):
            await self._smtp.quit()
        self._smtp.close()

    def abort(self) -> None:
        """Hang up."""
        self._smtp.close()

    async def _begin(self, mail: OutgoingMail, options: list[str], encoding: str) -> None:
        try:
            await self._smtp.mail(mail.sender, options=options, encoding=encoding)
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPSenderRefused) as error:
            if self._sent and not self._smtp.is_connected:  # closed while idle, silently or with a 421
                raise StaleConnectionError from error
            raise

    async def _hand_over(self, mail: OutgoingMail) -> None:
        try:
            await self._smtp.data(mail.data)
        except aiosmtplib.SMTPResponseException as error:
            await self._reset(error)
            known = unknown_result(self._host) if is_no_answer(error) else as_delivery_error(error, self._host)
            raise known from error
        except (aiosmtplib.SMTPException, OSError) as error:
            # How much of it the server has is not known: it may well deliver it.
            raise unknown_result(self._host) from error

    def _mail_options(self, mail: OutgoingMail) -> list[str]:
        options: list[str] = []
        limit = self._smtp.esmtp_extensions.get("size")
        if limit is not None:  # RFC 1870
            if limit.isdecimal() and 0 < int(limit) < len(mail.data):
                raise PermanentError(
                    "message_too_large", f"The mail has {len(mail.data)} bytes; {self._host} takes at most {limit}"
                )
            options.append(f"SIZE={len(mail.data)}")
        if mail.needs_utf8:  # RFC 6531
            if not self._smtp.supports_extension("smtputf8"):
                raise PermanentError(
                    "smtputf8_unsupported", f"{self._host} does not take non-ASCII addresses (SMTPUTF8)"
                )
            options += ["SMTPUTF8", "BODY=8BITMIME"]
        return options

    async def _reset(self, error: Exception) -> None:
        """Forget the half-made transaction that ended so, for the next mail to start clean."""
        if not self._smtp.is_connected:
            return
        if isinstance(error, aiosmtplib.SMTPResponseException) and is_no_answer(error):
            self._smtp.close()  # nobody knows what the next line would answer
            return
        try:
            await self._smtp.rset()
        except (aiosmtplib.SMTPException, OSError):
            self._smtp.close()


class Connector:
    """Makes connections: encrypted where the server can, logged in where asked to and safe."""

    def __init__(self, egress: EgressGuard) -> None:
        self._egress = egress
        self._tls = TlsContexts()

    async def connect(self, credentials: Mapping[str, Any]) -> Connection:
        """A connection with an account's credentials. Raises DeliveryError."""
        host: str = credentials["smtpHost"]
        smtp = await self._make_client(credentials)
        try:
            await _open(smtp, host)
            if credentials.get("smtpUser"):
                await _login(smtp, host, credentials["smtpUser"], credentials.get("smtpPassword") or "")
        except BaseException:
            smtp.close()
            raise
        return Connection(smtp, host)

    async def _make_client(self, credentials: Mapping[str, Any]) -> aiosmtplib.SMTP:
        host: str = credentials["smtpHost"]
        port: int = credentials["smtpPort"]
        secure = credentials.get("smtpSecure")
        secure = port == IMPLICIT_TLS_PORT if secure is None else bool(secure)
        verify = credentials.get("smtpTlsVerify")
        # Without a password to lose, encryption to an unknown server is still better than none.
        verify = secure or bool(credentials.get("smtpUser")) if verify is None else bool(verify)
        try:
            sock = await self._egress.open_socket(host, port, CONNECT_SECONDS)
        except OSError as error:
            raise as_delivery_error(error, host) from error
        own_address = sock.getsockname()[0]
        return aiosmtplib.SMTP(
            hostname=host.rstrip("."),
            sock=sock,
            # An address literal (RFC 5321, 4.1.4): the machine's own name is nobody's business.
            local_hostname=f"[IPv6:{own_address}]" if ":" in own_address else f"[{own_address}]",
            timeout=COMMAND_SECONDS,
            use_tls=secure,
            start_tls=False if secure else None,
            tls_context=self._tls.verified if verify else self._tls.unverified,
        )


async def _open(smtp: aiosmtplib.SMTP, host: str) -> None:
    try:
        await smtp.connect()
        if smtp.is_ehlo_or_helo_needed:  # what the server can decides how a mail is sent
            try:
                await smtp.ehlo()
            except aiosmtplib.SMTPHeloError:
                await smtp.helo()
    except (aiosmtplib.SMTPException, OSError) as error:
        # aiosmtplib's own error hides what TLS had to say.
        cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
        raise as_delivery_error(cause, host) from error


async def _login(smtp: aiosmtplib.SMTP, host: str, user: str, password: str) -> None:
    try:
        # Whoever sits in between can take STARTTLS out of the server's answer, so its absence proves nothing.
        if smtp.get_transport_info("sslcontext") is None and not is_loopback(_peer(smtp)):
            raise tls_required(host)
        await smtp.login(user, password)
    except (aiosmtplib.SMTPException, OSError) as error:
        raise login_error(error, host) from error


def _peer(smtp: aiosmtplib.SMTP) -> str:
    """The address that the connection really goes to; a name could mean any."""
    peer = smtp.get_transport_info("peername")
    return str(peer[0]) if peer else ""


def is_loopback(peer: str) -> bool:
    """Whether what is sent to an address stays on this machine, so that nobody in between can read it."""
    address = parse_address(peer)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address  # how a dual-stack socket names an IPv4 peer
    return address is not None and address.is_loopback

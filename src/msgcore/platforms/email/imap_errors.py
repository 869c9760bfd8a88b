"""What goes wrong with an IMAP server, as typed errors. What a server says is shown only where no secret was sent."""

from __future__ import annotations

import imaplib
import re
import ssl

from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError

MAX_REPLY = 300
_PASSING = re.compile(r"\[(UNAVAILABLE|INUSE|LIMIT|SERVERBUG)\]", re.IGNORECASE)
"""Codes of RFC 5530 with which a server refuses a login that may well be right."""


def typed(error: Exception, host: str) -> DeliveryError:
    """The typed form of what a connection or command raised."""
    match error:
        case ssl.SSLCertVerificationError():
            return TemporaryError(
                "imap_certificate",
                f"The certificate of {host} is not valid ({error.verify_message}); if it is self-signed on purpose, "
                "set imapTlsVerify to false",
            )
        case ssl.SSLError():
            return TemporaryError(
                "imap_tls", f"The TLS connection with {host} failed; imapTls tls is for port 993, starttls for port 143"
            )
        case TimeoutError():
            return TemporaryError("imap_timeout", f"{host} did not answer in time")
        case imaplib.IMAP4.abort() | OSError():
            return TemporaryError("imap_connection", f"The connection to {host} was refused or lost")
        case _:
            return TemporaryError("imap_answer", f"{host} refused a command, or answered what cannot be understood")


def login_error(error: imaplib.IMAP4.error, host: str) -> DeliveryError:
    """The server refused the login."""
    if _PASSING.search(str(error)):
        return TemporaryError("imap_login_unavailable", f"{host} cannot check the login just now")
    return AuthenticationError(
        "imap_login_refused", f"{host} refused the login; check imapUser and imapPassword, and that it allows IMAP"
    )


def tls_required(host: str) -> PermanentError:
    """The connection is not encrypted, so the password was not sent."""
    return PermanentError(
        "imap_tls_required",
        f"{host} was not asked for, or offers no, TLS, so the password was not sent; set imapTls to tls",
    )


def folder_error(reply: bytes, host: str, folder: str) -> PermanentError:
    """The folder cannot be read."""
    text = " ".join(reply.decode("utf-8", "replace").split())[:MAX_REPLY]
    return PermanentError("imap_folder", f"{host} does not open imapFolder {folder}: {text}")


def uids_unsupported(host: str) -> PermanentError:
    """The server does not tell what is needed to know new mail from old."""
    return PermanentError("imap_unsupported", f"{host} does not say UIDVALIDITY and UIDNEXT of a folder (RFC 3501)")

"""What SMTP's answers mean for a delivery (RFC 5321, 4.2.1: 4yz may work later, 5yz never will)."""

from __future__ import annotations

import ssl

import aiosmtplib

from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, Scope, TemporaryError

AUTHENTICATION_CODES = frozenset((530, 534, 535, 538))
"""RFC 4954, section 6: the server wants a login, or refuses this one."""

LEAST_CODE = 200
MAX_REPLY = 300


def as_delivery_error(error: Exception, host: str) -> DeliveryError:
    """The typed form of what went wrong before the message was handed over."""
    match error:
        case aiosmtplib.SMTPResponseException() if is_no_answer(error):
            text = f"{host} does not answer as a mail server does: check smtpHost, smtpPort and smtpSecure"
            return TemporaryError("smtp_unreadable", text)
        case aiosmtplib.SMTPConnectResponseError() | aiosmtplib.SMTPHeloError():
            # The server refuses everybody just now; that says nothing about the message.
            return TemporaryError("smtp_unavailable", f"{host} refused the connection: {_reply(error)}")
        case aiosmtplib.SMTPResponseException():
            return _answered(error)
        case ssl.SSLError():
            return _tls_failed(error, host)
        case TimeoutError():
            return TemporaryError("smtp_timeout", f"{host} did not answer in time")
        case _:
            return TemporaryError("smtp_connection", f"Cannot talk to {host}: the connection was refused or lost")


def is_no_answer(error: aiosmtplib.SMTPResponseException) -> bool:
    """Whether what came is no reply of SMTP's: aiosmtplib gives it a code that there is not."""
    return error.code < LEAST_CODE


def unknown_result(host: str) -> TemporaryError:
    """The connection broke after the message was sent and before the server answered."""
    return TemporaryError(
        "smtp_answer_lost", f"The connection to {host} was lost before it confirmed the message", reached="maybe"
    )


def login_error(error: Exception, host: str) -> DeliveryError:
    """What went wrong at the login; server text is left out, since it may repeat what was sent."""
    match error:
        case aiosmtplib.SMTPResponseException() if is_no_answer(error):
            return as_delivery_error(error, host)
        case aiosmtplib.SMTPResponseException(code=code) if code < 500:  # noqa: PLR2004
            return TemporaryError("smtp_login_unavailable", f"{host} cannot check the login just now ({code})")
        case aiosmtplib.SMTPResponseException(code=code):
            return AuthenticationError(
                "smtp_login_refused", f"{host} refused the login ({code}); check smtpUser and smtpPassword"
            )
        case ConnectionError() | TimeoutError():
            return as_delivery_error(error, host)
        case _:
            return AuthenticationError(
                "smtp_login_unsupported",
                f"{host} offers no login that MsgCore knows; leave out smtpUser and smtpPassword",
            )


def tls_required(host: str) -> TemporaryError:
    """The connection is not encrypted, so the password was not sent."""
    return TemporaryError(
        "smtp_tls_required",
        f"{host} offers no TLS, so smtpPassword was not sent; use a server or port with STARTTLS or TLS "
        "(smtpSecure), or leave out smtpUser and smtpPassword",
    )


def _tls_failed(error: ssl.SSLError, host: str) -> DeliveryError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TemporaryError(
            "smtp_certificate",
            f"The certificate of {host} is not valid ({error.verify_message}); if it is self-signed on "
            "purpose, set smtpTlsVerify to false",
        )
    return TemporaryError(
        "smtp_tls", f"The TLS handshake with {host} failed; smtpSecure is for ports that start with TLS (465)"
    )


def _answered(error: aiosmtplib.SMTPResponseException) -> DeliveryError:
    if error.code in AUTHENTICATION_CODES:
        return AuthenticationError(
            "smtp_login_required", f"The server wants a login; check smtpUser and smtpPassword: {_reply(error)}"
        )
    if isinstance(error, aiosmtplib.SMTPRecipientRefused):
        subject, code = "the recipient", "recipient_refused"
    elif isinstance(error, aiosmtplib.SMTPSenderRefused):
        subject, code = "the sender", "sender_refused"
    else:
        subject, code = "the message", "message_refused"
    text = f"The server refused {subject}: {_reply(error)}"
    if error.code >= 500:  # noqa: PLR2004
        return PermanentError(code, text)
    # A full mailbox or a greylisted message says nothing about the next one; a refused sender does.
    return TemporaryError(code, text, scope=Scope.ACCOUNT if code == "sender_refused" else Scope.DELIVERY)


def _reply(error: aiosmtplib.SMTPResponseException) -> str:
    text = " ".join(error.message.encode("utf-8", "replace").decode().split())
    return f"{error.code} {text}"[:MAX_REPLY]

"""What SMTP's answers mean for a delivery (RFC 5321, 4.2.1: 4yz may work later, 5yz never will)."""

from __future__ import annotations

import ssl

import aiosmtplib

from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, Scope, TemporaryError
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable

AUTHENTICATION_CODES = frozenset((530, 534, 535, 538))
"""RFC 4954, section 6: the server wants a login, or refuses this one."""

LEAST_CODE = 200
MAX_REPLY = 300

_GONE_LOST = "The connection was refused or lost: check the host and port; it is tried again"
_BAD_LOGIN = "The server refused the login: check the user and password, and that it allows this protocol"
_BAD_CERTIFICATE = "The certificate is not valid; if it is self-signed on purpose, switch its check off for the account"
_NO_TLS = "The server offers no TLS, so the password was not sent: use a port or setting with TLS"

_NO_MAIL_SERVER = "The server does not answer as a mail server does: check smtpHost, smtpPort and smtpSecure"
ERRORS = ErrorTable(
    (
        ErrorRule("recipient_refused", Ending.PERMANENT, "The server refused the recipient (5yz; 4yz is tried again)"),
        ErrorRule("sender_refused", Ending.PERMANENT, "The server refused the sender (5yz): check fromEmail"),
        ErrorRule("message_refused", Ending.PERMANENT, "The server refused the text of the mail (5yz)"),
        ErrorRule(
            "message_too_large", Ending.PERMANENT, "The mail is larger than the server takes: send less of files"
        ),
        ErrorRule("smtputf8_unsupported", Ending.PERMANENT, "The server takes no addresses beyond ASCII (SMTPUTF8)"),
        ErrorRule("headers_invalid", Ending.PERMANENT, "The headers are not valid for e-mail"),
        ErrorRule("recipient_invalid", Ending.PERMANENT, "The address is none"),
        ErrorRule("smtp_login_required", Ending.AUTHENTICATION, "The server wants a login: set smtpUser, smtpPassword"),
        ErrorRule("smtp_login_refused", Ending.AUTHENTICATION, _BAD_LOGIN),
        ErrorRule(
            "smtp_login_unsupported",
            Ending.AUTHENTICATION,
            "The server offers no login that MsgCore knows: leave out smtpUser and smtpPassword",
        ),
        ErrorRule("smtp_login_unavailable", Ending.TEMPORARY, "The server cannot check the login just now"),
        ErrorRule("smtp_unavailable", Ending.TEMPORARY, "The server refuses everybody just now"),
        ErrorRule("smtp_timeout", Ending.TEMPORARY, "The server did not answer in time"),
        ErrorRule("smtp_connection", Ending.TEMPORARY, _GONE_LOST),
        ErrorRule("smtp_unreadable", Ending.TEMPORARY, _NO_MAIL_SERVER),
        ErrorRule("smtp_answer_lost", Ending.TEMPORARY, "The connection was lost before the server confirmed the mail"),
        ErrorRule("smtp_tls_required", Ending.TEMPORARY, _NO_TLS),
        ErrorRule("smtp_certificate", Ending.TEMPORARY, _BAD_CERTIFICATE),
        ErrorRule("smtp_tls", Ending.TEMPORARY, "The TLS handshake failed: smtpSecure is for port 465"),
        ErrorRule("attachment_timeout", Ending.TEMPORARY, "The attachments could not be fetched in time"),
        ErrorRule("imap_login_refused", Ending.AUTHENTICATION, _BAD_LOGIN),
        ErrorRule("imap_login_unavailable", Ending.TEMPORARY, "The server cannot check the login just now"),
        ErrorRule("imap_tls_required", Ending.PERMANENT, _NO_TLS),
        ErrorRule("imap_certificate", Ending.TEMPORARY, _BAD_CERTIFICATE),
        ErrorRule("imap_tls", Ending.TEMPORARY, "TLS failed: imapTls tls is for port 993, starttls for port 143"),
        ErrorRule("imap_timeout", Ending.TEMPORARY, "The server did not answer in time"),
        ErrorRule("imap_connection", Ending.TEMPORARY, _GONE_LOST),
        ErrorRule("imap_answer", Ending.TEMPORARY, "The server refused a command, or answered what makes no sense"),
        ErrorRule("imap_folder", Ending.PERMANENT, "The folder cannot be opened: check imapFolder"),
        ErrorRule("imap_unsupported", Ending.PERMANENT, "The server numbers its mails in no known way (RFC 3501)"),
    )
)
"""For the documentation and whoever asks; what is raised says more, such as the server's own words."""


def as_delivery_error(error: Exception, host: str) -> DeliveryError:
    """The typed form of what went wrong before the message was handed over."""
    match error:
        case aiosmtplib.SMTPResponseException() if is_no_answer(error):
            return TemporaryError("smtp_unreadable", f"{_NO_MAIL_SERVER} ({host})")
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

"""The credentials of an account whose mailbox is read by IMAP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgcore.core.errors import FieldError
from msgcore.platforms.base import CredentialField

IMAP_FIELDS = (
    CredentialField(
        "imapHost",
        "name or address of the IMAP server whose new mails are received; unset: no mailbox is read",
        required=False,
        destination=True,
        example="imap.example.com",
        pattern=r"[^\s/@\\]+",
        max_length=253,
    ),
    CredentialField(
        "imapPort",
        "unset: 993, or 143 unless imapTls is tls",
        kind="integer",
        required=False,
        destination=True,
        example=993,
        minimum=1,
        maximum=65535,
    ),
    CredentialField(
        "imapTls",
        "tls: from the first byte; starttls: asked for first; none: only to this machine; unset: tls, starttls on 143",
        required=False,
        destination=True,
        example="tls",
        pattern="tls|starttls|none",
    ),
    CredentialField(
        "imapTlsVerify",
        "whether the server's certificate must be valid; unset: it must",
        kind="boolean",
        required=False,
        destination=True,
        example=True,
    ),
    CredentialField("imapUser", "login; unset: smtpUser", required=False, example="me@example.com"),
    CredentialField(
        "imapPassword",
        "password of imapUser; unset: smtpPassword, where imapUser is unset or the same as smtpUser",
        required=False,
        secret=True,
        example="app-password",
    ),
    CredentialField("imapFolder", "unset: INBOX", required=False, example="INBOX", max_length=255),
)


def check_imap(credentials: Mapping[str, Any]) -> list[FieldError]:
    """A server comes with a login, of its own or that of SMTP."""
    given = {
        name: credentials.get(name) for name in (*(field.name for field in IMAP_FIELDS), "smtpUser", "smtpPassword")
    }
    if not given["imapHost"]:
        lost = [field.name for field in IMAP_FIELDS if given[field.name] not in (None, "")]
        return [_required("imapHost", f"with {lost[0]}")] if lost else []
    errors: list[FieldError] = []
    if not (given["imapUser"] or given["smtpUser"]):
        errors.append(_required("imapUser", "where there is no smtpUser"))
    has_same_user = given["imapUser"] in (None, "", given["smtpUser"])
    if not (given["imapPassword"] or (has_same_user and given["smtpPassword"])):
        errors.append(_required("imapPassword", "unless the login is that of SMTP"))
    return errors


def _required(name: str, when: str) -> FieldError:
    return FieldError(f"/credentials/{name}", f"credentials.{name} is required {when}")

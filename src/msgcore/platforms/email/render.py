"""Universal content to a MIME message (RFC 5322, RFC 2045 and following)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape as escape_html
from typing import Annotated, Any

import msgspec

from msgcore.core.content import Content, SendOptions
from msgcore.core.errors import FieldError, PermanentError
from msgcore.outbound.attachments import LoadedAttachment
from msgcore.outbound.extras import extras_as_markdown
from msgcore.outbound.layout import FileRules, Shows, ignored, refusals
from msgcore.outbound.markdown import LONGEST, to_html
from msgcore.outbound.plain_text import html_to_text
from msgcore.outbound.rendering import Call, Degradation, Rendering
from msgcore.outbound.rich.dialect import Dialect
from msgcore.platforms.base import OutgoingDelivery
from msgcore.platforms.email.addresses import EXAMPLE, wire_address
from msgcore.platforms.email.headers import ASCII, UTF8
from msgcore.platforms.email.unsubscribe import LONGEST as LONGEST_UNSUBSCRIBE
from msgcore.platforms.email.unsubscribe import check_unsubscribe, unsubscribe_headers

MAX_RECIPIENTS = 100
"""What every server takes in one transaction (RFC 5321, 4.5.3.1.8)."""

UNSUBSCRIBE = "listUnsubscribe"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}", re.ASCII)
_MESSAGE_ID = re.compile(r"<?[!-;=?A-~]+@[!-;=?A-~]+>?")
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
_OURS = frozenset(
    (
        *("bcc", "cc", "date", "from", "message-id", "mime-version", "received"),
        *("reply-to", "return-path", "sender", "subject", "to"),
    )
)


class EmailOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.email`: more recipients, where answers go, and headers of one's own."""

    cc: Annotated[
        list[str],
        msgspec.Meta(
            max_length=MAX_RECIPIENTS,
            description="more recipients, fewer than 100 with `bcc`; a refused copy does not fail the mail",
        ),
    ] = []
    bcc: Annotated[
        list[str], msgspec.Meta(max_length=MAX_RECIPIENTS, description="the same, which nobody else sees")
    ] = []
    reply_to: Annotated[str, msgspec.Meta(description="where answers go")] | None = None
    list_unsubscribe: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=LONGEST_UNSUBSCRIBE,
                description="how people get off your list, in place of the account's way; empty: not said",
            ),
        ]
        | None
    ) = None
    headers: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=2000)]],
        msgspec.Meta(
            max_length=50,
            description="headers of your own; those that the gateway sets are refused",
        ),
    ] = {}


# A mail has no length of its own: these are the limits of a request, and MSGCORE_MAX_ATTACHMENT_BYTES.
SHOWS = Shows(
    dialect=Dialect("HTML, and plain text beside it"),
    text=1_000_000,
    files=FileRules({}, 100),
    subject=True,
)


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """A mail ready for SMTP: the first of `recipients` is the one it is for, the others get copies."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes
    needs_utf8: bool


def read_options(content: Content) -> EmailOptions:
    """The e-mail options of a content that was checked before."""
    return msgspec.convert((content.platform_options or {}).get("email", {}), EmailOptions)


# --- checks before a message is accepted


def check_content(content: Content, options: SendOptions) -> list[FieldError]:
    """What is wrong with a content and the send options as an e-mail."""
    errors: list[FieldError] = []
    if not content.subject or not content.subject.strip():
        errors.append(FieldError("/content/subject", "content.subject is required for email"))
    elif _CONTROL.search(content.subject):
        errors.append(_no_line_breaks("content.subject"))
    if content.markdown is not None and len(content.markdown) > LONGEST:
        errors.append(
            FieldError("/content/markdown", f"content.markdown must have at most {LONGEST} characters for email")
        )
    if options.reply_to is not None and not _MESSAGE_ID.fullmatch(options.reply_to):
        errors.append(
            FieldError("/options/replyTo", "options.replyTo must be a Message-ID such as <id@example.com> for email")
        )
    errors += refusals(_degradations(content, options), options)
    return errors + _check_options(read_options(content))


def _check_options(options: EmailOptions) -> list[FieldError]:
    prefix = "/content/platformOptions/email"
    addresses = [(f"{prefix}/cc/{i}", text) for i, text in enumerate(options.cc)]
    addresses += [(f"{prefix}/bcc/{i}", text) for i, text in enumerate(options.bcc)]
    if options.reply_to is not None:
        addresses.append((f"{prefix}/replyTo", options.reply_to))
    errors = [
        FieldError(pointer, f"{_dotted(pointer)} must be an e-mail address such as {EXAMPLE}")
        for pointer, text in addresses
        if wire_address(text) is None
    ]
    if len(options.cc) + len(options.bcc) >= MAX_RECIPIENTS:
        errors.append(
            FieldError(f"{prefix}/cc", f"cc and bcc must have fewer than {MAX_RECIPIENTS} addresses together")
        )
    errors += check_unsubscribe(f"{prefix}/listUnsubscribe", options.list_unsubscribe or "")
    return errors + _check_headers(options.headers, f"{prefix}/headers")


def _check_headers(headers: Mapping[str, str], prefix: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, value in headers.items():
        pointer = f"{prefix}/{name[:76].replace('~', '~0').replace('/', '~1')}"
        if not _HEADER_NAME.fullmatch(name):
            errors.append(FieldError(prefix, f"{_dotted(prefix)}: {name[:76]!r} is not a header name (RFC 5322)"))
        elif name.lower() in _OURS or name.lower().startswith("content-"):
            errors.append(FieldError(pointer, f"{_dotted(prefix)}: {name} is set by the gateway; leave it out"))
        elif _CONTROL.search(value):
            errors.append(FieldError(pointer, f"{_dotted(prefix)}: the value of {name} must not hold line breaks"))
    return errors


def _no_line_breaks(name: str) -> FieldError:
    return FieldError(
        "/" + name.replace(".", "/"), f"{name} must not hold line breaks or control characters; put it on one line"
    )


def _dotted(pointer: str) -> str:
    return pointer[1:].replace("/", ".")


# --- rendering


def render(
    credentials: Mapping[str, Any], delivery: OutgoingDelivery, files: Sequence[LoadedAttachment], now: datetime
) -> OutgoingMail:
    """The mail for a delivery. The same delivery always gets the same Message-ID.

    Raises PermanentError for addresses or headers that were not refused before.
    """
    content = delivery.content
    options = read_options(content)
    sender = _required_address(credentials["fromEmail"])
    copies = [_required_address(text) for text in options.cc]
    hidden = [_required_address(text) for text in options.bcc]
    recipients = tuple(dict.fromkeys([_required_address(delivery.target.id), *copies, *hidden]))
    reply_to = None if options.reply_to is None else _required_address(options.reply_to)
    needs_utf8 = not all(address.isascii() for address in (sender, *recipients, reply_to or ""))
    message_id = f"<{delivery.id}@{sender.rpartition('@')[2].strip('[]')}>"

    message = EmailMessage(UTF8 if needs_utf8 else ASCII)
    try:
        message["From"] = _mailbox(sender, credentials.get("fromName") or "")
        message["To"] = _mailbox(recipients[0])
        if copies:
            message["Cc"] = [_mailbox(address) for address in copies]
        if reply_to is not None:
            message["Reply-To"] = _mailbox(reply_to)
        message["Subject"] = content.subject or ""
        message["Date"] = format_datetime(now)
        message["Message-ID"] = message_id
        for name, value in options.headers.items():
            message[name] = value
        _let_unsubscribe(message, credentials, options, recipients[0])
        _thread(message, delivery.options.reply_to)
    except (ValueError, IndexError) as error:
        raise PermanentError("headers_invalid", "The headers of the message are not valid for e-mail") from error
    _set_body(message, content)
    for file in files:
        _attach(message, file)
    return OutgoingMail(message_id, sender, recipients, message.as_bytes(), needs_utf8)


def _required_address(text: str) -> str:
    address = wire_address(text)
    if address is None:
        raise PermanentError("recipient_invalid", f"{text[:254]!r} is not an e-mail address")
    return address


def _mailbox(address: str, name: str = "") -> Address:
    local, _, domain = address.rpartition("@")
    return Address(name, local, domain)


def _let_unsubscribe(
    message: EmailMessage, credentials: Mapping[str, Any], options: EmailOptions, recipient: str
) -> None:
    """By what the message says, or else the account. Headers of one's own stand as they are."""
    if "List-Unsubscribe" in message:
        return
    own = options.list_unsubscribe
    addresses = (credentials.get(UNSUBSCRIBE) or "") if own is None else own
    for name, value in unsubscribe_headers(addresses, recipient, own=own is not None).items():
        if name not in message:
            message[name] = value


def _thread(message: EmailMessage, reply_to: str | None) -> None:
    if reply_to is None:
        return
    parent = f"<{reply_to.strip('<>')}>"
    for name in ("In-Reply-To", "References"):
        if name not in message:
            message[name] = parent


def preview(content: Content, options: SendOptions) -> Rendering:
    """What of a content becomes a mail, for `messages/preview`."""
    text, html = _bodies(content)
    own = msgspec.to_builtins(read_options(content))
    body = {"subject": content.subject, "text": text, "html": html, **own}
    return Rendering((Call("mail", body, tuple(content.attachments or ())),), tuple(_degradations(content, options)))


def _degradations(content: Content, options: SendOptions) -> list[Degradation]:
    parts = {
        "embeds": (content.embeds, "are"),
        "buttons": (content.buttons, "are"),
        "location": (content.location, "is"),
        "contact": (content.contact, "is"),
        "poll": (content.poll, "is"),
    }
    written = [
        Degradation(f"content.{name}", "text", f"{verb} written out below the body")
        for name, (given, verb) in parts.items()
        if given
    ]
    return written + ignored(options, SHOWS)


def _set_body(message: EmailMessage, content: Content) -> None:
    text, html = _bodies(content)
    message.set_content(text, charset="utf-8")
    if html is not None:
        message.add_alternative(html, subtype="html", charset="utf-8")


def _bodies(content: Content) -> tuple[str, str | None]:
    """Plain text always; HTML beside it where there is any formatting."""
    extras = extras_as_markdown(content)
    html = content.html if content.html is not None else to_html(content.markdown) if content.markdown else None
    text = content.text if content.text is not None else html_to_text(html or "")
    if extras:
        added = to_html(extras)
        html = _append(html if html is not None else _as_html(text), added)
        text = f"{text}\n\n{html_to_text(added)}".lstrip("\n")
    return text, html


def _append(html: str, fragment: str) -> str:
    """A fragment at the end of a document: inside its body, where it has one."""
    ends = list(_BODY_END.finditer(html))
    position = ends[-1].start() if ends else len(html)
    return html[:position] + fragment + html[position:]


def _as_html(text: str) -> str:
    return "".join(
        f"<p>{escape_html(paragraph).replace(chr(10), '<br>')}</p>\n" for paragraph in text.split("\n\n") if paragraph
    )


def _attach(message: EmailMessage, file: LoadedAttachment) -> None:
    maintype, _, subtype = file.mime_type.partition("/")
    if maintype in ("message", "multipart"):  # these would have to be parsed, not attached (RFC 2046, 5.2.1)
        maintype, subtype = "application", "octet-stream"
    message.add_attachment(file.data, maintype=maintype, subtype=subtype, filename=file.filename)

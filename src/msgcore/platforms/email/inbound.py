"""Messages in: raw mails that a mail service, or a script on a mail server, posts to the account's webhook.

Fields of forms: https://www.twilio.com/docs/sendgrid/for-developers/parsing-email/setting-up-the-inbound-parse-webhook
("Send raw": `email`) and https://documentation.mailgun.com/docs/mailgun/user-manual/receive-forward-store
(routes to a URL that ends with `mime`: `body-mime`). Services sign in ways of their own, so what proves a request is
a secret of the account, which each of them can send.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from multipart import (  # pyright: ignore[reportMissingTypeStubs] - it has its types with it, but does not say so
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,  # pyright: ignore[reportUnknownVariableType]
)

from msgcore.core.envelope import Envelope, Message, Person, Place, Receipt
from msgcore.core.ids import canonical_id
from msgcore.platforms.email.addresses import wire_address
from msgcore.platforms.email.authenticity import AUTHENTICATION_SERVER, is_authentic
from msgcore.platforms.email.bounces import outcomes, reported_id
from msgcore.platforms.email.mime import (
    Part,
    addresses,
    header,
    message_ids,
    parse,
    read_body,
)
from msgcore.platforms.email.safe_html import safe_html
from msgcore.platforms.receiving import Inbound, InboundRequest, SignatureError, UnreadableError
from msgcore.security.webhook_secrets import read_secret

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

CONTENT_TYPE = "content-type"
SECRET = "inboundSecret"  # noqa: S105 - the credential's name
SHORTEST_SECRET = 24
TOLERANCE = timedelta(minutes=5)
"""How old a signature may be, as Standard Webhooks has it."""
UNDER_WAY = timedelta(days=7)
"""Longest that a mail takes: servers give up after five days or so (RFC 5321, 4.5.4.1)."""

_RAW = frozenset(("", "message/rfc822", "message/global", "application/octet-stream", "text/plain"))
_FORMS = frozenset(("multipart/form-data", "application/x-www-form-urlencoded"))
_FIELDS = ("email", "body-mime")
_MOST_FIELDS = 1000
_LONGEST_ID = 255
_LONGEST_SUBJECT = 2000
_MOST_ADDRESSES = 100
NOBODY = "unknown"


class EmailInbound(Inbound):
    """One mail a request.

    The chat is the sender's address, and direct: that is where an answer goes, where mails to the same person are
    kept when they are sent, and it stays the same over all subjects. The thread (the first of References, else what
    the mail answers, else the mail itself) is what mail programs go by within it. A mail can say that it comes from
    anybody, so the author's `email` is given only where the account's own mail server found it authentic.
    """

    signature = (
        "the account's inboundSecret as the password of HTTP Basic, or as the key of a Standard Webhooks signature"
    )
    keeps = (CONTENT_TYPE,)

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the one or the other, whichever the request has."""
        secret: str = account.credentials.get(SECRET) or ""
        if len(secret) < SHORTEST_SECRET:
            raise SignatureError(
                f"the account receives nothing: set credentials.{SECRET} to {SHORTEST_SECRET} or more random characters"
            )
        if "webhook-signature" in request.headers:
            _check_signature(read_secret(secret) or secret.encode(), request)
        else:
            _check_password(secret, request.headers.get("authorization", ""))

    def check(self, account: Account, request: InboundRequest) -> None:
        """Refuses what is no mail, and mails beyond the limits, at which the parser ends at once.

        No search for what would be beyond them is much quicker than parsing: a usual mail takes 50 microseconds,
        one of 5 MB some 80 ms.
        """
        del account
        kind = _content_type(request)[0]
        if kind not in _RAW | _FORMS:
            raise UnreadableError(
                f"content-type {kind[:100]!r} is none that mails come in: post the raw mail as message/rfc822, "
                f"or as the form field {' or '.join(_FIELDS)}"
            )
        with _reading():
            parse(mail_of(request))

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """The mail as a message; what a mail server tells about a mail of ours as receipts, one a recipient."""
        with _reading():
            data = mail_of(request)
            root = parse(data)
            own_id = next(iter(message_ids(root, "message-id")), None) or sha256(data).hexdigest()
            return _receipts(account, root, own_id, request) or [_message(account, root, own_id, request)]

    def said(self, envelope: Envelope) -> Sequence[str]:
        """The subject, which is all that mail programs write for a List-Unsubscribe (RFC 2369), and the first line."""
        if not isinstance(envelope.content, Message):
            return ()
        lines = (line.strip() for line in (envelope.content.text or "").splitlines())
        first = next((line for line in lines if line and not line.startswith(">")), "")
        return (str(envelope.raw["subject"]), first)


@contextmanager
def _reading() -> Generator[None]:
    """Whatever goes wrong with a mail makes it unreadable: Python's parser is not made for those made to break it."""
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(f"the mail could not be read ({type(error).__name__})") from error


# --- who posts


def _check_password(secret: str, authorization: str) -> None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise SignatureError(f"the request has neither the {SECRET} as password of HTTP Basic, nor a signature")
    try:
        given = base64.b64decode(encoded.strip()).partition(b":")[2]
    except (binascii.Error, ValueError):
        raise SignatureError("the Authorization header is malformed") from None
    # Of hashes, so that how long it takes says nothing about the secret's length either.
    if not hmac.compare_digest(sha256(given).digest(), sha256(secret.encode()).digest()):
        raise SignatureError(f"the password is not the {SECRET}")


def _check_signature(key: bytes, request: InboundRequest) -> None:
    """By the Standard Webhooks specification, over bytes: its library signs text only, which a mail need not be."""
    id_, stamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    if not (id_ and stamp.isascii() and stamp.isdigit() and len(stamp) < 12):  # noqa: PLR2004 - until the year 5138
        raise SignatureError("the headers webhook-id and webhook-timestamp are missing or malformed")
    if abs(request.received_at - datetime.fromtimestamp(int(stamp), UTC)) > TOLERANCE:
        raise SignatureError("the signature is older than five minutes, or from the future")
    signed = f"{id_}.{stamp}.".encode() + request.body
    right = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    given = request.headers["webhook-signature"].split(" ")[:10]
    if not any(hmac.compare_digest(right, each.encode()) for each in given):
        raise SignatureError("no signature is right")


# --- the mail in a request


def _content_type(request: InboundRequest) -> tuple[str, Mapping[str, str]]:
    kind, options = parse_options_header(request.headers.get(CONTENT_TYPE, ""))
    return str(kind), cast("dict[str, str]", options)


def mail_of(request: InboundRequest) -> bytes:
    """The raw mail in a request. Raises UnreadableError for a form that cannot be read, or has none."""
    kind, options = _content_type(request)
    try:
        if kind == "multipart/form-data":
            found = _from_parts(request.body, options.get("boundary", ""))
        elif kind == "application/x-www-form-urlencoded":
            found = _from_pairs(request.body)
        else:
            return request.body
    except ValueError as error:  # MultipartError is one
        reason = str(error)[:200] if isinstance(error, MultipartError) else "too many fields"
        raise UnreadableError(f"the form cannot be read: {reason}") from None
    if found is None:
        raise UnreadableError(f"the form has no field {' or '.join(_FIELDS)}: let the service post the raw mail")
    return found


def _from_parts(body: bytes, boundary: str) -> bytes | None:
    found: dict[str, list[bytes]] = {}
    pieces: list[bytes] | None = None
    with PushMultipartParser(boundary, content_length=len(body), max_segment_count=_MOST_FIELDS) as parser:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                name = event.name or ""
                pieces = found.setdefault(name, []) if name in _FIELDS and name not in found else None
            elif event is not None and pieces is not None:
                pieces.append(bytes(event))
    return next((b"".join(found[name]) for name in _FIELDS if name in found), None)


def _from_pairs(body: bytes) -> bytes | None:
    pairs = parse_qsl(body.decode("latin-1"), encoding="latin-1", max_num_fields=_MOST_FIELDS)
    found = dict(reversed(pairs))
    value = next((found[name] for name in _FIELDS if name in found), None)
    return None if value is None else value.encode("latin-1")


# --- what it tells


def _receipts(account: Account, root: Part, own_id: str, request: InboundRequest) -> list[Envelope]:
    about = reported_id(root)
    if about is None or not _is_ours(about, account):
        return []
    return [
        Envelope(
            event_id=_id(own_id if number == 0 else f"{own_id}#{number}"),
            chat=Place(id=_id(outcome.recipient or _sender(root)[1])),
            # As the Message-ID was told when the mail was sent, by which both are brought together.
            content=Receipt(message_id=f"<{about}>", status=outcome.status, error=outcome.error),
            occurred_at=_sent_at(root, request.received_at),
            raw=_raw(root),
        )
        for number, outcome in enumerate(outcomes(root))
    ]


def _is_ours(message_id: str, account: Account) -> bool:
    """Whether a Message-ID is one that this account gives: a delivery's id and the domain of fromEmail."""
    local, _, domain = message_id.rpartition("@")
    sender = wire_address(str(account.credentials.get("fromEmail", ""))) or ""
    return canonical_id(local) == local and domain.lower() == sender.rpartition("@")[2].strip("[]").lower()


def _message(account: Account, root: Part, own_id: str, request: InboundRequest) -> Envelope:
    name, address = _sender(root)
    proven = is_authentic(root, account.credentials.get(AUTHENTICATION_SERVER) or "")
    references = message_ids(root, "references")
    answered = next(iter(message_ids(root, "in-reply-to")), None) or (references[-1] if references else None)
    thread = references[0] if references else answered or own_id
    body = read_body(root)
    raw = _raw(root)
    if body.html is not None:
        raw["html"] = body.html
        raw["safeHtml"] = safe_html(body.html)
    if body.left_out:
        raw["attachmentsLeftOut"] = body.left_out
    return Envelope(
        event_id=_id(own_id),
        chat=Place(id=_id(address), name=name),
        author=Person(id=_id(address), name=name, email=address if proven else None),
        content=Message(
            id=_id(own_id),
            text=body.text,
            attachments=tuple(body.files),
            reply_to=None if answered is None else _id(answered),
            thread_id=_id(thread),
        ),
        occurred_at=_sent_at(root, request.received_at),
        raw=raw,
    )


def _raw(root: Part) -> dict[str, Any]:
    """What a mail has that messages elsewhere have not."""
    raw: dict[str, Any] = {
        "subject": (header(root, "subject") or "")[:_LONGEST_SUBJECT],
        "from": next(iter(_written(root, "from")), None),
        "to": _written(root, "to"),
        "cc": _written(root, "cc"),
        "date": (header(root, "date") or "")[:_LONGEST_ID] or None,
        "messageId": (header(root, "message-id") or "")[:_LONGEST_SUBJECT] or None,
    }
    answers_to = _written(root, "reply-to")
    if answers_to:
        raw["replyTo"] = answers_to
    automatic = _automatic(root)
    if automatic is not None:
        raw["autoSubmitted"] = automatic
    return raw


def _written(root: Part, name: str) -> list[str]:
    return [f"{shown} <{address}>" if shown else address for shown, address in addresses(root, name)[:_MOST_ADDRESSES]]


def _sender(root: Part) -> tuple[str | None, str]:
    """The sender's name and address in lower case; NOBODY where the mail does not say."""
    for source in ("from", "sender", "return-path"):
        for name, address in addresses(root, source):
            return name[:1024] or None, address.lower()
    return None, NOBODY


def _automatic(root: Part) -> str | None:
    """How a mail that no person wrote says so (RFC 3834), or programs that do not know how to; None for others."""
    said = (header(root, "auto-submitted") or "").partition(";")[0].strip().lower()[:100]
    if said and said != "no":
        return said
    if root.get_content_type() == "multipart/report":
        return "auto-generated"
    precedence = (header(root, "precedence") or "").lower()
    if precedence in ("auto_reply", "auto-reply") or "x-autoreply" in root or "x-autorespond" in root:
        return "auto-replied"
    return None


def _sent_at(root: Part, received_at: datetime) -> datetime | None:
    """When the mail was written, where it can have been: not after it came, and not long before."""
    try:
        at = parsedate_to_datetime(header(root, "date") or "")
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if received_at - UNDER_WAY <= at <= received_at else None


def _id(text: str) -> str:
    """An id as it can be stored: itself, or its hash where it is too long."""
    return text if len(text) <= _LONGEST_ID else sha256(text.encode()).hexdigest()

"""Twilio's requests: messages that came in, and what became of those that were sent.

Sources: https://www.twilio.com/docs/messaging/guides/webhook-request (the fields of a message),
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status (status callbacks),
https://www.twilio.com/docs/usage/webhooks/webhooks-security (signatures).
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from msgcore.core.envelope import ATTACHMENTS, Envelope, File, Message, Person, Place, Receipt
from msgcore.platforms.receiving import (
    Inbound,
    InboundAnswer,
    InboundRequest,
    SignatureError,
    UnreadableError,
    read_file,
)
from msgcore.platforms.sms import check_size, read_fields, read_form
from msgcore.platforms.twilio_sms.errors import failure

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

SIGNATURE_HEADER = "x-twilio-signature"
BODY_HASH = "bodySHA256"
NOTHING_TO_SAY = InboundAnswer(b'<?xml version="1.0" encoding="UTF-8"?><Response/>', "text/xml")
"""TwiML without a verb: Twilio sends no answer of its own."""

_RECEIPTS: Mapping[str, Literal["delivered", "read", "failed"]] = {
    "delivered": "delivered",
    "read": "read",
    "undelivered": "failed",
    "failed": "failed",
}
_CAME_IN = (None, "received", "receiving")
_PORTS = {"https": 443, "http": 80}
_KINDS: Mapping[str, Literal["image", "video", "audio", "document"]] = {
    "image": "image",
    "video": "video",
    "audio": "audio",
}


def sign(auth_token: str, url: str, fields: Sequence[tuple[str, str]]) -> str:
    """The signature of a request: of its whole URL, and the fields of its form in order, each name with its value."""
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return b64encode(hmac.digest(auth_token.encode(), signed.encode(), "sha1")).decode()


class TwilioInbound(Inbound):
    """One message or one status a request."""

    signature = "X-Twilio-Signature, with authToken, over the webhook's address and the form"
    answer = NOTHING_TO_SAY

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the auth token, for the address that Twilio was given."""
        check_size(request.body)
        given = request.headers.get(SIGNATURE_HEADER, "").encode()
        url = f"{account.webhook_url}?{request.query}" if request.query else account.webhook_url
        fields, token = _signed_fields(request), account.credentials["authToken"]
        if not any(hmac.compare_digest(given, sign(token, each, fields).encode()) for each in _spellings(url)):
            raise SignatureError(f"X-Twilio-Signature is not that of a request to {urlsplit(url).netloc}")

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """The message, or what became of one; nothing for a message that is still on its way."""
        del account
        fields = read_fields(request.body, request.query)
        try:
            return list(_envelopes(fields))
        except (KeyError, ValueError) as error:
            raise UnreadableError(f"this is no message of Twilio's: {type(error).__name__} {error}") from None


def _signed_fields(request: InboundRequest) -> list[tuple[str, str]]:
    """The fields of the form; none for another body, whose hash is in the address and so is signed with it."""
    hashes = parse_qs(request.query).get(BODY_HASH)
    if hashes is None:
        try:
            return read_form(request.body.decode())
        except (UnreadableError, UnicodeDecodeError):
            raise SignatureError("the body is no form, and bodySHA256 is not there") from None
    if not hmac.compare_digest(hashes[0].encode(), sha256(request.body).hexdigest().encode()):
        raise SignatureError("bodySHA256 is not that of the body")
    return []


def _spellings(url: str) -> Iterator[str]:
    """A URL as it is, with its port, and without: Twilio's services differ in which of them they sign."""
    yield url
    parts = urlsplit(url)
    bare = parts.netloc.removesuffix(f":{parts.port}")
    yield parts._replace(netloc=bare).geturl()
    yield parts._replace(netloc=f"{bare}:{parts.port or _PORTS.get(parts.scheme, 443)}").geturl()


def _envelopes(fields: Mapping[str, str]) -> Iterator[Envelope]:
    id_, status = fields["MessageSid"], fields.get("MessageStatus")
    if status in _CAME_IN:
        author = fields["From"]
        message = Message(id=id_, text=fields.get("Body") or None, attachments=tuple(_files(fields)))
        yield Envelope(event_id=id_, chat=Place(id=author), content=message, author=Person(id=author), raw=dict(fields))
    elif status in _RECEIPTS:
        kind = _RECEIPTS[status]
        error = failure(fields.get("ErrorCode"), fields.get("ErrorMessage")) if kind == "failed" else None
        receipt = Receipt(message_id=id_, status=kind, error=error)
        yield Envelope(event_id=f"{id_}.{status}", chat=Place(id=fields["To"]), content=receipt, raw=dict(fields))


def _files(fields: Mapping[str, str]) -> Iterator[File]:
    """The files of a message (MMS); they are fetched with the account's credentials."""
    for number in range(min(int(fields.get("NumMedia") or 0), ATTACHMENTS)):
        url = fields.get(f"MediaUrl{number}")
        if url is not None:
            mime_type = fields.get(f"MediaContentType{number}")
            kind = _KINDS.get((mime_type or "").partition("/")[0], "document")
            yield read_file({"type": kind, "url": url, "mimeType": mime_type})

"""Vonage's requests: messages that came in, and receipts for those that were sent.

Sources: https://developer.vonage.com/en/messaging/sms/guides/inbound-sms, .../delivery-receipts, and
https://developer.vonage.com/en/getting-started/concepts/signing-messages.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from msgcore.core.envelope import Envelope, Message, Person, Place, Receipt
from msgcore.platforms.receiving import Inbound, InboundRequest, SignatureError, UnreadableError
from msgcore.platforms.sms import check_size, read_fields, read_form
from msgcore.platforms.vonage_sms.errors import failure

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

MD5_HASH = "md5hash"
METHODS = (MD5_HASH, "md5", "sha1", "sha256", "sha512")
"""Ways of signing: a hash of the fields and the secret, or an HMAC."""
WINDOW = timedelta(hours=25)
"""How old a signature may be: what is not answered is sent again, as it is, for 24 hours. The same once more does
nothing, as its id is known."""

_MOMENT = "%Y-%m-%d %H:%M:%S"
_SHORTEST_NUMBER = 7
_NOT_SHOWN = frozenset(("api-key", "sig", "nonce"))
_RECEIPTS: Mapping[str, Literal["delivered", "failed"]] = {
    "delivered": "delivered",
    "expired": "failed",
    "failed": "failed",
    "rejected": "failed",
}


def sign(secret: str, method: str, fields: Mapping[str, str]) -> str:
    """The signature of fields, in lower case: "Manually generate a signature" of the guide."""
    signed = "".join(f"&{name}={_plain(value)}" for name, value in sorted(fields.items()))
    if method == MD5_HASH:
        return hashlib.md5((signed + secret).encode(), usedforsecurity=False).hexdigest()
    return hmac.digest(secret.encode(), signed.encode(), method).hex()


def _plain(value: str) -> str:
    return value.replace("&", "_").replace("=", "_")


class VonageInbound(Inbound):
    """One message, one part of a long one, or one receipt a request."""

    signature = "sig, with signatureSecret, over all other fields; no older than 25 hours"
    methods = ("POST", "GET")

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the signature secret."""
        check_size(request.body)
        secret = account.credentials.get("signatureSecret")
        if not secret:
            raise SignatureError("credentials.signatureSecret is not set, so nothing can be verified")
        try:
            fields = read_fields(request.body, request.query)
        except UnreadableError as error:
            raise SignatureError(str(error)) from None
        _check_names(request, fields)
        given = fields.pop("sig", "").lower()
        expected = sign(secret, account.credentials["signatureMethod"], fields)
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise SignatureError("sig is not that of the fields: compare signatureSecret and signatureMethod")
        stamp = fields.get("timestamp", "")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 12):  # noqa: PLR2004 - years that datetime knows
            raise SignatureError("timestamp is missing, or is no time")
        if abs(request.received_at - datetime.fromtimestamp(int(stamp), UTC)) > WINDOW:
            raise SignatureError("timestamp is older than Vonage repeats a request")

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """The message, or what became of one; nothing for a message that is still on its way."""
        del account
        fields = read_fields(request.body, request.query)
        try:
            return list(_envelopes(fields))
        except (KeyError, ValueError) as error:
            raise UnreadableError(f"this is no message of Vonage's: {type(error).__name__} {error}") from None


def _check_names(request: InboundRequest, fields: Mapping[str, str]) -> None:
    """Raises SignatureError for names by which other fields than those that are read could have the same signature."""
    if any(sign_ in name for name in fields for sign_ in "&="):
        raise SignatureError("a field's name has & or = in it")
    try:
        count = _count(request)
    except (UnreadableError, ValueError, RecursionError):
        raise SignatureError("the fields cannot be told apart") from None
    if count != len(fields):
        raise SignatureError("a field's name occurs twice")


def _count(request: InboundRequest) -> int:
    """How many fields there are, with those whose name was there already."""
    if request.body.startswith(b"{"):
        return len(json.loads(request.body, object_pairs_hook=list, parse_int=str))
    return len(read_form(request.body.decode() or request.query))


def _envelopes(fields: Mapping[str, str]) -> Iterator[Envelope]:
    id_, status, number = fields["messageId"], fields.get("status"), international(fields["msisdn"])
    raw = {name: value for name, value in fields.items() if name not in _NOT_SHOWN}
    at = _moment(fields.get("message-timestamp"))
    if status is None:
        message, author = Message(id=id_, text=fields.get("text")), Person(id=number)
        yield Envelope(event_id=id_, chat=Place(id=number), content=message, author=author, occurred_at=at, raw=raw)
    elif status in _RECEIPTS:
        kind = _RECEIPTS[status]
        error = failure(status, fields.get("err-code")) if kind == "failed" else None
        # Long messages go by our reference: see `perform`.
        receipt = Receipt(message_id=fields.get("client-ref") or id_, status=kind, error=error)
        event_id = f"{id_}.{status}"
        yield Envelope(event_id=event_id, chat=Place(id=number), content=receipt, occurred_at=at, raw=raw)


def international(number: str) -> str:
    """A number as it is written elsewhere; Vonage leaves the + out. Names and short codes stay as they are."""
    return f"+{number}" if number.isdigit() and len(number) >= _SHORTEST_NUMBER else number


def _moment(text: str | None) -> datetime | None:
    """A time of Vonage's, which is in UTC. Raises ValueError."""
    return None if not text else datetime.strptime(text[:19].replace("T", " "), _MOMENT).replace(tzinfo=UTC)

"""Webhooks of the Cloud API to envelopes.

Source: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages, and for
how they are verified https://developers.facebook.com/docs/graph-api/webhooks/getting-started. An app has one address
for all of its phone numbers, so what is about another number is passed over.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs

import msgspec

from msgcore.core.envelope import (
    Click,
    Envelope,
    File,
    Happening,
    Message,
    Person,
    Place,
    Reaction,
    Receipt,
    shortened,
)
from msgcore.platforms.receiving import (
    SHAPE_ERRORS,
    Inbound,
    InboundAnswer,
    InboundRequest,
    SignatureError,
    UnreadableError,
    read_each,
    read_file,
    read_object,
)
from msgcore.platforms.whatsapp_cloud.errors import describe

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

SIGNATURE_HEADER = "x-hub-signature-256"
_FILES = ("image", "video", "audio", "document", "sticker")
_STATUSES = frozenset(("delivered", "read", "failed"))
_ABOUT_THE_CHAT = frozenset(("system", "request_welcome"))
"""Kinds that nobody wrote: that a person has another number now, or opened the chat."""

Part = Mapping[str, Any]


class WhatsAppCloudInbound(Inbound):
    """Up to 1,000 messages and statuses a request."""

    signature = "X-Hub-Signature-256, by the app's secret; and hub.verify_token when the address is entered"
    methods = ("GET", "POST")

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the app's secret; the question whether we are there by the verify token."""
        name = "verifyToken" if request.method == "GET" else "appSecret"
        secret: str = account.credentials.get(name) or ""
        if not secret:
            raise SignatureError(f"credentials.{name} is not set")
        if request.method == "GET":
            given, expected = _asked(request, "hub.verify_token"), secret
        else:
            given = request.headers.get(SIGNATURE_HEADER, "")
            expected = f"sha256={hmac.digest(secret.encode(), request.body, sha256).hex()}"
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise SignatureError(f"the request is not made with credentials.{name}")

    def handshake(self, account: Account, request: InboundRequest) -> InboundAnswer | None:
        """Give the challenge back."""
        del account
        return (
            InboundAnswer(_asked(request, "hub.challenge").encode(), "text/plain") if request.method == "GET" else None
        )

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What a webhook tells of the account's number; raises UnreadableError for what is no webhook."""
        return read_each(account, _changes(read_object(request.body)), lambda change: _envelopes(account, change))


def _asked(request: InboundRequest, name: str) -> str:
    return parse_qs(request.query).get(name, [""])[0]


def _changes(body: Part) -> Sequence[Part]:
    """Raises UnreadableError."""
    try:
        return [change for entry in body.get("entry") or () for change in entry["changes"]]
    except SHAPE_ERRORS as error:
        reason = f"the webhook does not have the documented shape ({type(error).__name__})"
        raise UnreadableError(reason) from None


def _envelopes(account: Account, change: Part) -> Sequence[Envelope]:
    value: Part = change["value"]
    if change["field"] != "messages" or value["metadata"]["phone_number_id"] != account.credentials["phoneNumberId"]:
        return ()
    names = {each.get("wa_id"): _name(each) for each in value.get("contacts") or ()}
    items = [*(value.get("messages") or ()), *(value.get("statuses") or ())]
    return read_each(account, items, lambda item: _told(item, names))


def _told(item: Part, names: Mapping[Any, str | None]) -> Iterator[Envelope]:
    """A status has a word for what it is, a message a type."""
    if "status" in item:
        if item["status"] in _STATUSES:
            yield _receipt(item)
    elif item["type"] not in _ABOUT_THE_CHAT:
        yield _written(item, names.get(item["from"]))


def _name(contact: Part) -> str | None:
    profile: Part = contact.get("profile") or {}
    return shortened(profile.get("name"))


def _written(message: Part, name: str | None) -> Envelope:
    author = Person(id=message["from"], name=name)
    place = _place(message, message["from"], name)
    return _envelope(message["id"], place, _happening(message), author, message)


def _happening(message: Part) -> Happening:
    context: Part = message.get("context") or {}
    answered = context.get("id")
    match message["type"]:
        case "reaction":
            part = message["reaction"]
            emoji = part.get("emoji") or ""
            return Reaction(message_id=part["message_id"], emoji=emoji, removed=not emoji)
        case "button":
            part = message["button"]
            return Click(value=part.get("payload") or part["text"], label=part["text"], message_id=answered)
        case "interactive" if (reply := _reply(message["interactive"])) is not None:
            return Click(value=reply["id"], label=reply["title"], message_id=answered)
        case kind:
            return Message(id=message["id"], text=_text(message, kind), attachments=_files(message), reply_to=answered)


def _reply(interactive: Part) -> Part | None:
    """The button or row that was pressed; None for what else was done, such as a form that was filled in."""
    return interactive.get("button_reply") or interactive.get("list_reply")


def _text(message: Part, kind: str) -> str | None:
    held: Any = message.get(kind)
    if not isinstance(held, dict):
        return None  # contacts are a list, and what is not supported has nothing
    part = cast("Part", held)
    return part.get("body") if kind == "text" else part.get("caption") or part.get("text") or None


def _files(message: Part) -> tuple[File, ...]:
    kind = message["type"]
    if kind not in _FILES:
        return ()
    part: Part = message[kind]
    known = {
        "type": "voice" if kind == "audio" and part.get("voice") else kind,
        "id": part["id"],
        "filename": part.get("filename"),
        "mimeType": part.get("mime_type"),
    }
    return (read_file(known),)


def _receipt(status: Part) -> Envelope:
    """A message to a group has a status for each of its members."""
    word, who = status["status"], status["recipient_id"]
    errors: Sequence[Part] = status.get("errors") or ()
    error = describe(errors[0]) if errors else None
    content = msgspec.convert({"kind": "receipt", "messageId": status["id"], "status": word, "error": error}, Receipt)
    event_id = f"{status['id']}:{word}" + (f":{who}" if "group_id" in status else "")
    return _envelope(event_id, _place(status, who, None), content, None, status)


def _place(part: Part, person: str, name: str | None) -> Place:
    group = part.get("group_id")
    return Place(id=person, name=name) if group is None else Place(id=group, type="group")


def _envelope(event_id: str, place: Place, content: Happening, author: Person | None, part: Part) -> Envelope:
    moment = datetime.fromtimestamp(int(part["timestamp"]), UTC)
    return Envelope(event_id=event_id, chat=place, content=content, author=author, occurred_at=moment, raw=part)

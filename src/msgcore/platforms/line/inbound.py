"""Webhooks of the Messaging API to envelopes.

Source: https://developers.line.biz/en/reference/messaging-api/#webhook-event-objects, and for how they are verified
https://developers.line.biz/en/docs/messaging-api/verify-webhook-signature/.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from msgcore.core.envelope import (
    Click,
    Deletion,
    Edit,
    Envelope,
    File,
    Happening,
    Membership,
    Message,
    Person,
    Place,
)
from msgcore.platforms.receiving import (
    SHAPE_ERRORS,
    Inbound,
    InboundRequest,
    SignatureError,
    UnreadableError,
    read_each,
    read_file,
    read_object,
)

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

SIGNATURE_HEADER = "x-line-signature"
_FILES = {"image": "image", "video": "video", "audio": "audio", "file": "document"}

Part = Mapping[str, Any]


def sign(secret: str, body: bytes) -> str:
    """The signature of a request."""
    return b64encode(hmac.digest(secret.encode(), body, sha256)).decode()


class LineInbound(Inbound):
    """Several events a request, not all of one person; none where LINE only asks whether we are there."""

    signature = "X-Line-Signature (HMAC-SHA256), by the channel secret, over the body"

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the channel secret."""
        secret: str = account.credentials.get("channelSecret") or ""
        if not secret:
            raise SignatureError("credentials.channelSecret is not set")
        given = request.headers.get(SIGNATURE_HEADER, "")
        if not hmac.compare_digest(given.encode(), sign(secret, request.body).encode()):
            raise SignatureError("X-Line-Signature is not made with credentials.channelSecret")

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What a webhook tells; raises UnreadableError for what is none."""
        body = read_object(request.body)
        try:
            bot, events = str(body["destination"]), list(body["events"])
        except SHAPE_ERRORS as error:
            reason = f"the webhook does not have the documented shape ({type(error).__name__})"
            raise UnreadableError(reason) from None
        return read_each(account, events, lambda event: _envelopes(event, bot))


def _envelopes(event: Part, bot: str) -> Iterator[Envelope]:
    """What an event tells; what is about videos, beacons, linked accounts and modules is nothing here."""
    match event["type"]:
        case "message":
            yield _envelope(event, _message(event["message"]))
        case "messageEdited":
            message: Part = event["message"]
            yield _envelope(event, Edit(id=message["id"], text=message.get("text")))
        case "unsend":
            yield _envelope(event, Deletion(id=event["unsend"]["messageId"]))
        case "postback":
            yield _envelope(event, Click(value=event["postback"]["data"]))
        case "follow" | "unfollow" as kind:
            yield _envelope(event, Membership(joined=kind == "follow"))
        case "join" | "leave" as kind:
            yield _envelope(event, Membership(joined=kind == "join", member=Person(id=bot, is_bot=True)))
        case "memberJoined":
            yield from _moved(event, event["joined"]["members"], joined=True)
        case "memberLeft":
            yield from _moved(event, event["left"]["members"], joined=False)
        case _:
            return


def _message(message: Part) -> Message:
    """Places and most stickers have no text; what they are is in the raw event."""
    return Message(
        id=message["id"],
        text=message.get("text"),
        attachments=_files(message),
        reply_to=message.get("quotedMessageId"),
    )


def _files(message: Part) -> tuple[File, ...]:
    """The file of a message, at LINE under the message's id, or wherever an app had it sent from."""
    kind = _FILES.get(message["type"])
    if kind is None:
        return ()
    provider: Part = message.get("contentProvider") or {}
    url = provider.get("originalContentUrl")
    known = {
        "type": kind,
        "id": message["id"] if url is None else None,
        "url": url,
        "filename": message.get("fileName"),
        "size": message.get("fileSize"),
    }
    return (read_file(known),)


def _moved(event: Part, members: Sequence[Part], *, joined: bool) -> Iterator[Envelope]:
    """Several people may come or go at once; who does not share their profile has no id."""
    for member in members:
        person: str | None = member.get("userId")
        if person is not None:
            content = Membership(joined=joined, member=Person(id=person))
            yield _envelope(event, content, f"{event['webhookEventId']}:{person}")


def _envelope(event: Part, content: Happening, event_id: str | None = None) -> Envelope:
    source: Part = event["source"]
    person: str | None = source.get("userId")
    return Envelope(
        event_id=event_id or event["webhookEventId"],
        chat=_place(source),
        content=content,
        author=None if person is None else Person(id=person),
        occurred_at=datetime.fromtimestamp(event["timestamp"] / 1000, UTC),
        raw=event,
    )


def _place(source: Part) -> Place:
    """A chat with one person, a group, or a room: what groups without a name were before."""
    kind: str = source["type"]
    return Place(id=source[f"{kind}Id"], type="user" if kind == "user" else "group")

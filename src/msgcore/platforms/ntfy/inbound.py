"""Messages of ntfy to envelopes (https://docs.ntfy.sh/subscribe/api/#json-message-format), as `live.py` gets them."""

from __future__ import annotations

import binascii
import mimetypes
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from msgcore.core.envelope import Click, Deletion, Edit, Envelope, File, Happening, Message, Place, Receipt, shortened
from msgcore.platforms.ntfy.naming import TOPIC, Names, message_id
from msgcore.platforms.receiving import Inbound, InboundRequest, SignatureError, read_each, read_file, read_object

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

_KINDS = frozenset(("image", "video", "audio"))
_LONGEST_VALUE = 1024

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class _Attachment(msgspec.Struct):
    url: Annotated[str, msgspec.Meta(max_length=4096)]
    name: str = ""
    type: str = ""
    size: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None


class _Message(msgspec.Struct):
    """A message as the server gives it; of an `open` or `keepalive` only the first fields matter."""

    id: _Name
    time: int
    event: str
    topic: str = ""
    sequence_id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    title: str = ""
    message: str = ""
    click: str = ""
    encoding: str = ""
    attachment: _Attachment | None = None

    @property
    def sequence(self) -> str:
        return self.sequence_id or self.id


class NtfyInbound(Inbound):
    """One message at a time, from a connection of ours; ntfy posts nothing."""

    signature = "none: ntfy posts no webhooks, it is listened to"

    def verify(self, account: Account, request: InboundRequest) -> None:
        """Refuses everything."""
        del account, request
        raise SignatureError("ntfy posts no webhooks; set credentials.topics to listen to topics")

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What a message tells; nothing for our own, and for what only keeps the connection alive."""
        names = Names(account)

        def read(raw: Any) -> Iterator[Envelope]:
            return _envelopes(names, msgspec.convert(raw, _Message), raw)

        return read_each(account, [read_object(request.body)], read)


def _envelopes(names: Names, message: _Message, raw: Any) -> Iterator[Envelope]:
    """What a message tells.

    Nothing tells whether what comes under a sequence id of its publisher's choice is the first or takes the place of
    another: it is a message, which is passed over where it is known already, and an edit of it.
    """
    if not names.tells(message.event, message.sequence_id):
        return
    place = Place(id=msgspec.convert(message.topic, _Name), type="channel")
    id_ = message_id(message.topic, message.sequence)
    match message.event:
        case "message_delete":
            yield _envelope(message, raw, place, Deletion(id=id_))
        case "message_clear":
            yield _envelope(message, raw, place, Receipt(message_id=id_, status="read"))
        case _:
            pressed = names.pressed(message.sequence_id)
            if pressed is not None:
                yield _press(message, raw, pressed)
                return
            text, files = _text(message), _files(message)
            yield _envelope(message, raw, place, Message(id=id_, text=text, attachments=files))
            if message.sequence != message.id:
                edit = Edit(id=id_, text=text, attachments=files)
                yield _envelope(message, raw, place, edit, f"{message.id}.edit")


def _press(message: _Message, raw: Any, sequence: str) -> Envelope:
    """A button of ours was pressed: its value, and by the address that the message leads to, where it was."""
    found = message.click.rpartition("/")[2]
    topic = found if TOPIC.fullmatch(found) else message.topic
    value, label = message.message[:_LONGEST_VALUE], shortened(message.title or None)
    click = Click(value=value, message_id=message_id(topic, sequence), label=label)
    return _envelope(message, raw, Place(id=topic, type="channel"), click)


def _envelope(message: _Message, raw: Any, place: Place, content: Happening, event_id: str | None = None) -> Envelope:
    at = datetime.fromtimestamp(message.time, UTC)
    return Envelope(event_id=event_id or message.id, chat=place, content=content, occurred_at=at, raw=raw)


def _text(message: _Message) -> str | None:
    """The title and the message; not what the server writes where there is only a file."""
    text = message.message
    about = message.attachment
    if message.encoding == "base64" or (about is not None and text == f"You received a file: {about.name}"):
        text = ""
    return "\n".join(filter(None, (message.title, text))) or None


def _files(message: _Message) -> tuple[File, ...]:
    if message.encoding == "base64":
        return (File(data=binascii.a2b_base64(message.message), mime_type="application/octet-stream"),)
    about = message.attachment
    if about is None:
        return ()
    mime_type = about.type.partition(";")[0].strip() or mimetypes.guess_type(about.name)[0]
    kind = (mime_type or "").partition("/")[0]
    known = {
        "type": kind if kind in _KINDS else "document",
        "url": about.url,
        "filename": about.name or None,
        "mimeType": mime_type,
        "size": about.size,
    }
    return (read_file(known),)

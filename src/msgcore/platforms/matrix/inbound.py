"""Events of rooms to envelopes (https://spec.matrix.org/v1.18/client-server-api/#room-event-format).

Nothing is posted to us: `live.py` puts each event here, with what has to be known to read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from msgcore.core.envelope import (
    Deletion,
    Edit,
    Envelope,
    File,
    Happening,
    Membership,
    Message,
    Person,
    Place,
    Reaction,
    Receipt,
    Typing,
    shortened,
)
from msgcore.platforms.matrix.client import mapping, text
from msgcore.platforms.receiving import (
    SHAPE_ERRORS,
    Inbound,
    InboundRequest,
    SignatureError,
    UnreadableError,
    read_file,
    read_object,
)

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

Part = Mapping[str, Any]

_KINDS = {"m.image": "image", "m.video": "video", "m.audio": "audio", "m.file": "document"}
_VOICE = "org.matrix.msc3245.voice"
"""How clients mark voice messages (https://github.com/matrix-org/matrix-spec-proposals/pull/3245)."""
_LARGEST = 2**53
_FALLBACK = re.compile(r"\A(?:> [^\n]*\n)+\n?")
"""What answers began with before v1.13, and what is to be taken away (#rich-replies)."""


class MatrixInbound(Inbound):
    """One event of a timeline, or what came of receipts and typing, in each."""

    signature = "none: nothing is posted, the homeserver is asked"

    def verify(self, account: Account, request: InboundRequest) -> None:
        """Nobody posts anything for Matrix."""
        del account, request
        raise SignatureError("nothing is posted for matrix: the homeserver is asked for what happens")

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What happened. Raises UnreadableError for what does not have the documented shape."""
        del account
        try:
            return list(_envelopes(read_object(request.body)))
        except SHAPE_ERRORS as error:
            raise UnreadableError(f"the event does not have the documented shape ({type(error).__name__})") from None


def previous_membership(event: Part) -> str:
    """What somebody's membership was before an `m.room.member` event (#mroommember, `unsigned.prev_content`)."""
    return text(mapping(mapping(event.get("unsigned")).get("prev_content")).get("membership"))


def _envelopes(found: Part) -> Iterator[Envelope]:
    place = msgspec.convert(found["room"], Place)
    if "event" in found:
        event: Part = found["event"]
        content = _happening(event, found)
        if content is not None:
            author = Person(id=event["sender"], name=shortened(found.get("name") or None))
            yield _envelope(event["event_id"], place, content, author, event.get("origin_server_ts"), event)
    for each in found.get("receipts", ()):
        receipt = Receipt(message_id=each["event"], status="read")
        id_ = _made_id("read", each["event"], each["user"])
        yield _envelope(id_, place, receipt, Person(id=each["user"]), each.get("at"), each)
    for each in found.get("typing", ()):
        yield _envelope(
            _made_id("typing", place.id, each["user"], each["id"]), place, Typing(), Person(id=each["user"])
        )


def _happening(event: Part, found: Part) -> Happening | None:
    content: Part = event["content"]
    match event["type"]:
        case "m.room.message" | "m.sticker":
            return _written(event, content)
        case "m.reaction":
            relation: Part = content["m.relates_to"]
            return Reaction(message_id=_given(relation, "event_id"), emoji=_given(relation, "key"))
        case "m.room.redaction":
            was: Part = found["was"]
            if "emoji" in was:
                return Reaction(message_id=was["message"], emoji=was["emoji"], removed=True)
            return Deletion(id=was["message"])
        case "m.room.member":
            return _moved(event, content, found)
        case _:
            return None


def _written(event: Part, content: Part) -> Happening:
    relation = mapping(content.get("m.relates_to"))
    if relation.get("rel_type") == "m.replace":
        words, files = _parts(event, content["m.new_content"])
        return Edit(id=_given(relation, "event_id"), text=words, attachments=files)
    words, files = _parts(event, content)
    thread = text(relation.get("event_id")) if relation.get("rel_type") == "m.thread" else ""
    answered = text(mapping(relation.get("m.in_reply_to")).get("event_id"))
    if thread and relation.get("is_falling_back") is True:
        answered = ""  # it is for clients without threads
    if answered and words is not None:
        words = _FALLBACK.sub("", words, count=1)
    return Message(
        id=event["event_id"], text=words, attachments=files, reply_to=answered or None, thread_id=thread or None
    )


def _parts(event: Part, content: Part) -> tuple[str | None, tuple[File, ...]]:
    """The text and the file of a message; `body` is a caption where it is not the file's name (#media-captions)."""
    body = _given(content, "body")
    is_sticker = event["type"] == "m.sticker"
    kind = "sticker" if is_sticker else _KINDS.get(_given(content, "msgtype"))
    if kind is None:
        return body, ()
    if kind == "audio" and _VOICE in content:
        kind = "voice"
    name = text(content.get("filename")) or body
    about = mapping(content.get("info"))
    size = about.get("size")
    known = {
        "type": kind,
        "id": _given(content, "url"),
        "filename": None if is_sticker else name,
        "mimeType": text(about.get("mimetype")) or None,
        "size": size if isinstance(size, int) and 0 <= size <= _LARGEST else None,
    }
    return (None if name == body and not is_sticker else body), (read_file(known),)


def _moved(event: Part, content: Part, found: Part) -> Membership | None:
    """Who came or went, of all that a membership tells: invitations and new names are none of it."""
    before, after = previous_membership(event), _given(content, "membership")
    if (before == "join") == (after == "join"):
        return None
    member: str = event["state_key"]
    name = text(content.get("displayname")) or found.get("member")
    about = None if member == event["sender"] else Person(id=member, name=shortened(name or None))
    return Membership(joined=after == "join", member=about)


def _given(content: Part, name: str) -> str:
    """A text that there has to be; people put anything into their events. Raises KeyError or TypeError."""
    value = content[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _envelope(id_: str, place: Place, content: Happening, author: Person, at: Any = None, raw: Any = None) -> Envelope:
    moment = datetime.fromtimestamp(at / 1000, UTC) if isinstance(at, int | float) else None
    return Envelope(event_id=id_, chat=place, content=content, author=author, occurred_at=moment, raw=raw)


def _made_id(*parts: str) -> str:
    """An id for what Matrix gives none; the parts may be as long as an id each."""
    digest = sha256("\n".join(parts).encode()).hexdigest()
    return f"{parts[0]}:{digest[:32]}"

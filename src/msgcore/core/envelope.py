"""The envelope: what happens on a platform, in one shape whatever the platform.

Platforms' own payloads are read into envelopes (`platforms/<name>/inbound.py`); from there on nothing
depends on the platform. Names on the wire are camelCase. Fields are only ever added to a version.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

VERSION = 1

ProviderId = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
"""An id that the platform gave."""
LONGEST_NAME = 1024
LONGEST_FILENAME = LONGEST_TYPE = 255
LONGEST_EXTENSION = 20
"""Characters behind the last dot of a filename; what is longer is no extension."""
Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
Text = Annotated[str, msgspec.Meta(max_length=1_000_000)]
ATTACHMENTS = 100
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its offset."""


class _Part(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Base of the parts of an envelope; what a newer version adds is passed over."""


class Place(_Part):
    """Where it happened: a chat with one person, a group, or a channel."""

    id: ProviderId
    type: Literal["user", "group", "channel"] = "user"
    name: Name | None = None


class Person(_Part):
    """Who did it. `email` only where the platform vouches that it is theirs."""

    id: ProviderId
    name: Name | None = None
    username: Name | None = None
    email: Annotated[str, msgspec.Meta(max_length=320)] | None = None
    is_bot: bool = False


class File(_Part):
    """A file that came with a message: as `data`, at a `url`, or to be fetched by the platform's own `id`.

    `size` is in bytes; `data` in base64.
    """

    type: Literal["image", "video", "audio", "voice", "sticker", "document"] = "document"
    id: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    url: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    filename: Annotated[str, msgspec.Meta(max_length=LONGEST_FILENAME)] | None = None
    mime_type: Annotated[str, msgspec.Meta(max_length=LONGEST_TYPE)] | None = None
    size: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    data: bytes | None = None


class Message(_Part, tag="message", tag_field="kind"):
    """Somebody wrote. `reply_to` is the message that it answers, `thread_id` the thread that it is in."""

    id: ProviderId
    text: Text | None = None
    attachments: Annotated[tuple[File, ...], msgspec.Meta(max_length=ATTACHMENTS)] = ()
    reply_to: ProviderId | None = None
    thread_id: ProviderId | None = None


class Edit(_Part, tag="edit", tag_field="kind"):
    """Somebody changed a message to this."""

    id: ProviderId
    text: Text | None = None
    attachments: Annotated[tuple[File, ...], msgspec.Meta(max_length=ATTACHMENTS)] = ()


class Deletion(_Part, tag="delete", tag_field="kind"):
    """Somebody took a message back."""

    id: ProviderId


class Reaction(_Part, tag="reaction", tag_field="kind"):
    """Somebody put an emoji to a message, or took it away; without one they took away whichever they had put."""

    message_id: ProviderId
    emoji: Annotated[str, msgspec.Meta(max_length=255)]
    removed: bool = False

    def __post_init__(self) -> None:
        if not self.emoji and not self.removed:
            raise ValueError("a reaction that is put to a message has an emoji")


class Click(_Part, tag="click", tag_field="kind"):
    """Somebody pressed a button of a message; `value` is what it was sent with."""

    value: Annotated[str, msgspec.Meta(max_length=4096)]
    message_id: ProviderId | None = None
    label: Name | None = None


class Command(_Part, tag="command", tag_field="kind"):
    """Somebody gave a command such as `/help me`: `name` without the slash, and the rest."""

    id: ProviderId
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    arguments: Text = ""


class Membership(_Part, tag="membership", tag_field="kind"):
    """Somebody came into a chat or left it; `member` is who, where it was not the author's own doing."""

    joined: bool
    member: Person | None = None


class Receipt(_Part, tag="receipt", tag_field="kind"):
    """What the platform tells about a message that was sent: it arrived, was read, or could not be delivered."""

    message_id: ProviderId
    status: Literal["delivered", "read", "failed"]
    error: Name | None = None


class Typing(_Part, tag="typing", tag_field="kind"):
    """Somebody is typing."""


Happening = Message | Edit | Deletion | Reaction | Click | Command | Membership | Receipt | Typing


class Envelope(_Part):
    """One thing that happened.

    `event_id` is the platform's own id of it, by which what is sent twice is taken once: different for
    whatever is different, the same when it comes again.
    """

    event_id: ProviderId
    chat: Place
    content: Happening
    author: Person | None = None
    occurred_at: Moment | None = None
    raw: Any = None
    version: int = VERSION


class Report(_Part):
    """An envelope as an application of the user's own writes it; without `event_id` it has that of its request."""

    chat: Place
    content: Happening
    author: Person | None = None
    event_id: ProviderId | None = None
    occurred_at: Moment | None = None

    def envelope(self, event_id: str) -> Envelope:
        """The envelope of this report."""
        return Envelope(
            event_id=self.event_id or event_id,
            chat=self.chat,
            content=self.content,
            author=self.author,
            occurred_at=self.occurred_at,
        )


def shortened(text: str | None, longest: int = LONGEST_NAME) -> str | None:
    """A name as far as an envelope holds it."""
    return None if text is None else text[:longest]


def shortened_filename(name: str | None) -> str | None:
    """The same of a file, which keeps its extension: programs go by that."""
    if name is None or len(name) <= LONGEST_FILENAME:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > LONGEST_EXTENSION:
        return name[:LONGEST_FILENAME]
    return stem[: LONGEST_FILENAME - len(dot + extension)] + dot + extension


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an envelope."""
    return msgspec.json.schema(Envelope)

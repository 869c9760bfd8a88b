"""What a caller can send: the universal message, its targets and its options.

Field names on the wire are camelCase. The shapes are those of the compatible API; fields that it
does not have (`location`, `expiresAt`, `ordering`, `fallback`, ...) stand beside the compatible ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal, cast

import msgspec

WORK_AT_ONCE = 250
"""What is rendered at once (see `Content.work`), in some 6 ms at worst; more in a thread."""
MOST_EMBEDDED = 100_000
"""Characters of all embeds together, with their addresses."""

_SIGNS = b"\r\n*_~`[]!<>&\\|#-+="
"""Where markdown or HTML may begin something, and what is escaped: other characters are passed over in no time."""
_BYTES = 32
"""Of text without signs, which count as one sign."""
_PART = 2
"""What each text counts besides, such as a field of an embed."""

MAX_TARGETS = 10_000
"""Targets in one request (dispatch contract, point 13)."""

MAX_FALLBACKS = 5

ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
BodyText = Annotated[str, msgspec.Meta(max_length=1_000_000)]
# In Python, `$` alone would let a line feed at the end pass; JSON Schema's readers lose nothing by the rest.
Url = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=4096,
        pattern=r"^https?://[^\s]+$(?!\n)",
        description="an address such as https://example.com, of at most 4096 characters and without spaces",
    ),
]


class Wire(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of everything read from a request: camelCase, unknown fields refused."""


class TargetType(StrEnum):
    """Whom a target names."""

    USER = "user"
    CHANNEL = "channel"
    GROUP = "group"
    CHAT = "chat"
    IDENTITY = "identity"


class Priority(StrEnum):
    """Order of service within an account."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class ButtonStyle(StrEnum):
    """How a button looks where the platform can show it."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    SUCCESS = "success"
    DANGER = "danger"
    LINK = "link"


class Target(Wire, kw_only=True):
    """One recipient: an account (`platformId`), and a user, channel, group or chat there.

    An `identity`, and a `chat` by the `id` that `GET chats` shows, may leave `platformId` out.
    """

    platform_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = ""
    type: TargetType
    id: ShortText


class Attachment(Wire):
    """A file, by `url` or inline as base64 `data` (exactly one of the two)."""

    url: Url | None = None
    data: str | None = None
    filename: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    mime_type: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=255,
                pattern=r"^[A-Za-z0-9_.+-]+/[A-Za-z0-9_.+-]+$(?!\n)",
                description="a MIME type such as image/png",
            ),
        ]
        | None
    ) = None
    caption: Annotated[str, msgspec.Meta(max_length=4096)] | None = None


class Button(Wire):
    """A button with a `value` that comes back when it is pressed, or a `url` that it opens."""

    text: ShortText
    value: ShortText | None = None
    url: Url | None = None
    style: ButtonStyle | None = None


class EmbedAuthor(Wire):
    """Who an embed is by."""

    name: ShortText
    url: Url | None = None
    icon_url: Url | None = None


class EmbedFooter(Wire):
    """Small print of an embed."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    icon_url: Url | None = None


class EmbedField(Wire):
    """One name and value pair of an embed."""

    name: ShortText
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    inline: bool | None = None


class Embed(Wire):
    """A rich card."""

    title: ShortText | None = None
    description: BodyText | None = None
    color: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    url: Url | None = None
    image_url: Url | None = None
    thumbnail_url: Url | None = None
    author: EmbedAuthor | None = None
    footer: EmbedFooter | None = None
    timestamp: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    fields: Annotated[list[EmbedField], msgspec.Meta(max_length=100)] | None = None


class Location(Wire):
    """A place on the map, in degrees (WGS 84); `name` and `address` where it has them."""

    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    longitude: Annotated[float, msgspec.Meta(ge=-180, le=180)]
    name: ShortText | None = None
    address: ShortText | None = None


class Contact(Wire):
    """Somebody's card; `phone` with its country code, such as +4915112345678."""

    name: ShortText
    phone: (
        Annotated[
            str,
            msgspec.Meta(pattern=r"^\+?[0-9 ()./-]{3,32}$(?!\n)", description="a phone number such as +4915112345678"),
        ]
        | None
    ) = None
    email: Annotated[str, msgspec.Meta(min_length=3, max_length=320)] | None = None
    organization: ShortText | None = None


class Poll(Wire):
    """A question with answers to choose from, one or (`multiple`) several."""

    question: ShortText
    options: Annotated[list[ShortText], msgspec.Meta(min_length=2, max_length=12)]
    multiple: bool | None = None


class Content(Wire):
    """The universal message. At least one part must be there."""

    subject: Annotated[str, msgspec.Meta(max_length=998)] | None = None
    text: BodyText | None = None
    markdown: BodyText | None = None
    html: BodyText | None = None
    attachments: Annotated[list[Attachment], msgspec.Meta(max_length=100)] | None = None
    buttons: Annotated[list[Button], msgspec.Meta(max_length=100)] | None = None
    embeds: Annotated[list[Embed], msgspec.Meta(max_length=100)] | None = None
    location: Location | None = None
    contact: Contact | None = None
    poll: Poll | None = None
    platform_options: dict[str, dict[str, Any]] | None = None

    def has_body(self) -> bool:
        """Whether there is anything to show besides a subject."""
        written = self.text or self.markdown or self.html
        return bool(written or self.attachments or self.buttons or self.embeds or self.has_special())

    def length(self) -> int:
        """Characters of all its texts."""
        return sum(len(text or "") for text in (self.text, self.markdown, self.html)) + self.embedded()

    def embedded(self) -> int:
        """Characters of its embeds."""
        return sum(map(len, _texts(self.embeds)))

    def work(self) -> int:
        """What it costs to render: mostly signs and lines, 5 to 25 microseconds each; long ones are not counted."""
        formatted = (self.subject, self.text, self.markdown, self.html, self.embeds)
        beside = (self.attachments, self.buttons, self.location, self.contact, self.poll)
        return sum(_work(text) for part in (*formatted, *beside) if part for text in _texts(part))

    def is_long(self) -> bool:
        """Whether whatever reads its texts takes a thread."""
        return self.work() > WORK_AT_ONCE

    def has_special(self) -> bool:
        """Whether it holds a location, a contact or a poll."""
        return self.location is not None or self.contact is not None or self.poll is not None


def _texts(part: object) -> Iterator[str]:
    """All texts in a part of a content, but no files."""
    match part:
        case str():
            yield part
        case Attachment():
            yield from filter(None, (part.url, part.filename, part.caption))
        case list():
            for each in cast("list[object]", part):
                yield from _texts(each)
        case msgspec.Struct():
            for name in part.__struct_fields__:
                yield from _texts(getattr(part, name))
        case _:
            pass


def _work(text: str) -> int:
    if len(text) > _BYTES * WORK_AT_ONCE:  # too much anyway
        return len(text) // _BYTES
    written = text.encode(errors="replace")
    return _PART + len(written) // _BYTES + len(written) - len(written.translate(None, _SIGNS))


class Fallback(Wire):
    """Where a message goes if its target cannot be reached: one target after the other, until one is sent.

    The next one takes over when the one before it failed for good, or was not sent `after_seconds` after it was due.
    """

    targets: Annotated[list[Target], msgspec.Meta(min_length=1, max_length=MAX_FALLBACKS)]
    after_seconds: Annotated[int, msgspec.Meta(ge=10, le=86_400)] | None = None


class SendOptions(Wire):
    """How to deliver.

    `scheduled` and `expires_at` are ISO 8601 with an offset. `ordering` overrides whether the
    platform's lanes are ordered. `on_uncertain` decides what happens to a delivery whose last
    attempt may have reached the platform (dispatch contract, point 4). `thread_id` is the platform's id of
    the thread (topic) that a message goes to. What is too long for one message of a platform is split
    (`long_text`), and what it cannot show is shown otherwise (`degradation`), or both are refused.
    `ignore_opt_out` sends to people who opted out too: for what they must get in any case, by callers who may
    also change opt-outs. `fallback` is for messages with one target.
    """

    reply_to: ShortText | None = None
    thread_id: ShortText | None = None
    silent: bool | None = None
    long_text: Literal["split", "refuse"] | None = None
    degradation: Literal["allow", "refuse"] | None = None
    scheduled: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    expires_at: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    ordering: Literal["strict", "none"] | None = None
    on_uncertain: Literal["resend", "fail"] | None = None
    ignore_opt_out: bool | None = None
    fallback: Fallback | None = None


class SendMetadata(Wire):
    """What the caller wants to find again."""

    tracking_id: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    tags: Annotated[list[ShortText], msgspec.Meta(max_length=100)] | None = None
    priority: Priority | None = None


class SendRequest(Wire):
    """Body of `POST /api/v1/projects/{project}/messages/send`."""

    targets: Annotated[list[Target], msgspec.Meta(min_length=1, max_length=MAX_TARGETS)]
    content: Content
    options: SendOptions | None = None
    metadata: SendMetadata | None = None

    def every_target(self) -> list[Target]:
        """All targets that it names, those to fall back on last."""
        fallback = self.options.fallback if self.options is not None else None
        return [*self.targets, *(fallback.targets if fallback is not None else ())]

"""Universal content to messages of Twilio's (https://www.twilio.com/docs/messaging/api/message-resource)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from msgcore.core.content import Attachment, Content
from msgcore.outbound.layout import FileRules, Layout, Shows
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.dialect import PLAIN
from msgcore.outbound.sms import measure, note_segments

PLATFORM = "twilio-sms"
LONGEST = 1600
"""Of Body, "up to 1,600 characters in length"; error 21617."""
MEDIA = 10
"""MediaUrl fields of a message."""
LONGEST_WAIT = 36_000
"""Seconds of ValidityPeriod."""

_MEGABYTE = 1024 * 1024


class TwilioSmsOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.twilio-sms`: what a message of Twilio's has beyond the universal one."""

    smart_encoded: (
        Annotated[
            bool,
            msgspec.Meta(
                description="typographic signs, such as curly quotes, are replaced by those of GSM's alphabet"
            ),
        ]
        | None
    ) = None
    send_as_mms: Annotated[bool, msgspec.Meta(description="one MMS in place of several segments")] | None = None
    shorten_urls: (
        Annotated[bool, msgspec.Meta(description="links are shortened; with a messaging service that is set up for it")]
        | None
    ) = None
    validity_period: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=LONGEST_WAIT,
                description="seconds that the message may wait at Twilio; `options.expiresAt` shortens that by itself",
            ),
        ]
        | None
    ) = None


SHOWS = Shows(
    dialect=PLAIN,
    text=LONGEST,
    measure=measure,
    note=note_segments,
    caption=LONGEST,
    # "The media size limit is 5 MB for supported file types (jpeg, jpg, png, gif) and 500 KB for other types".
    files=FileRules({"image": 5 * _MEGABYTE, "document": 500 * 1024}, MEDIA, fetched=True),
    replies=False,
)


def calls(content: Content, layout: Layout) -> Sequence[Call]:
    """The messages, without the recipient and the sender: texts first, then files with what stands beside them."""
    own = msgspec.convert((content.platform_options or {}).get(PLATFORM, {}), TwilioSmsOptions)
    every = _every(own)
    made = [Call("Messages", {"Body": text} | every) for text in layout.texts]
    for files, caption in _together(layout):
        body: dict[str, Any] = {"MediaUrl": [file.url for file in files]}
        made.append(Call("Messages", ({"Body": caption} if caption else {}) | body | every))
    return made


def _every(own: TwilioSmsOptions) -> dict[str, Any]:
    fields = {
        "SmartEncoded": own.smart_encoded,
        "SendAsMms": own.send_as_mms,
        "ShortenUrls": own.shorten_urls,
        "ValidityPeriod": own.validity_period,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _together(layout: Layout) -> Iterator[tuple[list[Attachment], str | None]]:
    """Files of one message each, with their text: one with a caption begins a new message."""
    files: list[Attachment] = []
    beside: str | None = None
    for file, caption in zip(layout.files, layout.captions, strict=True):
        if files and (caption or len(files) == MEDIA):
            yield files, beside
            files, beside = [], None
        files.append(file)
        beside = beside or caption
    if files:
        yield files, beside

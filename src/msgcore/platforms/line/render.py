"""Universal content to messages of LINE (https://developers.line.biz/en/reference/messaging-api/#message-objects).

A call is one push: up to five messages, which LINE takes or refuses together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from string import punctuation
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from msgcore.core.content import Attachment, Button, Content, Location, SendOptions
from msgcore.core.errors import FieldError
from msgcore.outbound.attachments import type_of
from msgcore.outbound.extras import place_name
from msgcore.outbound.layout import ButtonRules, FileRules, Layout, Shows
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.dialect import PLAIN

PUSH = "push"
TOGETHER = 5
"""Messages of one push (#send-push-message-request-body)."""
MEGABYTE = 1024 * 1024
LONGEST_FILE_URL, LONGEST_BUTTON_URL = 2000, 1000
LONGEST_PLACE = 100

_PICTURES = frozenset(("image/jpeg", "image/png"))
_VIDEOS = frozenset(("video/mp4",))
_SOUNDS = frozenset(("audio/mpeg", "audio/mp4", "audio/m4a", "audio/x-m4a", "audio/mp4a-latm"))
"""MP3 and M4A, by the names that either goes by."""

Token = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
HttpsUrl = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_FILE_URL, pattern=r"^https://[^\s]+$(?!\n)")]


class LineOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.line`: what the API has beyond the universal message."""

    quote_token: (
        Annotated[Token, msgspec.Meta(description="the `quoteToken` of a message in this chat: the text quotes it")]
        | None
    ) = None
    mark_as_read_token: (
        Annotated[
            Token,
            msgspec.Meta(
                description="the `markAsReadToken` of a message: it, and what came before, is shown as read first"
            ),
        ]
        | None
    ) = None
    preview_image_url: (
        Annotated[
            HttpsUrl,
            msgspec.Meta(
                description="a JPEG or PNG of up to 1 MB that stands for the videos, and the pictures, until they are "
                "opened; videos without one are shown as links"
            ),
        ]
        | None
    ) = None
    duration: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1, le=2**31 - 1, description="milliseconds of the sounds; those without it are shown as links"
            ),
        ]
        | None
    ) = None


def units(text: str) -> int:
    """UTF-16 code units, which is what LINE limits (https://developers.line.biz/en/docs/messaging-api/text-character-count/).

    Of texts above buttons and of labels it counts grapheme clusters, which are never more.
    """
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# #buttons, #action-object-label-spec, #postback-action; values are 300 characters, and bytes are never fewer.
BUTTONS = ButtonRules(most=4, text=20, value=300, body=160)
# #image-message, #video-message, #audio-message
FILES = FileRules({"image": 10 * MEGABYTE, "video": 200 * MEGABYTE, "audio": 200 * MEGABYTE}, TOGETHER, fetched=True)
SHOWS = Shows(
    dialect=PLAIN,
    text=5000,  # #text-message
    measure=units,
    buttons=BUTTONS,
    location=True,
    silent=True,
    replies=False,
)
"""Of files in general; `shows_of` has those that are shown as such."""


def read_options(content: Content) -> LineOptions:
    """The LINE options of a content that was checked before."""
    return msgspec.convert((content.platform_options or {}).get("line", {}), LineOptions)


def shows_of(content: Content) -> Shows:
    """What LINE shows of a content: its files if it shows all of them, and its buttons unless an address is too long.

    It has no message for other files than pictures, videos and sounds.
    """
    own, files = read_options(content), content.attachments or ()
    shown = bool(files) and all(_is_shown(file, own) for file in files)
    fits = all(len(_encoded(each.url or "")) <= LONGEST_BUTTON_URL for each in content.buttons or ())
    return replace(SHOWS, files=FILES if shown else None, buttons=BUTTONS if fits else None)


def _is_shown(file: Attachment, own: LineOptions) -> bool:
    if file.url is None or not file.url.startswith("https://") or len(_encoded(file.url)) > LONGEST_FILE_URL:
        return False
    kind = type_of(file)
    return (
        kind in _PICTURES
        or (kind in _VIDEOS and own.preview_image_url is not None)
        or (kind in _SOUNDS and own.duration is not None)
    )


def errors_of(content: Content, made: Sequence[Call]) -> list[FieldError]:
    """What keeps the options from being kept."""
    if read_options(content).quote_token is None or not made or _quotes(made):
        return []
    message = "content.platformOptions.line.quoteToken: only a text can quote a message, and none stands by itself here"
    return [FieldError("/content/platformOptions/line/quoteToken", message)]


def _quotes(made: Sequence[Call]) -> bool:
    return any("quoteToken" in message for call in made for message in call.body["messages"])


def calls(content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
    """The pushes of a message, without the recipient: text, files, a place, and buttons at the end.

    Pieces of a long text go by themselves, so that each has its id, by which quotes of it are known. What goes together
    is taken or refused as one.
    """
    own = read_options(content)
    *texts, body = layout.texts if layout.buttons else [*layout.texts, None]
    messages = [_text(text) for text in texts if text is not None]
    if own.quote_token is not None and messages:
        messages[0]["quoteToken"] = own.quote_token
    alone, rest = messages[:-1], messages[-1:]
    rest += [_file(file, own) for file in layout.files]
    if layout.location is not None:
        rest.append(_place(layout.location))
    if body is not None:
        rest.append(_template(body, layout.buttons))
    groups = [[each] for each in alone] + [rest[at : at + TOGETHER] for at in range(0, len(rest), TOGETHER)]
    every = {"notificationDisabled": True} if options.silent else {}
    return [Call(PUSH, {"messages": group, **every}) for group in groups]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _file(file: Attachment, own: LineOptions) -> dict[str, Any]:
    url, kind = _encoded(file.url or ""), type_of(file)
    if kind in _SOUNDS:
        return {"type": "audio", "originalContentUrl": url, "duration": own.duration}
    preview = url if own.preview_image_url is None else _encoded(own.preview_image_url)
    name = "video" if kind in _VIDEOS else "image"
    return {"type": name, "originalContentUrl": url, "previewImageUrl": preview}


def _place(place: Location) -> dict[str, Any]:
    degrees = f"{place.latitude}, {place.longitude}"
    return {
        "type": "location",
        "title": _cut(place.name or place_name(place)),
        "address": _cut(place.address or degrees),
        "latitude": place.latitude,
        "longitude": place.longitude,
    }


def _cut(text: str) -> str:
    """As much of a text as a place may be called."""
    return text.encode("utf-16-le", "surrogatepass")[: 2 * LONGEST_PLACE].decode("utf-16-le", "ignore")


def _template(text: str, buttons: Sequence[Button]) -> dict[str, Any]:
    """A text with buttons; the same text is what notifications and lists of chats show."""
    template = {"type": "buttons", "text": text, "actions": [_action(button) for button in buttons]}
    return {"type": "template", "altText": text, "template": template}


def _action(button: Button) -> dict[str, Any]:
    """What a button does; one with a value is shown in the chat as what the person said."""
    if button.url is not None:
        return {"type": "uri", "label": button.text, "uri": _encoded(button.url)}
    return {
        "type": "postback",
        "label": button.text,
        "data": button.value or button.text,
        "displayText": button.text,
    }


def _encoded(url: str) -> str:
    """An address as LINE wants it: in ASCII (#url-encoding)."""
    return quote(url, safe=punctuation)

"""Universal content to messages of the Cloud API.

Source: https://developers.facebook.com/documentation/business-messaging/whatsapp/messages (limits: the pages of
each kind of message, and https://github.com/facebook/openapi).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from msgcore.core.content import Attachment, Button, Contact, Content, Location, SendOptions
from msgcore.outbound.attachments import name_of, type_of
from msgcore.outbound.layout import ButtonRules, FileRules, Layout, Shows
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.whatsapp import WHATSAPP

MEGABYTE = 1024 * 1024
MESSAGES = "messages"
"""The endpoint of everything that is sent."""
REPLY_BUTTONS = 3
"""More of them are a list ("Interactive reply buttons messages")."""

_IMAGES = frozenset(("image/jpeg", "image/png"))
_VIDEOS = frozenset(("video/mp4", "video/3gp", "video/3gpp"))
_AUDIO = frozenset(("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"))
_WITHOUT_CAPTION = frozenset(("audio", "sticker"))


class TemplateComponent(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What fills a part of a template, by Meta's own names."""

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    sub_type: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    index: Annotated[str, msgspec.Meta(pattern=r"^[0-9]$(?!\n)")] | None = None
    parameters: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=100)] | None = None


class Template(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A template that Meta has approved."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    language: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$(?!\n)")]
    components: Annotated[list[TemplateComponent], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=list[TemplateComponent]
    )


class WhatsAppCloudOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.whatsapp-cloud`: what the Cloud API has beyond the universal message."""

    template: (
        Annotated[
            Template,
            msgspec.Meta(description="a template that Meta has approved, with what fills it; it goes out alone"),
        ]
        | None
    ) = None
    preview_url: Annotated[bool, msgspec.Meta(description="a preview of the first link of a text")] | None = None
    mark_read: (
        Annotated[bool, msgspec.Meta(description="what is answered (`options.replyTo`) is shown as read first")] | None
    ) = None
    callback_data: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=512,
                description="a text that comes back with each status (`biz_opaque_callback_data`)",
            ),
        ]
        | None
    ) = None
    list_button: Annotated[str, msgspec.Meta(min_length=1, max_length=20, description="what opens a list")] = "Options"
    footer: (
        Annotated[str, msgspec.Meta(min_length=1, max_length=60, description="small print below buttons")] | None
    ) = None


SHOWS = Shows(
    dialect=WHATSAPP,
    text=4096,  # "Text messages", body
    caption=1024,  # "Image messages", caption
    # "Media", "Supported media types"
    files=FileRules(
        {"image": 5 * MEGABYTE, "video": 16 * MEGABYTE, "audio": 16 * MEGABYTE, "document": 100 * MEGABYTE}
    ),
    # "Interactive list messages": 10 rows, ids of 200 characters; "Interactive reply buttons messages": titles of 20;
    # "Interactive call-to-action URL button messages": one button; a body has 1,024 characters.
    buttons=ButtonRules(most=10, text=20, value=200, alone=True, body=1024),
    location=True,
    contact=True,
)


def read_options(content: Content) -> WhatsAppCloudOptions:
    """The options of a content that was checked before."""
    return msgspec.convert((content.platform_options or {}).get("whatsapp-cloud", {}), WhatsAppCloudOptions)


def template_call(template: Template, own: WhatsAppCloudOptions, options: SendOptions) -> Call:
    """A template goes alone: it has its text at Meta."""
    body: dict[str, Any] = {"name": template.name, "language": {"policy": "deterministic", "code": template.language}}
    if template.components:
        body["components"] = msgspec.to_builtins(template.components)
    return _as_reply([_finished("template", body, own)], options)[0]


def calls(content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
    """The messages of a content, without their recipient: text, files, what stands alone, and buttons at the end."""
    own = read_options(content)
    *texts, body = layout.texts if layout.buttons else [*layout.texts, None]
    made = [_text(text, own) for text in texts if text is not None]
    for file, caption in zip(layout.files, layout.captions, strict=True):
        made += _file(file, caption, own)
    if layout.location is not None:
        made.append(_finished("location", _location(layout.location), own))
    if layout.contact is not None:
        made.append(_finished("contacts", [_card(layout.contact)], own))
    if body is not None:
        made.append(_finished("interactive", _interactive(body, layout.buttons, own), own))
    return _as_reply(made, options)


def reaction(message_id: str, emoji: str) -> Call:
    """An emoji put to a message, in place of the one before; an empty one takes it away."""
    return Call(MESSAGES, {"type": "reaction", "reaction": {"message_id": message_id, "emoji": emoji}})


def _finished(kind: str, part: Any, own: WhatsAppCloudOptions, *files: Attachment) -> Call:
    body: dict[str, Any] = {"type": kind, kind: part}
    if own.callback_data is not None:
        body["biz_opaque_callback_data"] = own.callback_data
    return Call(MESSAGES, body, files)


def _as_reply(made: list[Call], options: SendOptions) -> list[Call]:
    if options.reply_to is not None and made:
        made[0].body["context"] = {"message_id": options.reply_to}
    return made


def _text(text: str, own: WhatsAppCloudOptions) -> Call:
    part: dict[str, Any] = {"body": text}
    if own.preview_url is not None:
        part["preview_url"] = own.preview_url
    return _finished("text", part, own)


def _file(file: Attachment, caption: str | None, own: WhatsAppCloudOptions) -> list[Call]:
    """A file; its caption goes ahead of it where it may not stand below."""
    name, kind = name_of(file), _kind(type_of(file))
    part: dict[str, Any] = {} if file.url is None else {"link": file.url}
    if kind == "document" and name:
        part["filename"] = name
    before: list[Call] = []
    if caption is not None and kind in _WITHOUT_CAPTION:
        before.append(_text(caption, own))
    elif caption is not None:
        part["caption"] = caption
    return [*before, _finished(kind, part, own, *(() if file.url is not None else (file,)))]


def _kind(mime_type: str) -> str:
    """How a file is shown: as what it is, where WhatsApp takes such, else as a document."""
    if mime_type in _IMAGES:
        return "image"
    if mime_type == "image/webp":
        return "sticker"
    if mime_type in _VIDEOS:
        return "video"
    return "audio" if mime_type in _AUDIO else "document"


def _location(place: Location) -> dict[str, str]:
    # Strings in the published description. A seventh digit is a centimetre.
    where = {"latitude": f"{place.latitude:.7f}", "longitude": f"{place.longitude:.7f}"}
    return where | {name: text for name, text in (("name", place.name), ("address", place.address)) if text}


def _card(card: Contact) -> dict[str, Any]:
    made: dict[str, Any] = {"name": {"formatted_name": card.name, "first_name": card.name}}
    if card.phone:
        made["phones"] = [{"phone": card.phone}]
    if card.email:
        made["emails"] = [{"email": card.email}]
    if card.organization:
        made["org"] = {"company": card.organization}
    return made


def _interactive(text: str, buttons: Sequence[Button], own: WhatsAppCloudOptions) -> dict[str, Any]:
    """One button that opens a URL, up to three that answer, or a list of answers."""
    first = buttons[0]
    if first.url is not None:
        parameters = {"display_text": first.text, "url": first.url}
        kind, action = "cta_url", {"name": "cta_url", "parameters": parameters}
    elif len(buttons) <= REPLY_BUTTONS:
        replies = [{"type": "reply", "reply": {"id": each.value or each.text, "title": each.text}} for each in buttons]
        kind, action = "button", {"buttons": replies}
    else:
        rows = [{"id": each.value or each.text, "title": each.text} for each in buttons]
        kind, action = "list", {"button": own.list_button, "sections": [{"rows": rows}]}
    made: dict[str, Any] = {"type": kind, "body": {"text": text}, "action": action}
    return made if own.footer is None else made | {"footer": {"text": own.footer}}

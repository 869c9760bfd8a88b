"""Universal content to calls of the Evolution API, which speaks to WhatsApp as a linked device.

Source: https://doc.evolution-api.com/v2/api-reference/message-controller, and for what is required the server's own
rules, https://github.com/EvolutionAPI/evolution-api (2.3.6, src/validate/message.schema.ts).
"""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from msgcore.core.content import Attachment, Contact, Content, Location, Poll, SendOptions
from msgcore.outbound.attachments import UNKNOWN_TYPE, LoadedAttachment, name_of, type_of
from msgcore.outbound.layout import FileRules, Layout, PollRules, Shows
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.whatsapp import WHATSAPP

MEGABYTE = 1024 * 1024
TYPING_MILLISECONDS = 5000
MEDIA, AUDIO = "sendMedia", "sendWhatsAppAudio"

Jid = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{5,20}(@[a-z.]+)?$(?!\n)")]


class WhatsAppEvoOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """`content.platformOptions.whatsapp-evo`: what the Evolution API has beyond the universal message."""

    link_preview: Annotated[bool, msgspec.Meta(description="`false`: no preview of links")] | None = None
    delay: Annotated[int, msgspec.Meta(ge=0, le=10_000, description='milliseconds of "typing" before')] | None = None
    mentioned: (
        Annotated[list[Jid], msgspec.Meta(min_length=1, max_length=1024, description="who is mentioned, in groups")]
        | None
    ) = None
    mentions_every_one: Annotated[bool, msgspec.Meta(description="everybody in the group is mentioned")] | None = None


SHOWS = Shows(
    dialect=WHATSAPP,
    # WhatsApp's apps take more; these are the published figures of its Cloud API.
    text=4096,
    caption=1024,
    # The server takes bodies of 136 MB (src/main.ts), which are files of 100 MB in base64.
    files=FileRules(dict.fromkeys(("image", "video", "audio", "document"), 100 * MEGABYTE)),
    location=True,
    contact=True,
    poll=PollRules(question=255, options=10, option=100),  # `values`: 2 to 10
)
"""No buttons: WhatsApp does not show those of linked devices any more."""


def calls(content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
    """The calls of a message, without the number: text, files, and what stands alone."""
    own = msgspec.convert((content.platform_options or {}).get("whatsapp-evo", {}), WhatsAppEvoOptions)
    made = [Call("sendText", {"text": text}) for text in layout.texts]
    for file, caption in zip(layout.files, layout.captions, strict=True):
        made += _file(file, caption)
    if layout.location is not None:
        made.append(Call("sendLocation", _location(layout.location)))
    if layout.contact is not None:
        made.append(Call("sendContact", {"contact": [_card(layout.contact)]}))
    if layout.poll is not None:
        made.append(Call("sendPoll", _poll(layout.poll)))
    every: dict[str, Any] = msgspec.to_builtins(own)
    for call in made:
        if call.method != "sendContact":  # which knows none of them
            call.body.update(every)
    if options.reply_to is not None and made:
        made[0].body["quoted"] = {"key": _key(options.reply_to)}
    return made


def reaction(chat: str, message_id: str, emoji: str, *, from_me: bool) -> Call:
    """An emoji put to a message, in place of the one before; an empty one takes it away."""
    return Call("sendReaction", {"key": _place(chat, message_id, from_me=from_me), "reaction": emoji})


def edit(chat: str, message_id: str, written: Call) -> Call:
    """A message of ours changed to what a rendered `sendText` says; the server compares the number with the key's."""
    key = _place(chat, message_id, from_me=True)
    return Call("updateMessage", {"number": key["remoteJid"], "key": key, "text": written.body["text"]})


def delete(chat: str, message_id: str) -> Call:
    """A message of ours taken away for everybody."""
    return Call("deleteMessageForEveryone", _place(chat, message_id, from_me=True))


def typing(chat: str) -> Call:
    """Typing shown for a while, at whose end the server answers."""
    return Call("sendPresence", {"number": chat, "presence": "composing", "delay": TYPING_MILLISECONDS})


def read_mark(chat: str, message_id: str) -> Call:
    """A message of somebody else's marked as read."""
    return Call("markMessageAsRead", {"readMessages": [_place(chat, message_id, from_me=False)]})


def _place(chat: str, message_id: str, *, from_me: bool) -> dict[str, Any]:
    return {"remoteJid": chat, "fromMe": from_me, **_key(message_id)}


def _key(message_id: str) -> dict[str, str]:
    """WhatsApp's id in ours, and the chat that is in it; an id of WhatsApp's own is taken as well.

    No chat has a colon in it, but an id may have one.
    """
    chat, found, id_ = message_id.partition(":")
    return {"remoteJid": chat, "id": id_} if found else {"id": message_id}


def with_file(call: Call, file: LoadedAttachment, encoded: str) -> dict[str, Any]:
    """The body of a call with its file in base64."""
    if call.method == AUDIO:
        return {**call.body, "audio": encoded}
    return {
        **call.body,
        "media": encoded,
        "mimetype": file.mime_type,
        "fileName": _complete(file.filename, file.mime_type),
    }


def _file(file: Attachment, caption: str | None) -> list[Call]:
    """A file. Audio is shown as a voice message, which has no caption: that goes ahead of it."""
    kind = type_of(file)
    files = () if file.url is not None else (file,)
    if kind.startswith("audio/"):
        before = [] if caption is None else [Call("sendText", {"text": caption})]
        return [*before, Call(AUDIO, {} if file.url is None else {"audio": file.url}, files)]
    family = kind.partition("/")[0]
    body: dict[str, Any] = {"mediatype": family if family in ("image", "video") else "document"}
    if caption is not None:
        body["caption"] = caption
    if file.url is not None:
        mime_type = kind or UNKNOWN_TYPE
        body |= {"media": file.url, "mimetype": mime_type, "fileName": _complete(name_of(file) or "file", mime_type)}
    return [Call(MEDIA, body, files)]


def _complete(name: str, mime_type: str) -> str:
    """A name with an ending: the server goes by that, whatever type it is told."""
    return name if mimetypes.guess_type(name)[0] else name + (mimetypes.guess_extension(mime_type) or ".bin")


def _location(place: Location) -> dict[str, Any]:
    # Both words are required.
    words = {"name": place.name or "", "address": place.address or ""}
    return {"latitude": place.latitude, "longitude": place.longitude, **words}


def _card(card: Contact) -> dict[str, str]:
    number = card.phone or ""
    made = {"fullName": card.name, "phoneNumber": number, "wuid": "".join(filter(str.isdigit, number))}
    return made | {name: text for name, text in (("organization", card.organization), ("email", card.email)) if text}


def _poll(poll: Poll) -> dict[str, Any]:
    return {
        "name": poll.question,
        "values": list(poll.options),
        "selectableCount": len(poll.options) if poll.multiple else 1,
    }

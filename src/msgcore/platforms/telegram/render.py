"""Universal content to calls of the Bot API (https://core.telegram.org/bots/api)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape as escape_html
from html import unescape
from typing import Annotated, Any

import msgspec

from msgcore.core.actions import Delete, Edit, React, Unreact
from msgcore.core.content import Attachment, Button, ButtonStyle, Content, SendOptions
from msgcore.outbound.attachments import type_of
from msgcore.outbound.layout import ButtonRules, FileRules, Layout, PollRules, Shows
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.dialect import Dialect
from msgcore.outbound.rich.tree import Mark

MEGABYTE = 1024 * 1024
GROUP = 10
"""Files of an album (sendMediaGroup: 2 to 10 items)."""

_TAG = re.compile(r"<[^>]*>")
_METHODS = {"photo": "sendPhoto", "video": "sendVideo", "audio": "sendAudio", "document": "sendDocument"}
_KINDS = {"image": "photo", "video": "video", "audio": "audio"}
_STYLES = {ButtonStyle.PRIMARY: "primary", ButtonStyle.SUCCESS: "success", ButtonStyle.DANGER: "danger"}


class TelegramOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.telegram`: what the Bot API has beyond the universal message."""

    protect_content: Annotated[bool, msgspec.Meta(description="no forwarding, no saving")] | None = None
    disable_link_preview: Annotated[bool, msgspec.Meta(description="no preview of the first link")] | None = None
    message_effect_id: (
        Annotated[str, msgspec.Meta(max_length=64, description="an animation, in private chats")] | None
    ) = None
    buttons_per_row: Annotated[
        int, msgspec.Meta(ge=1, le=8, description="how many buttons stand beside each other")
    ] = 1


def _text(text: str) -> str:
    return escape_html(text, quote=False)


def _link(words: str, address: str) -> str:
    return f'<a href="{escape_html(address)}">{words}</a>'


# "Formatting options", "HTML style".
DIALECT = Dialect(
    "Telegram HTML",
    marks={
        Mark.BOLD: ("<b>", "</b>"),
        Mark.ITALIC: ("<i>", "</i>"),
        Mark.UNDERLINE: ("<u>", "</u>"),
        Mark.STRIKE: ("<s>", "</s>"),
        Mark.CODE: ("<code>", "</code>"),
        Mark.SPOILER: ("<tg-spoiler>", "</tg-spoiler>"),
    },
    heading=("<b>", "</b>"),
    quote=("<blockquote>", "</blockquote>"),
    code=('<pre><code class="language-{language}">', "</code></pre>"),
    escape=_text,
    escape_code=_text,
    link=_link,
)


def visible_length(html: str) -> int:
    """UTF-16 code units of what is left "after entities parsing", which is what Telegram limits."""
    return len(unescape(_TAG.sub("", html)).encode("utf-16-le")) // 2


SHOWS = Shows(
    dialect=DIALECT,
    text=4096,  # sendMessage, text
    caption=1024,  # sendPhoto, caption
    measure=visible_length,
    # "Sending files": photos of 10 MB, other files of 50 MB by upload.
    files=FileRules(
        {"image": 10 * MEGABYTE, "video": 50 * MEGABYTE, "audio": 50 * MEGABYTE, "document": 50 * MEGABYTE}, GROUP
    ),
    buttons=ButtonRules(most=100, text=64, value=64, per_row=8),  # InlineKeyboardButton, callback_data: 1-64 bytes
    location=True,
    contact=True,
    poll=PollRules(question=300, options=12, option=100),  # sendPoll, InputPollOption
    silent=True,
    threads=True,
)


def calls(content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
    """The calls of a message, without the chat: text first, then files, then what stands alone."""
    own = read_options(content)
    made = [Call("sendMessage", _message(text, own)) for text in layout.texts]
    made += _files(layout)
    made += _specials(layout)
    every = _every(options, own)
    made = [msgspec.structs.replace(call, body=call.body | every) for call in made]
    if options.reply_to is not None and made:
        reply = {"message_id": number_of(options.reply_to), "allow_sending_without_reply": True}
        made[0].body["reply_parameters"] = reply
    if layout.buttons:
        _add_keyboard(made, layout.buttons, own.buttons_per_row)
    return made


def read_options(content: Content) -> TelegramOptions:
    """The Telegram options of a content that was checked before."""
    return msgspec.convert((content.platform_options or {}).get("telegram", {}), TelegramOptions)


def _message(text: str, own: TelegramOptions) -> dict[str, Any]:
    body: dict[str, Any] = {"text": text, "parse_mode": "HTML"}
    if own.disable_link_preview is not None:
        body["link_preview_options"] = {"is_disabled": own.disable_link_preview}
    return body


def _every(options: SendOptions, own: TelegramOptions) -> dict[str, Any]:
    """What each call of a message carries."""
    body = {
        "message_thread_id": None if options.thread_id is None else int(options.thread_id),
        "disable_notification": options.silent,
        "protect_content": own.protect_content,
        "message_effect_id": own.message_effect_id,
    }
    return {name: value for name, value in body.items() if value is not None}


def _files(layout: Layout) -> list[Call]:
    """Files as albums of what Telegram lets stand together, or alone."""
    made: list[Call] = []
    album: list[tuple[Attachment, str | None]] = []
    for pair in zip(layout.files, layout.captions, strict=True):
        if album and (len(album) == GROUP or _family(album[-1][0]) != _family(pair[0])):
            made.append(_album(album))
            album = []
        album.append(pair)
    return [*made, _album(album)] if album else made


def _album(album: Sequence[tuple[Attachment, str | None]]) -> Call:
    files = tuple(file for file, _ in album)
    if len(album) == 1:
        kind = _kind(files[0])
        return Call(_METHODS[kind], {kind: "attach://file0", **_caption(album[0][1])}, files)
    media = [
        {"type": _kind(file), "media": f"attach://file{index}", **_caption(caption)}
        for index, (file, caption) in enumerate(album)
    ]
    return Call("sendMediaGroup", {"media": media}, files)


def _caption(caption: str | None) -> dict[str, str]:
    return {} if caption is None else {"caption": caption, "parse_mode": "HTML"}


def _kind(file: Attachment) -> str:
    """How a file is shown, by its type as far as its sender or its name says it; anything else is a document."""
    mime_type = type_of(file)
    # Telegram refuses vector graphics as photos.
    return "document" if "svg" in mime_type else _KINDS.get(mime_type.partition("/")[0], "document")


def _family(file: Attachment) -> str:
    """What may stand in one album (sendMediaGroup): photos with videos, documents and audio each by themselves."""
    kind = _kind(file)
    return "visual" if kind in ("photo", "video") else kind


def _specials(layout: Layout) -> list[Call]:
    made: list[Call] = []
    place, card, poll = layout.location, layout.contact, layout.poll
    if place is not None:
        where = {"latitude": place.latitude, "longitude": place.longitude}
        title = place.name or place.address
        venue = {"title": title, "address": place.address or f"{place.latitude}, {place.longitude}"}
        made.append(Call("sendLocation", where) if title is None else Call("sendVenue", where | venue))
    if card is not None:
        made.append(Call("sendContact", {"phone_number": card.phone, "first_name": card.name}))
    if poll is not None:
        body: dict[str, Any] = {"question": poll.question, "options": [{"text": text} for text in poll.options]}
        made.append(Call("sendPoll", body | ({"allows_multiple_answers": True} if poll.multiple else {})))
    return made


def _add_keyboard(made: list[Call], buttons: Sequence[Button], per_row: int) -> None:
    """The buttons below the last call that may have some; albums may not."""
    keys = [_key(button) for button in buttons]
    rows = [keys[start : start + per_row] for start in range(0, len(keys), per_row)]
    for call in reversed(made):
        if call.method != "sendMediaGroup":
            call.body["reply_markup"] = {"inline_keyboard": rows}
            return


def _key(button: Button) -> dict[str, str]:
    key = {"text": button.text}
    if button.url is not None:
        key["url"] = button.url
    else:
        key["callback_data"] = button.value or button.text
    style = _STYLES.get(button.style) if button.style is not None else None
    return key if style is None else key | {"style": style}


# --- what is done to a message that is there, without its chat


_EDITABLE = ("text", "parse_mode", "link_preview_options", "reply_markup")
"""What an edit takes of the arguments of sendMessage."""
TYPING = Call("sendChatAction", {"action": "typing"})


def number_of(message_id: str) -> int:
    """Telegram's number in an id of a message."""
    return int(message_id.rpartition(":")[2])


def reaction(action: React | Unreact) -> Call:
    """Put an emoji to a message, in place of the one before, or take it away."""
    put = [{"type": "emoji", "emoji": action.emoji}] if isinstance(action, React) else []
    return Call("setMessageReaction", {"message_id": number_of(action.message_id), "reaction": put})


def edit(action: Edit, written: Call) -> Call:
    """Change a message to what a rendered `sendMessage` says; buttons that are not given go away."""
    kept = {name: written.body[name] for name in _EDITABLE if name in written.body}
    return Call("editMessageText", {"message_id": number_of(action.message_id), **kept})


def as_caption(edited: Call) -> Call:
    """The same for the text below a file."""
    body = {name: value for name, value in edited.body.items() if name not in ("text", "link_preview_options")}
    return Call("editMessageCaption", {**body, "caption": edited.body["text"]})


def delete(action: Delete) -> Call:
    """Take a message away."""
    return Call("deleteMessage", {"message_id": number_of(action.message_id)})

"""Universal content to events of a room (https://spec.matrix.org/v1.18/client-server-api/#instant-messaging)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from msgcore.core.content import Attachment, Content, SendOptions
from msgcore.outbound.attachments import name_of, type_of
from msgcore.outbound.layout import FileRules, Layout, Shows
from msgcore.outbound.rendering import Call
from msgcore.platforms.matrix.html import DIALECT, LONGEST, body_of, cut, size

if TYPE_CHECKING:
    from msgcore.outbound.attachments import LoadedAttachment

MESSAGE = "m.room.message"
REACTION = "m.reaction"
MEGABYTE = 1024 * 1024
LONGEST_FALLBACK = 2000
"""Bytes of an edit's text for clients that do not know edits: the whole text is there a second time."""

_KINDS = {"image": "m.image", "video": "m.video", "audio": "m.audio"}
UserId = Annotated[str, msgspec.Meta(pattern=r"^@[^\s:]{0,253}:[^\s]{1,253}$(?!\n)", max_length=255)]


class MatrixOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.matrix`: what Matrix has beyond the universal message."""

    notice: Annotated[bool, msgspec.Meta(description="text goes as a notice, which no other bot is to answer")] = False
    mentions: Annotated[list[UserId], msgspec.Meta(max_length=100, description="ids of users who are pinged")] = []
    mention_room: Annotated[bool, msgspec.Meta(description="the whole room is pinged, where the user may do that")] = (
        False
    )
    unencrypted: Annotated[bool, msgspec.Meta(description="send to encrypted rooms all the same, in the clear")] = False


SHOWS = Shows(
    dialect=DIALECT,
    text=LONGEST,
    caption=LONGEST,
    measure=size,
    # Each homeserver has its own limit, and is asked for it (GET /media/config): 50 MB is what Synapse begins with
    # (https://element-hq.github.io/synapse/latest/usage/configuration/config_documentation.html#max_upload_size).
    files=FileRules(dict.fromkeys(("image", "video", "audio", "document"), 50 * MEGABYTE)),
    location=True,
    silent=True,
    threads=True,
)


def calls(content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
    """The events of a message: text first, then files, then a place."""
    own = read_options(content)
    # Notices make no sound: https://spec.matrix.org/v1.18/client-server-api/#default-override-rules,
    # .m.rule.suppress_notices.
    words = "m.notice" if own.notice or options.silent else "m.text"
    bodies: list[tuple[dict[str, Any], tuple[Attachment, ...]]]
    bodies = [({"msgtype": words, **body_of(html)}, ()) for html in layout.texts]
    bodies += [(_file(file, caption), (file,)) for file, caption in zip(layout.files, layout.captions, strict=True)]
    if layout.location is not None:
        place = layout.location
        where = f"{place.latitude},{place.longitude}"
        name = ", ".join(filter(None, (place.name, place.address))) or where
        bodies.append(({"msgtype": "m.location", "body": name, "geo_uri": f"geo:{where}"}, ()))
    made: list[Call] = []
    for body, files in bodies:
        related = _relation(options, is_first=not made)
        # There even if it names nobody: else words of the text may ring (#user-and-room-mentions).
        mentions = _mentions(own) if not made else {}
        made.append(Call(MESSAGE, {**body, "m.mentions": mentions, **related}, files))
    return made


def read_options(content: Content) -> MatrixOptions:
    """The Matrix options of a content that was checked before."""
    return msgspec.convert((content.platform_options or {}).get("matrix", {}), MatrixOptions)


def with_file(body: dict[str, Any], file: LoadedAttachment, address: str) -> dict[str, Any]:
    """A file's event, now that the file is at an address of the media repository."""
    about = {"mimetype": file.mime_type, "size": len(file.data)}
    name = body.get("filename") or file.filename
    return {
        **body,
        "msgtype": _kind(file.mime_type),
        "body": body["body"] or name,
        "filename": name,
        "url": address,
        "info": about,
    }


def replacement(event_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """The event that puts a content in the place of another one (#event-replacements)."""
    shown = {name: value for name, value in body.items() if name != "m.relates_to"}
    fallback = {name: shown[name] for name in ("msgtype", "url", "info", "filename", "geo_uri") if name in shown}
    return {
        **fallback,
        "body": f"* {cut(shown['body'], LONGEST_FALLBACK)}",
        "m.mentions": {},
        "m.new_content": shown,
        "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
    }


def annotation(event_id: str, emoji: str) -> dict[str, Any]:
    """A reaction (#mreaction)."""
    return {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": emoji}}


def _file(file: Attachment, caption: str | None) -> dict[str, Any]:
    name = name_of(file)
    body = {"body": name} if caption is None else body_of(caption)
    return {"msgtype": _kind(type_of(file)), "filename": name, **body}


def _kind(mime_type: str) -> str:
    return _KINDS.get(mime_type.partition("/")[0], "m.file")


def _mentions(own: MatrixOptions) -> dict[str, Any]:
    named = {"user_ids": own.mentions} if own.mentions else {}
    return named | ({"room": True} if own.mention_room else {})


def _relation(options: SendOptions, *, is_first: bool) -> dict[str, Any]:
    """The message that is answered (#rich-replies), and the thread that it goes to (#threading)."""
    thread, answered = options.thread_id, options.reply_to if is_first else None
    related: dict[str, Any] = {}
    if thread is not None:
        # Clients without threads show an answer to the thread's first message.
        related = {"rel_type": "m.thread", "event_id": thread, "is_falling_back": answered is None}
        answered = answered or thread
    if answered is not None:
        related["m.in_reply_to"] = {"event_id": answered}
    return {"m.relates_to": related} if related else {}

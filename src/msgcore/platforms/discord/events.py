"""Events of the gateway, and interactions, to envelopes.

Source: https://docs.discord.com/developers/events/gateway-events. Interactions come over the gateway or by HTTP, and
are read alike (https://docs.discord.com/developers/interactions/receiving-and-responding).
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

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
    Typing,
)
from msgcore.platforms.discord.interactions import read_interaction
from msgcore.platforms.discord.parts import Part, message_id, person, place
from msgcore.platforms.receiving import SHAPE_ERRORS, UnreadableError, read_file

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

REPLY = 19
"""Messages that are pinned, passed on or followed refer to another one as well, without answering it."""
WRITTEN = frozenset((0, REPLY, 20, 23))
"""Types of what somebody wrote (DEFAULT, REPLY, and what apps answer to commands); all others are Discord's own notes
(resources/message, "Message Types")."""
THREADS = frozenset((10, 11, 12))
"""Channels that are threads ("Channel Types")."""
VOICE = 1 << 13
"""The flag IS_VOICE_MESSAGE ("Message Flags")."""

_KINDS = ("image", "video", "audio")
# https://docs.discord.com/developers/reference#image-formatting-cdn-endpoints: Lottie is JSON, GIFs are elsewhere.
_STICKERS = {
    1: "https://cdn.discordapp.com/stickers/{}.png",
    2: "https://cdn.discordapp.com/stickers/{}.png",
    3: "https://cdn.discordapp.com/stickers/{}.json",
    4: "https://media.discordapp.net/stickers/{}.gif",
}


def read_event(name: str, data: Mapping[str, Any], account: Account, dispatch: str = "") -> Sequence[Envelope]:
    """The envelopes of one event of the gateway (`t` and `d` of a dispatch), or of an interaction that was posted.

    `dispatch` tells one event from another where the event itself does not (reactions have neither an id nor a time):
    the session and the sequence number, which are the same when Discord sends it again.

    Raises UnreadableError for one that does not have the documented shape. Of events that do not matter here, nothing
    is read.
    """
    read = _READERS.get(name)
    if read is None:
        return ()
    try:
        return list(read(data, _Us.of(account), dispatch))
    except SHAPE_ERRORS as error:
        raise UnreadableError(f"{name} does not have the documented shape ({type(error).__name__})") from None


class _Us(msgspec.Struct, frozen=True):
    """How what we did ourselves is known: Discord tells of it as well."""

    user: str | None
    application: str | None

    @classmethod
    def of(cls, account: Account) -> _Us:
        """A token begins with the bot's id."""
        begin = str(account.credentials.get("token", "")).partition(".")[0]
        try:
            id_ = urlsafe_b64decode(begin + "=" * (-len(begin) % 4)).decode("ascii")
        except (binascii.Error, ValueError):
            id_ = ""
        return cls(id_ if id_.isdigit() else None, account.credentials.get("applicationId"))

    def did(self, user: str | None) -> bool:
        """Whether a user is our bot."""
        return user is not None and user == self.user

    def wrote(self, message: Part) -> bool:
        """Whether a message is ours: by our bot, or by an answer of our application's."""
        theirs = message.get("application_id")
        return self.did(message["author"]["id"]) or (theirs is not None and theirs == self.application)


def _created(message: Part, us: _Us, _: str) -> Iterator[Envelope]:
    if message["type"] not in WRITTEN or us.wrote(message):
        return
    about: Part = message.get("message_reference") or {}
    answered = about.get("message_id") if message["type"] == REPLY else None
    content = Message(
        id=message_id(message["channel_id"], message["id"]),
        text=_text(message),
        attachments=_files(message),
        reply_to=None if answered is None else message_id(about.get("channel_id") or message["channel_id"], answered),
        thread_id=message["channel_id"] if message.get("channel_type") in THREADS else None,
    )
    yield _envelope(message["id"], message, content, _author(message), message["timestamp"])


def _changed(message: Part, us: _Us, _: str) -> Iterator[Envelope]:
    # Pinned messages, and links that got a preview, are told of as well: nobody edited those.
    edited = message.get("edited_timestamp")
    if edited is None or message["type"] not in WRITTEN or us.wrote(message):
        return
    content = Edit(
        id=message_id(message["channel_id"], message["id"]), text=_text(message), attachments=_files(message)
    )
    yield _envelope(f"{message['id']}:{edited}", message, content, _author(message), edited)


def _deleted(event: Part, _: _Us, __: str) -> Iterator[Envelope]:
    for id_ in event.get("ids") or (event["id"],):
        content = Deletion(id=message_id(event["channel_id"], id_))
        yield _envelope(f"{id_}:deleted", event, content, None, None)


def _reacted(event: Part, us: _Us, dispatch: str) -> Iterator[Envelope]:
    return _reaction(event, us, f"added:{dispatch}")


def _unreacted(event: Part, us: _Us, dispatch: str) -> Iterator[Envelope]:
    return _reaction(event, us, f"removed:{dispatch}")


def _reaction(event: Part, us: _Us, done: str) -> Iterator[Envelope]:
    if not us.did(event["user_id"]):
        emoji, where = emoji_of(event["emoji"]), message_id(event["channel_id"], event["message_id"])
        content = Reaction(message_id=where, emoji=emoji, removed=done.startswith("removed"))
        yield _envelope(
            f"{event['message_id']}:{event['user_id']}:{emoji}:{done}", event, content, _member(event), None
        )


def _typing(event: Part, us: _Us, _: str) -> Iterator[Envelope]:
    if not us.did(event["user_id"]):
        id_ = f"{event['channel_id']}:typing:{event['user_id']}:{event['timestamp']}"
        at = datetime.fromtimestamp(event["timestamp"], UTC).isoformat()
        yield _envelope(id_, event, Typing(), _member(event), at)


def _joined(event: Part, us: _Us, _: str) -> Iterator[Envelope]:
    """May be told of again of who is a member already: then with the same time."""
    if not us.did(event["user"]["id"]):
        id_ = f"{event['guild_id']}:joined:{event['user']['id']}:{event['joined_at']}"
        yield _envelope(id_, event, Membership(joined=True), person(event["user"], event), event["joined_at"])


def _left(event: Part, us: _Us, dispatch: str) -> Iterator[Envelope]:
    """Whether they went or were removed is not told."""
    if not us.did(event["user"]["id"]):
        id_ = f"{event['guild_id']}:left:{event['user']['id']}:{dispatch}"
        yield _envelope(id_, event, Membership(joined=False, member=person(event["user"])), None, None)


def _interaction(event: Part, _: _Us, __: str) -> Iterator[Envelope]:
    return read_interaction(event)


_READERS: Final[dict[str, Callable[[Part, _Us, str], Iterator[Envelope]]]] = {
    "MESSAGE_CREATE": _created,
    "MESSAGE_UPDATE": _changed,
    "MESSAGE_DELETE": _deleted,
    "MESSAGE_DELETE_BULK": _deleted,
    "MESSAGE_REACTION_ADD": _reacted,
    "MESSAGE_REACTION_REMOVE": _unreacted,
    "TYPING_START": _typing,
    "GUILD_MEMBER_ADD": _joined,
    "GUILD_MEMBER_REMOVE": _left,
    "INTERACTION_CREATE": _interaction,
}
EVENTS = frozenset(_READERS)
"""Names of the events of the gateway that are read; no other need be stored."""


def emoji_of(emoji: Part) -> str:
    """An emoji itself, or `<:name:id>` for one of a server's own, as it stands in messages."""
    id_ = emoji.get("id")
    if id_ is None:
        return str(emoji["name"])
    return f"<{'a' if emoji.get('animated') else ''}:{emoji.get('name') or '_'}:{id_}>"


def _envelope(id_: str, event: Part, content: Happening, author: Person | None, at: str | None) -> Envelope:
    moment = None if at is None else datetime.fromisoformat(at)
    where = _place(event)
    return Envelope(event_id=id_, chat=where, content=content, author=author, occurred_at=moment, raw=dict(event))


def _place(event: Part) -> Place:
    """The channel; who comes and goes does so in a server (guild), which has no channel."""
    if "channel_id" not in event:
        return Place(id=event["guild_id"], type="group")
    return place(event["channel_id"], guild=event.get("guild_id"), kind=event.get("channel_type"))


def _author(message: Part) -> Person:
    return person(message["author"], message.get("member"))


def _member(event: Part) -> Person:
    """Who an event is about; only in a server it says more than the id."""
    member: Part = event.get("member") or {}
    user: Part = member.get("user") or {"id": event["user_id"]}
    return person(user, member)


def _text(message: Part) -> str | None:
    """What was written; of other apps' messages, whose text may stand in embeds only, what stands in these."""
    told = _told(message)
    cards: Sequence[Part] = told.get("embeds") or ()
    words = (card.get(name) for card in cards for name in ("title", "description"))
    return str(told.get("content") or "\n".join(str(each) for each in words if each)) or None


def _told(message: Part) -> Part:
    """What a message says; one that was passed on stands in it as it was then ("Message Snapshot Object")."""
    snapshots: Sequence[Part] = message.get("message_snapshots") or ()
    return snapshots[0]["message"] if snapshots else message


def _files(message: Part) -> tuple[File, ...]:
    told = _told(message)
    is_voice = bool(int(told.get("flags") or 0) & VOICE)
    files = [_file(each, is_voice=is_voice) for each in told.get("attachments") or ()]
    return (*files, *(_sticker(each) for each in told.get("sticker_items") or ()))


def _file(file: Part, *, is_voice: bool) -> File:
    kind = str(file.get("content_type") or "").partition("/")[0]
    known = {
        "type": "voice" if is_voice else kind if kind in _KINDS else "document",
        "id": file["id"],
        "url": file.get("url"),
        "filename": file.get("filename"),
        "mimeType": file.get("content_type"),
        "size": file.get("size"),
    }
    return read_file(known)


def _sticker(sticker: Part) -> File:
    address = _STICKERS.get(sticker.get("format_type", 0))
    url = None if address is None else address.format(sticker["id"])
    name = None if url is None else f"{sticker.get('name') or sticker['id']}.{url.rpartition('.')[2]}"
    return read_file({"type": "sticker", "id": sticker["id"], "url": url, "filename": name})

"""Events of the Events API to envelopes (https://docs.slack.dev/reference/events)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

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
    shortened,
)
from msgcore.platforms.receiving import read_file
from msgcore.platforms.slack.emoji import emoji_of
from msgcore.platforms.slack.mrkdwn import read

Part = Mapping[str, Any]

_WRITTEN = frozenset((None, "bot_message", "file_share", "me_message", "thread_broadcast"))
"""Subtypes of what somebody wrote; all others are Slack's own notes (reference/events/message, "Message subtypes")."""
_KINDS = {"im": "user", "app_home": "user", "mpim": "group", "channel": "channel", "group": "channel"}
_TYPES = ("image", "video", "audio")


def read_event(payload: Part) -> Iterator[Envelope]:
    """The envelope of one event, if it matters here; `app_mention` comes beside the `message` with the same id."""
    event: Part = payload["event"]
    match event["type"]:
        case "message" | "app_mention":
            yield from _message_event(payload, event)
        case "reaction_added" | "reaction_removed":
            yield from _reaction(payload, event)
        case "member_joined_channel" | "member_left_channel":
            yield _membership(payload, event)
        case _:
            return


def message_id(channel: str, ts: str) -> str:
    """Slack's times of messages are unique in their conversation only."""
    return f"{channel}:{ts}"


def moment(ts: str | None) -> datetime | None:
    """The time in a `ts`."""
    try:
        return None if ts is None else datetime.fromtimestamp(float(ts), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def place(channel: str, kind: str | None = None, name: str | None = None) -> Place:
    """A conversation; without its `channel_type` by the letter that its id begins with."""
    by_letter = {"D": "user", "G": "group"}.get(channel[:1], "channel")
    return msgspec.convert({"id": channel, "type": _KINDS.get(kind or "", by_letter), "name": shortened(name)}, Place)


def _message_event(payload: Part, event: Part) -> Iterator[Envelope]:
    subtype = event.get("subtype")
    if subtype == "message_changed":
        yield from _changed(payload, event)
    elif subtype == "message_deleted":
        content = Deletion(id=message_id(event["channel"], event["deleted_ts"]))
        yield _envelope(payload, event, content, None, event.get("event_ts") or event["ts"])
    elif subtype in _WRITTEN and not _is_own(payload, event):
        thread = event.get("thread_ts")
        answered = None if thread in (None, event["ts"]) else str(thread)
        content = Message(
            id=message_id(event["channel"], event["ts"]),
            text=_text(event),
            attachments=_files(event),
            reply_to=None if answered is None else message_id(event["channel"], answered),
            thread_id=answered,
        )
        yield _envelope(payload, event, content, _author(event), event["ts"])


def _changed(payload: Part, event: Part) -> Iterator[Envelope]:
    message: Part = event["message"]
    before: Part = event.get("previous_message") or {}
    id_ = message_id(event["channel"], message.get("ts") or before["ts"])
    if message.get("subtype") == "tombstone":  # a message with replies leaves its place behind
        yield _envelope(payload, event, Deletion(id=id_), None, event.get("event_ts") or event["ts"])
        return
    edit = Edit(id=id_, text=_text(message), attachments=_files(message))
    # Previews of links and the like are changes as well, which nobody made.
    is_same = bool(before) and (_text(before), _files(before)) == (edit.text, edit.attachments)
    if is_same or _is_own(payload, message):
        return
    edited: Part = message.get("edited") or {}
    author = _author(message) if "user" not in edited else Person(id=edited["user"])
    yield _envelope(payload, event, edit, author, edited.get("ts") or event["ts"])


def _reaction(payload: Part, event: Part) -> Iterator[Envelope]:
    item: Part = event["item"]
    if item["type"] != "message" or event.get("user") in _us(payload):
        return
    content = Reaction(
        message_id=message_id(item["channel"], item["ts"]),
        emoji=emoji_of(event["reaction"]),
        removed=event["type"] == "reaction_removed",
    )
    author = Person(id=event["user"]) if "user" in event else None
    # The item says where it is, under the names that messages have for it.
    yield _envelope(payload, item, content, author, event.get("event_ts"))


def _membership(payload: Part, event: Part) -> Envelope:
    who, by = Person(id=event["user"]), event.get("inviter")
    joined = event["type"] == "member_joined_channel"
    content = Membership(joined=joined, member=who if by else None)
    # Here `channel_type` is C or G, for public and private channels.
    return _envelope(
        payload, {**event, "channel_type": None}, content, Person(id=by) if by else who, event.get("event_ts")
    )


def _envelope(payload: Part, event: Part, content: Happening, author: Person | None, at: str | None) -> Envelope:
    return Envelope(
        event_id=payload["event_id"],
        chat=place(event["channel"], event.get("channel_type")),
        content=content,
        author=author,
        occurred_at=moment(at),
        raw={name: value for name, value in payload.items() if name != "token"},
    )


def _us(payload: Part) -> set[str]:
    """The app's own bot user."""
    return {each["user_id"] for each in payload.get("authorizations") or () if each.get("is_bot")}


def _is_own(payload: Part, message: Part) -> bool:
    """Whether the app itself wrote a message: what was sent comes back as an event."""
    if not message.get("bot_id"):
        return False
    bot: Part = message.get("bot_profile") or {}
    app = message.get("app_id") or bot.get("app_id")
    return bool(app == payload.get("api_app_id") if app else message.get("user") in _us(payload))


def _author(message: Part) -> Person | None:
    bot: Part = message.get("bot_profile") or {}
    id_ = message.get("user") or message.get("bot_id")
    name = bot.get("name") or message.get("username")
    return None if id_ is None else Person(id=id_, name=shortened(name), is_bot="bot_id" in message)


def _text(message: Part) -> str | None:
    """What was written; of other apps' messages, whose text may stand in cards only, what stands for these."""
    cards: Sequence[Part] = message.get("attachments") or ()
    text = message.get("text") or "\n".join(str(card["fallback"]) for card in cards if card.get("fallback"))
    return read(text) or None


def _files(message: Part) -> tuple[File, ...]:
    # Of files that were deleted or that a workspace may not see only a mark is left, without a type.
    return tuple(_file(each) for each in message.get("files") or () if each.get("mode") != "tombstone")


def _file(file: Part) -> File:
    kind = str(file.get("mimetype") or "").partition("/")[0]
    known = {
        "type": "voice" if file.get("subtype") == "slack_audio" else kind if kind in _TYPES else "document",
        "id": file["id"],
        "url": file.get("url_private_download") or file.get("url_private"),
        "filename": file.get("name"),
        "mimeType": file.get("mimetype"),
        "size": file.get("size"),
    }
    return read_file(known)

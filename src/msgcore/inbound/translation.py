"""From envelopes to what is stored of them, and to the events that subscribers get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from msgcore.core.attachments import AttachmentState
from msgcore.core.clock import to_iso
from msgcore.core.envelope import (
    Click,
    Command,
    Deletion,
    Edit,
    Envelope,
    File,
    Happening,
    Membership,
    Message,
    Reaction,
    Receipt,
    Typing,
)
from msgcore.core.ids import new_id
from msgcore.core.stop_words import Wish
from msgcore.inbound.files import ReceivedFile, log_line
from msgcore.store.events import NewEvent
from msgcore.store.inbound import RawRequest
from msgcore.store.ledger.receipts import DeliveryReceipt

Row = dict[str, Any]
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
TOLERANCE = timedelta(days=1)
"""How far a platform's clock may be ahead of ours."""
LONGEST_ID = 255
"""Characters of an id that is stored."""
LONGEST_NAME = 255
"""Characters of a file's name or media type that are stored."""

_SHAPE = msgspec.json.Decoder(Envelope)


@dataclass(frozen=True, slots=True)
class Wished:
    """What somebody asked for by a stop word; `user` is the platform's id of them, as ids are compared there."""

    wish: Wish
    word: str
    user: str


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An envelope, the request that it came in, the id that it has with us, and the files of its message.

    `number` is the number that a message is as a whole.
    """

    id: str
    request: RawRequest
    envelope: Envelope
    wished: Wished | None = None
    number: int | None = None
    files: Sequence[ReceivedFile] = ()

    @classmethod
    def of(cls, request: RawRequest, envelope: Envelope) -> Occurrence:
        """One more thing that happened.

        Raises ValueError for what cannot be stored: ids that are missing or too long, and fields that hold something
        else than they should, as platforms' payloads go into envelopes unlooked at.
        """
        author = envelope.author
        ids = (envelope.event_id, envelope.chat.id, author.id if author else "-", subject_of(envelope.content) or "-")
        if not all(map(_is_storable_id, ids)):
            raise ValueError(f"an id of the platform is empty, longer than {LONGEST_ID} characters, or holds NUL")
        envelope = _with_storable_details(envelope)
        _check_shape(envelope)
        content = envelope.content
        files = content.attachments if isinstance(content, Message) else ()
        return cls(new_id(), request, envelope, files=[ReceivedFile(file) for file in files])

    @property
    def at(self) -> datetime:
        """When it happened, as far as the platform says; a moment that cannot be is none."""
        said, came = self.envelope.occurred_at, self.request.received_at
        return said if said is not None and EARLIEST < said < came + TOLERANCE else came


def _is_storable_id(id_: Any) -> bool:
    return isinstance(id_, str) and 0 < len(id_) <= LONGEST_ID and "\x00" not in id_


def _with_storable_details(envelope: Envelope) -> Envelope:
    """Without what a message can do without: better that it comes without saying what it answers than not at all."""
    content = envelope.content
    match content:
        case Message(reply_to=reply_to, thread_id=thread_id):
            details = {"reply_to": reply_to, "thread_id": thread_id}
            better = {name: None for name, id_ in details.items() if id_ is not None and not _is_storable_id(id_)}
        case Reaction(emoji=str(emoji)):
            shown = (plain(emoji) or "")[:LONGEST_ID]
            better = {} if shown == emoji else {"emoji": shown}
        case _:
            return envelope
    return msgspec.structs.replace(envelope, content=msgspec.structs.replace(content, **better)) if better else envelope


def _check_shape(envelope: Envelope) -> None:
    """Raises ValueError. Files are left out: they may be large, and `read_file` has looked at them."""
    content = envelope.content
    if isinstance(content, Message | Edit) and content.attachments:
        content = msgspec.structs.replace(content, attachments=())
    _SHAPE.decode(msgspec.json.encode(msgspec.structs.replace(envelope, content=content, raw=None)))


def subject_of(content: Happening) -> str | None:
    """The platform's id of the message that something is about; None where it is about none."""
    match content:
        case Message() | Edit() | Deletion() | Command():
            return content.id
        case Reaction() | Click() | Receipt():
            return content.message_id
        case _:
            return None


# --- rows


def message_row(found: Occurrence) -> Row:
    """The row of a message or a command."""
    content = found.envelope.content
    kind, text, reply_to = "text", None, None
    if isinstance(content, Message):
        text, reply_to = content.text, content.reply_to
        kind = content.attachments[0].type if content.attachments and not text else "text"
    elif isinstance(content, Command):
        kind, text = "command", f"/{content.name} {content.arguments}".rstrip()
    return {
        **_about(found),
        "provider_message_id": subject_of(content),
        "message_text": plain(text),
        "message_type": kind,
        "raw_data": _raw(found),
        "received_at": found.request.received_at,  # near the moment that the id tells: lists go by ids
        "reply_to": reply_to,
        "edited_at": None,
        "deleted_at": None,
    }


def file_rows(found: Occurrence) -> list[Row]:
    """The rows of a message's files, with what has become of each so far."""
    return [
        {
            "id": each.id,
            "message_id": found.id,
            "type": each.file.type,
            "url": plain(each.file.url or f"platform:{each.file.id or ''}"),
            "filename": _short(each.file.filename),
            "size": each.file.size if each.file.data is None else len(each.file.data),
            "mime_type": _short(each.file.mime_type),
            "state": each.state,
            "reason": None if each.error is None else each.error.message,
            "platform_id": found.request.platform_id,
            "provider_file_id": plain(each.file.id),
            "attempts": 0,
            "due_at": found.request.received_at if each.state == AttachmentState.PENDING else None,
        }
        for each in found.files
    ]


def file_lines(found: Occurrence, now: datetime) -> list[Row]:
    """Lines of the platform's log on files of a message that cannot be had."""
    request = found.request
    about: Row = {name: getattr(request, name) for name in ("project_id", "platform_id", "platform")}
    about |= {"message_id": found.id, "timestamp": now}
    return [log_line(about, each.id, each.state, each.error) for each in found.files if each.error is not None]


def reaction_row(found: Occurrence, reaction: Reaction) -> Row:
    """The row of a reaction."""
    return {
        **_about(found),
        "provider_message_id": reaction.message_id,
        "emoji": reaction.emoji,
        "reaction_type": "removed" if reaction.removed else "added",
        "raw_data": _raw(found),
        "received_at": found.request.received_at,
    }


def edit_row(found: Occurrence, edit: Edit, message_id: str) -> Row:
    """What `store.inbound.edit_messages` takes."""
    return {"b_id": message_id, "b_text": plain(edit.text), "b_at": found.at}


def deletion_row(found: Occurrence, message_id: str) -> Row:
    """What `store.inbound.take_back_messages` takes."""
    return {"b_id": message_id, "b_at": found.at}


def receipt_of(found: Occurrence, receipt: Receipt, identities: Mapping[str, str]) -> DeliveryReceipt:
    """What the ledger takes of a receipt."""
    event = event_of(found, {}, identities)
    return DeliveryReceipt(
        id=found.id,
        project_id=found.request.project_id,
        platform_id=found.request.platform_id,
        chat_id=found.envelope.chat.id,
        provider_message_id=receipt.message_id,
        status=receipt.status,
        error=plain(receipt.error),
        told_at=found.at,
        received_at=found.request.received_at,
        data=event.data,
    )


def chat_rows(occurrences: Sequence[Occurrence]) -> list[Row]:
    """A row for each chat in which something happened, as it was last; in one order, so that nobody can deadlock."""
    rows: dict[str, Row] = {}
    for found in occurrences:
        place, before = found.envelope.chat, rows.get(found.envelope.chat.id, {})
        wrote = isinstance(found.envelope.content, Message | Command)
        rows[place.id] = {
            "id": new_id(),
            "project_id": found.request.project_id,
            "platform_id": found.request.platform_id,
            "platform": found.request.platform,
            "provider_chat_id": place.id,
            "chat_type": place.type,
            "name": plain(place.name) or before.get("name"),
            "avatar_url": None,
            "metadata": None,
            "last_message_at": found.at if wrote else before.get("last_message_at"),
            "created_at": found.request.received_at,
            "updated_at": found.request.received_at,
        }
    return [rows[id_] for id_ in sorted(rows)]


# --- events


def event_of(found: Occurrence, known: Mapping[str, str], identities: Mapping[str, str]) -> NewEvent:
    """The event that tells of an occurrence; `known` has our ids of messages, `identities` those of authors."""
    request, content, author = found.request, found.envelope.content, found.envelope.author
    kind, more = _told(content, found)
    subject = subject_of(content)
    data: dict[str, Any] = {
        "envelope_version": found.envelope.version,
        "platform": request.platform,
        "platform_id": request.platform_id,
        "chat_id": found.envelope.chat.id,
        "chat_type": found.envelope.chat.type,
        "chat_name": found.envelope.chat.name,
        "user_id": None if author is None else author.id,
        "user_display": None if author is None else author.name or author.username,
        "identity_id": None if author is None else identities.get(author.id),
        **more,
    }
    if subject is not None:
        data["message_id"] = known.get(subject, subject)
        data["provider_message_id"] = subject
    return NewEvent(request.project_id, kind, data, request.received_at, request.platform_id)


def _told(content: Happening, found: Occurrence) -> tuple[str, Row]:  # noqa: PLR0911 - one return a kind
    """The event's type, and what only events of this type have. Times are named as the compatible API names them."""
    at = to_iso(found.at)
    match content:
        case Message():
            files = [_kept(each) for each in found.files]
            more = {"reply_to": content.reply_to, "thread_id": content.thread_id, "attachments": files}
            kind = message_row(found)["message_type"]
            return "message.received", {"text": content.text, "message_type": kind, "received_at": at, **more}
        case Edit():
            files = [_file(file) for file in content.attachments]
            return "message.edited", {"text": content.text, "attachments": files, "edited_at": at}
        case Deletion():
            return "message.deleted", {"deleted_at": at}
        case Reaction():
            word = "removed" if content.removed else "added"
            return f"reaction.{word}", {"emoji": content.emoji, "timestamp": at}
        case Click():
            return "button.clicked", {"button_value": content.value, "button_label": content.label, "clicked_at": at}
        case Command():
            more = {"command": content.name, "arguments": content.arguments}
            return "command.received", {"text": message_row(found)["message_text"], "received_at": at, **more}
        case Membership():
            member = content.member or found.envelope.author
            who = {"member_id": member and member.id, "member_display": member and (member.name or member.username)}
            return f"member.{'joined' if content.joined else 'left'}", {**who, "timestamp": at}
        case Receipt():
            more = {"error": content.error} if content.status == "failed" else {}
            return f"message.{content.status}", {"timestamp": at, **more}
        case Typing():
            return "typing.started", {"timestamp": at}


def _about(found: Occurrence) -> Row:
    author = found.envelope.author
    return {
        "id": found.id,
        "project_id": found.request.project_id,
        "platform_id": found.request.platform_id,
        "platform": found.request.platform,
        "provider_chat_id": found.envelope.chat.id,
        "provider_user_id": found.envelope.chat.id if author is None else author.id,
        "user_display": None if author is None else plain(author.name or author.username),
    }


def _raw(found: Occurrence) -> Any:
    """The platform's own payload where the reader kept it, else the envelope."""
    envelope, content = found.envelope, found.envelope.content
    if envelope.raw is not None:
        return envelope.raw
    if not (isinstance(content, Message | Edit) and any(file.data for file in content.attachments)):
        return envelope
    files = tuple(msgspec.structs.replace(file, data=None) for file in content.attachments)
    return msgspec.structs.replace(envelope, content=msgspec.structs.replace(content, attachments=files))


def _kept(each: ReceivedFile) -> Row:
    """A file that has an id with us. Its `url` is made anew whenever the event is shown."""
    described = _file(each.file) | {"id": each.id, "url": None, "state": each.state}
    if each.file.data is not None:
        described["size"] = len(each.file.data)
    return described if each.error is None else described | {"reason": each.error.message}


def _file(file: File) -> Row:
    return {
        "type": file.type,
        "url": file.url,
        "filename": file.filename,
        "mime_type": file.mime_type,
        "size": file.size,
    }


def _short(text: str | None) -> str | None:
    shown = plain(text)
    return shown and shown[:LONGEST_NAME]


def plain(text: str | None) -> str | None:
    """Text as PostgreSQL can store it: without NUL, and without halves of characters."""
    if text is None:
        return None
    return text.replace("\x00", "").encode("utf-8", "replace").decode()

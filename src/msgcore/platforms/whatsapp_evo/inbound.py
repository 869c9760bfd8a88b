"""Webhooks of the Evolution API to envelopes.

Source: https://doc.evolution-api.com/v2/en/configuration/webhooks, and for the payloads
https://github.com/EvolutionAPI/evolution-api (2.3.6), whatsapp.baileys.service.ts (prepareMessage and the handlers).
The API does not sign, but sends headers that it was given (`headers` of webhook/set): one holds a secret, which is
made from the account's key, so that there is nothing to configure.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

from msgcore.core.envelope import (
    Click,
    Deletion,
    Envelope,
    File,
    Happening,
    Membership,
    Message,
    Person,
    Place,
    Reaction,
    Receipt,
    Typing,
    shortened,
)
from msgcore.platforms.receiving import (
    SHAPE_ERRORS,
    Inbound,
    InboundRequest,
    SignatureError,
    UnreadableError,
    made_secret,
    read_each,
    read_file,
    read_object,
)

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

SECRET_HEADER = "X-MsgCore-Webhook-Secret"  # noqa: S105 - the name of a header
EVENTS = (
    "MESSAGES_UPSERT",
    "MESSAGES_UPDATE",
    "MESSAGES_DELETE",
    "PRESENCE_UPDATE",
    "GROUP_PARTICIPANTS_UPDATE",
)
"""What is asked for. Not who is being linked: whoever has a QR code can link a device with the number."""

_WRAPPERS = ("ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2", "documentWithCaptionMessage")
_FILES = {
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
}
_STATUSES = {"DELIVERY_ACK": "delivered", "READ": "read", "PLAYED": "read", "ERROR": "failed"}
_TYPING = frozenset(("composing", "recording"))
_GROUP, _CHANNEL, _BROADCAST, _HIDDEN, _PERSON = "@g.us", "@newsletter", "@broadcast", "@lid", "@s.whatsapp.net"

Part = Mapping[str, Any]


def webhook_secret(account: Account) -> str:
    """What the Evolution API is told to send with each event of an account."""
    return made_secret(account, account.credentials["evolutionApiKey"])


def message_id(chat: str, id_: str) -> str:
    """The apps that write messages choose their ids, which are unique in their chat at best."""
    return f"{chat}:{id_}"


def sent_id(key: Part) -> str:
    """The id of a message by the key that sending it answers."""
    return message_id(_address(key, "remoteJid"), key["id"])


class WhatsAppEvoInbound(Inbound):
    """One event a request."""

    signature = f"{SECRET_HEADER}, which webhook/set was given"

    def secrets(self, account: Account) -> Sequence[str]:
        """What `webhook_secret` makes."""
        return (webhook_secret(account),)

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the secret of the account."""
        given = request.headers.get(SECRET_HEADER.lower(), "")
        if not hmac.compare_digest(given.encode(), webhook_secret(account).encode()):
            raise SignatureError(f"{SECRET_HEADER} is not the one that webhook/set was given: register the webhook")

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What an event tells; raises UnreadableError for what is none."""
        body = read_object(request.body)
        try:
            return _envelopes(account, body)
        except SHAPE_ERRORS as error:
            raise UnreadableError(f"the event does not have the known shape ({type(error).__name__})") from None


def _envelopes(account: Account, body: Part) -> Sequence[Envelope]:
    data, moment = body.get("data"), str(body.get("date_time"))
    match body.get("event"):
        case "messages.upsert":
            return read_each(account, _each(data), _written)
        case "messages.update":
            return read_each(account, _each(data), _receipt)
        case "messages.delete":
            return read_each(account, _each(data), lambda deleted: _deleted(deleted.get("key") or deleted))
        case "group-participants.update":
            return list(_membership(cast("Part", data), moment))
        case "presence.update":
            return list(_typing(cast("Part", data), moment))
        case _:
            return ()


def _each(data: Any) -> Sequence[Part]:
    """One thing, or several of a kind; older versions have messages in an object of their own."""
    if isinstance(data, dict):
        held: Any = cast("dict[str, Any]", data).get("messages")
        return cast("Sequence[Part]", held if isinstance(held, list) else [data])
    return cast("Sequence[Part]", data)


def _written(message: Part) -> Iterator[Envelope]:
    key: Part = message["key"]
    chat = _address(key, "remoteJid")
    if key.get("fromMe") or chat.endswith(_BROADCAST):
        return
    content = _happening(message, chat)
    if content is None:
        return
    author = Person(id=_author(key, chat), name=shortened(message.get("pushName")))
    moment = message.get("messageTimestamp")
    yield Envelope(
        event_id=message_id(chat, key["id"]),
        chat=_place(chat, author.name),
        content=content,
        author=author,
        occurred_at=None if moment is None else datetime.fromtimestamp(int(moment), UTC),
        raw=_without_file(message),
    )


def _happening(message: Part, chat: str) -> Happening | None:
    """What was written; None for what the apps tell one another."""
    held = _unwrapped(message.get("message") or {})
    if "reactionMessage" in held:
        part = held["reactionMessage"]
        emoji = part.get("text") or ""
        return Reaction(message_id=message_id(chat, part["key"]["id"]), emoji=emoji, removed=not emoji)
    quoted, pressed = _answered(message, held), _pressed(held)
    answered = None if quoted is None else message_id(chat, quoted)
    if pressed is not None:
        return Click(value=pressed[0], label=pressed[1], message_id=answered)
    if "protocolMessage" in held or not any(name != "messageContextInfo" for name in held):
        return None
    id_: str = message["key"]["id"]
    return Message(id=message_id(chat, id_), text=_text(held), attachments=_files(held, id_), reply_to=answered)


def _unwrapped(held: Part) -> Part:
    for name in _WRAPPERS:
        if name in held:
            return {**held, **held[name]["message"]}
    return held


def _pressed(held: Part) -> tuple[str, str | None] | None:
    """The value and the words of a button or a row, which other devices of the number may have sent."""
    if "buttonsResponseMessage" in held:
        part = held["buttonsResponseMessage"]
        return part["selectedButtonId"], part.get("selectedDisplayText")
    if "templateButtonReplyMessage" in held:
        part = held["templateButtonReplyMessage"]
        return part["selectedId"], part.get("selectedDisplayText")
    if "listResponseMessage" in held:
        part = held["listResponseMessage"]
        return part["singleSelectReply"]["selectedRowId"], part.get("title")
    return None


def _text(held: Part) -> str | None:
    extended: Part = held.get("extendedTextMessage") or {}
    return (
        held.get("conversation")
        or extended.get("text")
        or next((held[name].get("caption") for name in _FILES if name in held), None)
    )


def _answered(message: Part, held: Part) -> str | None:
    """The message that this one quotes; where that is written depends on its kind and on the version."""
    for each in (message, *held.values()):
        context: Any = cast("Part", each).get("contextInfo") if isinstance(each, dict) else None
        if isinstance(context, dict) and "stanzaId" in context:
            return cast("Part", context)["stanzaId"]
    return None


def _files(held: Part, id_: str) -> tuple[File, ...]:
    """Files lie at WhatsApp encrypted; in the clear they are at `mediaUrl`, where the server has a store for them."""
    found: list[File] = []
    for name, kind in _FILES.items():
        if name in held:
            part: Part = held[name]
            length = part.get("fileLength")
            known = {
                "type": "voice" if part.get("ptt") else kind,
                "id": id_,
                "url": held.get("mediaUrl"),
                "filename": part.get("fileName"),
                "mimeType": part.get("mimetype"),
                "size": int(length) if isinstance(length, int | str) else None,
            }
            found.append(read_file(known))
    return tuple(found)


def _without_file(message: Part) -> Part:
    """A message as it came, without the file that the server can put into it."""
    held = message.get("message")
    if not isinstance(held, dict) or "base64" not in held:
        return message
    return {**message, "message": {name: part for name, part in cast("Part", held).items() if name != "base64"}}


def _receipt(update: Part) -> Iterator[Envelope]:
    """`messageId` is the server's own; WhatsApp's is `keyId`."""
    word = _STATUSES.get(update.get("status") or "")
    if word is None or not update.get("fromMe"):
        return
    # The server cuts what tells devices apart, and the domain with it.
    told = _address(update, "remoteJid")
    chat = told if "@" in told else told + _PERSON
    id_ = message_id(chat, update["keyId"])
    content = msgspec.convert({"kind": "receipt", "messageId": id_, "status": word}, Receipt)
    yield Envelope(f"{id_}:{word}", _place(chat, None), content, raw=update)


def _deleted(key: Part) -> Iterator[Envelope]:
    if not key.get("fromMe"):
        chat = _address(key, "remoteJid")
        author = Person(id=_author(key, chat))
        id_ = message_id(chat, key["id"])
        yield Envelope(f"{id_}:deleted", _place(chat, None), Deletion(id=id_), author, raw=key)


def _membership(update: Part, moment: str) -> Iterator[Envelope]:
    action, group = update["action"], update["id"]
    if action not in ("add", "remove"):
        return
    for each in update["participants"]:
        member = each if isinstance(each, str) else each["id"]
        content = Membership(joined=action == "add", member=Person(id=member))
        by = update.get("author")
        author = Person(id=by if isinstance(by, str) else member)
        yield Envelope(f"{group}:{action}:{member}:{moment}", _place(group, None), content, author, raw=update)


def _typing(update: Part, moment: str) -> Iterator[Envelope]:
    chat = update["id"]
    for who, state in update["presences"].items():
        if state.get("lastKnownPresence") in _TYPING:
            yield Envelope(f"{chat}:typing:{who}:{moment}", _place(chat, None), Typing(), Person(id=who), raw=update)


def _address(key: Part, name: str) -> str:
    """A chat or person by number, where WhatsApp's hidden id (LID) comes with it."""
    given: str = key[name]
    return key.get(f"{name}Alt") or given if given.endswith(_HIDDEN) else given


def _author(key: Part, chat: str) -> str:
    return _address(key, "participant") if chat.endswith(_GROUP) and key.get("participant") else chat


def _place(chat: str, name: str | None) -> Place:
    """A group's own name does not come with a message."""
    if chat.endswith(_GROUP):
        return Place(id=chat, type="group")
    return Place(id=chat, type="channel") if chat.endswith(_CHANNEL) else Place(id=chat, name=name)

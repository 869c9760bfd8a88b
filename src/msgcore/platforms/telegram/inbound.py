"""Updates of the Bot API to envelopes (https://core.telegram.org/bots/api#update).

A webhook is verified by the secret that `setWebhook` was given: Telegram sends it in
X-Telegram-Bot-Api-Secret-Token with each update. It is made from the bot's token and the account, so that
there is nothing to configure.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from msgcore.core.envelope import (
    Click,
    Command,
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
from msgcore.platforms.receiving import (
    SHAPE_ERRORS,
    Inbound,
    InboundAnswer,
    InboundRequest,
    SignatureError,
    UnreadableError,
    made_secret,
    read_file,
    read_object,
)

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105 - the name of a header

UPDATES = (
    *("message", "edited_message", "channel_post", "edited_channel_post"),
    *("business_message", "edited_business_message", "callback_query"),
    *("message_reaction", "my_chat_member", "chat_member"),
)
"""What Telegram is asked to tell; of reactions and members it tells only then (setWebhook, allowed_updates)."""

_MESSAGES = ("message", "channel_post", "business_message")
_EDITS = ("edited_message", "edited_channel_post", "edited_business_message")
_FILES = {
    "video": "video",
    "video_note": "video",
    "animation": "video",
    "audio": "audio",
    "voice": "voice",
    "sticker": "sticker",
    "document": "document",
}
_PRESENT = frozenset(("creator", "administrator", "member"))

Part = Mapping[str, Any]


def webhook_secret(account: Account) -> str:
    """What Telegram is told to send with each update of an account (1 to 256 characters of A-Z, a-z, 0-9, _ and -)."""
    return made_secret(account, account.credentials["token"])


class TelegramInbound(Inbound):
    """One update a request."""

    signature = "X-Telegram-Bot-Api-Secret-Token, which setWebhook was given"

    def secrets(self, account: Account) -> Sequence[str]:
        """What `webhook_secret` makes."""
        return (webhook_secret(account),)

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the secret of the account."""
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), webhook_secret(account).encode()):
            raise SignatureError("X-Telegram-Bot-Api-Secret-Token is not the one that setWebhook was given")

    def reply(self, request: InboundRequest) -> InboundAnswer:
        """A pressed button shows that it waits until the press is answered, which may be done on the spot.

        Source: "Making requests when getting updates".
        """
        if b'"callback_query"' in request.body:
            try:
                id_ = read_object(request.body)["callback_query"]["id"]
            except (UnreadableError, *SHAPE_ERRORS):  # it is stored: whoever reads it finds out what it is
                return self.answer
            return InboundAnswer(msgspec.json.encode({"method": "answerCallbackQuery", "callback_query_id": id_}))
        return self.answer

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What an update tells; raises UnreadableError for what is no update."""
        del account
        return read_update(read_object(request.body))


def read_update(update: Part) -> list[Envelope]:
    """The envelopes of one update. Raises UnreadableError for one that does not have the documented shape."""
    try:
        return list(_envelopes(str(update["update_id"]), update))
    except SHAPE_ERRORS as error:
        raise UnreadableError(f"the update does not have the documented shape ({type(error).__name__})") from None


def _envelopes(id_: str, update: Part) -> Iterator[Envelope]:
    for name in _MESSAGES:
        if name in update:
            yield from _messages(id_, update, update[name])
    for name in _EDITS:
        if name in update:
            message = update[name]
            edit = Edit(id=_message_id(message), text=_text(message), attachments=_files(message))
            yield _envelope(id_, update, message["chat"], edit, _author(message), message.get("edit_date"))
    if "callback_query" in update:
        yield _click(id_, update, update["callback_query"])
    if "message_reaction" in update:
        yield from _reactions(id_, update, update["message_reaction"])
    for name in ("my_chat_member", "chat_member"):
        if name in update:
            yield from _membership(update, update[name])


def _messages(id_: str, update: Part, message: Part) -> Iterator[Envelope]:
    author, chat, at = _author(message), message["chat"], message["date"]
    joined = message.get("new_chat_members") or ()
    for member in joined:
        yield _moved(update, chat, Membership(joined=True, member=_person(member)), author, at)
    if "left_chat_member" in message:
        yield _moved(update, chat, Membership(joined=False, member=_person(message["left_chat_member"])), author, at)
    elif not joined and (written := _written(message)) is not None:
        yield _envelope(id_, update, chat, written, author, at)


def _written(message: Part) -> Happening | None:
    """A message or a command; None for what the service itself writes, such as that a title was changed."""
    text, files = _text(message), _files(message)
    entities: Sequence[Part] = message.get("entities") or ()
    if text and entities and entities[0]["type"] == "bot_command" and entities[0]["offset"] == 0:
        length: int = entities[0]["length"]  # in UTF-16 code units, which for a command are characters
        name = text[1:length].partition("@")[0]
        return Command(id=_message_id(message), name=name, arguments=text[length:].strip())
    if text is None and not files and not any(name in message for name in ("location", "contact", "poll", "dice")):
        return None
    answered = message.get("reply_to_message")
    topic = message.get("message_thread_id") if message.get("is_topic_message") else None
    return Message(
        id=_message_id(message),
        text=text,
        attachments=files,
        reply_to=None if answered is None else _message_id(answered),
        thread_id=None if topic is None else str(topic),
    )


def _click(id_: str, update: Part, query: Part) -> Envelope:
    message = query.get("message")
    value = str(query.get("data") or query.get("game_short_name") or "")
    label = None if message is None else _label(message, value)
    click = Click(value=value, message_id=None if message is None else _message_id(message), label=label)
    # A message of inline mode has no chat that the bot knows: then it is the one with the person.
    chat = {"id": query["from"]["id"], "type": "private"} if message is None else message["chat"]
    return _envelope(id_, update, chat, click, _person(query["from"]), None)


def _label(message: Part, value: str) -> str | None:
    markup: Part = message.get("reply_markup") or {}
    keyboard: Sequence[Sequence[Part]] = markup.get("inline_keyboard") or ()
    return next((str(key["text"]) for row in keyboard for key in row if key.get("callback_data") == value), None)


def _reactions(id_: str, update: Part, change: Part) -> Iterator[Envelope]:
    """What was put to a message and what was taken away, of all that a person has put to it."""
    before, after = (_emojis(change[name]) for name in ("old_reaction", "new_reaction"))
    changes = [(emoji, True) for emoji in before if emoji not in after]
    changes += [(emoji, False) for emoji in after if emoji not in before]
    author = _person(change["user"]) if "user" in change else _channel(change.get("actor_chat") or change["chat"])
    for index, (emoji, removed) in enumerate(changes):
        content = Reaction(message_id=_message_id(change), emoji=emoji, removed=removed)
        yield _envelope(f"{id_}.{index}", update, change["chat"], content, author, change["date"])


def _emojis(reactions: Sequence[Part]) -> list[str]:
    """Emojis of one's own are told by their id, the paid one by its kind (ReactionType)."""
    return [str(each.get("emoji") or each.get("custom_emoji_id") or each["type"]) for each in reactions]


def _membership(update: Part, change: Part) -> Iterator[Envelope]:
    before, after = (_is_present(change[name]) for name in ("old_chat_member", "new_chat_member"))
    if before != after:
        content = Membership(joined=after, member=_person(change["new_chat_member"]["user"]))
        yield _moved(update, change["chat"], content, _person(change["from"]), change["date"])


def _moved(update: Part, chat: Part, content: Membership, author: Person | None, at: int) -> Envelope:
    """Administrators are told twice, by a message and by an update of its own: both have the same id."""
    who = None if content.member is None else content.member.id
    id_ = f"{chat['id']}:{'joined' if content.joined else 'left'}:{who}:{at}"
    return _envelope(id_, update, chat, content, author, at)


def _is_present(member: Part) -> bool:
    return member["status"] in _PRESENT or (member["status"] == "restricted" and bool(member["is_member"]))


def _envelope(id_: str, update: Part, chat: Part, content: Happening, author: Person | None, at: Any) -> Envelope:
    kind = {"private": "user", "channel": "channel"}.get(chat["type"], "group")
    name = shortened(chat.get("title") or _name(chat) or None)
    place = msgspec.convert({"id": str(chat["id"]), "type": kind, "name": name}, Place)
    moment = None if at is None else datetime.fromtimestamp(at, UTC)
    return Envelope(event_id=id_, chat=place, content=content, author=author, occurred_at=moment, raw=update)


def _message_id(message: Part) -> str:
    """Telegram's numbers of messages are unique in their chat only."""
    return f"{message['chat']['id']}:{message['message_id']}"


def _text(message: Part) -> str | None:
    return message.get("text") or message.get("caption")


def _author(message: Part) -> Person | None:
    if "from" in message:
        return _person(message["from"])
    return _channel(message["sender_chat"]) if "sender_chat" in message else None


def _person(user: Part) -> Person:
    name, username = shortened(_name(user) or None), user.get("username")
    return Person(id=str(user["id"]), name=name, username=username, is_bot=bool(user.get("is_bot")))


def _channel(chat: Part) -> Person:
    return Person(id=str(chat["id"]), name=shortened(chat.get("title")), username=chat.get("username"))


def _name(user: Part) -> str:
    return " ".join(filter(None, (user.get("first_name"), user.get("last_name"))))


def _files(message: Part) -> tuple[File, ...]:
    found: list[File] = []
    if message.get("photo"):
        largest = max(message["photo"], key=lambda size: int(size["width"]) * int(size["height"]))
        found.append(_file("image", {"mime_type": "image/jpeg", **largest}))
    for name, kind in _FILES.items():
        # An animation comes as a document as well, for older clients.
        if name in message and not (name == "document" and "animation" in message):
            found.append(_file(kind, message[name]))
    return tuple(found)


def _file(kind: str, file: Part) -> File:
    known = {
        "type": kind,
        "id": file["file_id"],
        "filename": file.get("file_name"),
        "mimeType": file.get("mime_type"),
        "size": file.get("file_size"),
    }
    return read_file(known)

"""Telegram by the Bot API (https://core.telegram.org/bots/api), version 10.1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from msgcore.core.actions import Delete, Edit, React, Type, Unreact
from msgcore.core.content import TargetType
from msgcore.core.errors import FieldError, PermanentError, TemporaryError
from msgcore.core.limits import Budget, LaneKind, RateLimits
from msgcore.outbound.rendering import Call
from msgcore.outbound.transport import Part, Response
from msgcore.platforms.base import (
    Account,
    Capability,
    CapabilityInfo,
    CredentialField,
    FileSource,
    OutgoingAction,
    OutgoingDelivery,
    PlatformDeclaration,
    SentReceipt,
)
from msgcore.platforms.calling import CallingAdapter, HttpCall, json_call
from msgcore.platforms.documents import find, find_text
from msgcore.platforms.error_table import Problem
from msgcore.platforms.telegram.api import base_url, method_url
from msgcore.platforms.telegram.errors import ERRORS, GONE, NO_TEXT, SAME, read_problem
from msgcore.platforms.telegram.inbound import UPDATES, TelegramInbound, webhook_secret
from msgcore.platforms.telegram.live import TelegramLive
from msgcore.platforms.telegram.render import (
    SHOWS,
    TYPING,
    TelegramOptions,
    as_caption,
    calls,
    delete,
    edit,
    reaction,
)

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.core.envelope import File
    from msgcore.outbound.layout import Layout

_CHAT = re.compile(r"-?[0-9]{1,19}|@[A-Za-z][A-Za-z0-9_]{3,31}")
_MESSAGE = re.compile(r"(?:-?[0-9]{1,19}:)?[0-9]{1,19}")
_TOPIC = re.compile(r"[0-9]{1,19}")

# https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this: about one message a second to a chat,
# 20 a minute to a group, about 30 a second to all. Evenly, and 2 % slower than allowed: docs/performance.md.
_SECOND = Budget(1, 1.02)
_TO_ALL = (Budget(30, 1.02),)
_TO_GROUPS = RateLimits(account=_TO_ALL, lane=(_SECOND, Budget(20, 61.2)))
LIMITS = RateLimits(
    account=_TO_ALL,
    lane=(_SECOND,),
    # Numbers of groups are negative, as those of channels are; names are of either.
    kinds=(LaneKind("group or channel", re.compile(r"[-@]"), _TO_GROUPS),),
)

DECLARATION = PlatformDeclaration(
    name="telegram",
    display_name="Telegram",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "To who has started the bot, and where it is a member"),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "By webhook, which register-webhook sets, or by polling"),
        CapabilityInfo(Capability.REACTIONS, "One at a time; of Telegram's own set of emojis"),
        CapabilityInfo(Capability.THREADS, "Topics of forums"),
        CapabilityInfo(Capability.EDIT_MESSAGE, "Texts with their buttons, and captions of files"),
        CapabilityInfo(Capability.DELETE_MESSAGE, "Within 48 hours; of an album, its first file only"),
        CapabilityInfo(Capability.TYPING, "For 5 seconds, or until a message comes"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.VOICE_RECEIVE,
        Capability.RECEIVE_EDIT,
        Capability.RECEIVE_REACTION,
        Capability.RECEIVE_CLICK,
        Capability.RECEIVE_COMMAND,
        Capability.RECEIVE_MEMBERSHIP,
    ),
    credentials=(
        CredentialField(
            "token",
            "the bot's token, as @BotFather gave it",
            secret=True,
            example="123456789:AAExampleExampleExampleExampleExam",
            pattern=r"[0-9]{3,20}:[A-Za-z0-9_-]{30,64}",
        ),
        CredentialField(
            "polling",
            "true: ask Telegram for what comes, which needs no public address; a webhook of the bot is removed. "
            "register-webhook sets it to false",
            kind="boolean",
            required=False,
            example=False,
            until_webhook=True,
        ),
    ),
    options=TelegramOptions,
    supports_webhooks=True,
    supports_polling=True,
    limits=LIMITS,
)


class TelegramAdapter(CallingAdapter):
    """Calls the Bot API."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    editable = frozenset(("sendMessage",))
    inbound = TelegramInbound()
    live = TelegramLive

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """A chat's number, or a public name."""
        if _CHAT.fullmatch(target.id):
            return []
        message = (
            "target.id must be the number of a chat, such as 123456789 or -1001234567890, or @name of a public one"
        )
        if target.type is TargetType.USER and target.id.startswith("@"):
            message += "; people can only be reached by their number"
        return [FieldError("/target/id", message)]

    @classmethod
    def check_content(cls, content: Content, options: SendOptions) -> list[FieldError]:
        """Messages and topics have numbers."""
        errors: list[FieldError] = []
        if options.reply_to is not None and not _MESSAGE.fullmatch(options.reply_to):
            message = "options.replyTo must be the id of a message, such as 123456789:42, for telegram"
            errors.append(FieldError("/options/replyTo", message))
        if options.thread_id is not None and not _TOPIC.fullmatch(options.thread_id):
            errors.append(FieldError("/options/threadId", "options.threadId must be a number for telegram"))
        return errors or super().check_content(content, options)

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        return calls(content, options, layout)

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Make one call; Telegram knows no idempotency keys, so `key` is not used."""
        del key
        body = {"chat_id": delivery.target.id, **call.body}
        url = self._url(account, call.method)
        files = await self.services.attachments.load(call.files)
        if not files:
            answer = await self.ask(json_call("POST", url, body))
        else:
            parts = [Part(name, _field(value)) for name, value in body.items()]
            parts += [
                Part(f"file{index}", file.data, file.filename, file.mime_type) for index, file in enumerate(files)
            ]
            answer = await self.ask(HttpCall("POST", url, body=parts))
        return SentReceipt(_message_id(answer.data.get("result")))

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """See `render.py`; a reaction takes the place of the one before."""
        match outgoing.action:
            case React() | Unreact() as action:
                await self._do(account, outgoing, reaction(action))
            case Edit() as action:
                await self._edit(account, outgoing, edit(action, await self.written(account, action)))
            case Delete() as action:
                await self._do(account, outgoing, delete(action), done=GONE)
            case Type():
                await self._do(account, outgoing, TYPING)
            case _:
                return await super().act(account, outgoing)
        return SentReceipt()

    async def _edit(self, account: Account, outgoing: OutgoingAction, call: Call) -> None:
        """Write a new text; where the message is a file, below it."""
        try:
            await self._do(account, outgoing, call, done=SAME)
        except PermanentError as error:
            if error.code != NO_TEXT:
                raise
            await self._do(account, outgoing, as_caption(call), done=SAME)

    async def _do(self, account: Account, outgoing: OutgoingAction, call: Call, *, done: str | None = None) -> None:
        """Make a call in the chat; an error with the code `done` says that nothing is left to be done."""
        body = {"chat_id": outgoing.target.id, **call.body}
        try:
            await self.ask(json_call("POST", self._url(account, call.method), body))
        except PermanentError as error:
            if error.code != done:
                raise

    async def register_webhook(self, account: Account, url: str) -> dict[str, Any]:
        """Have Telegram post updates there, with the account's secret (setWebhook); what waits already is kept."""
        body = {"url": url, "secret_token": webhook_secret(account), "allowed_updates": UPDATES}
        await self.ask(json_call("POST", self._url(account, "setWebhook"), body))
        answer = await self.ask(HttpCall("GET", self._url(account, "getWebhookInfo")))
        return dict(_result(answer.data))

    async def locate_file(self, account: Account, file: File) -> FileSource:
        """A file of up to 20 MB is at its path for an hour (getFile)."""
        answer = await self.ask(json_call("POST", self._url(account, "getFile"), {"file_id": file.id}))
        path = _result(answer.data).get("file_path")
        if path is None:
            raise PermanentError("attachment_not_found", "Telegram gave the file no path")
        return FileSource(f"{base_url(self.services)}/file/bot{account.credentials['token']}/{path}")

    def _url(self, account: Account, method: str) -> str:
        return method_url(self.services, account, method)

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)


def _field(value: Any) -> bytes:
    """A value of a form: objects and lists are JSON ("Making requests")."""
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _result(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was asked for. Raises TemporaryError where it was lost on the way: the status came, and no more."""
    result = data.get("result")
    if not isinstance(result, Mapping):
        raise TemporaryError("answer_lost", "Telegram's answer did not come as a whole")
    return cast("Mapping[str, Any]", result)


def _message_id(result: Any) -> str | None:
    """The id of a message, or of the first of an album. Numbers of messages are unique in their chat only."""
    first = find(result, 0) if isinstance(result, list) else result
    chat, number = find_text(first, "chat", "id"), find_text(first, "message_id")
    return None if chat is None or number is None else f"{chat}:{number}"


ADAPTER = TelegramAdapter

"""WhatsApp by Meta's Cloud API (https://developers.facebook.com/documentation/business-messaging/whatsapp)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgcore.core.actions import Action, MarkRead, React, Type, Unreact
from msgcore.core.content import TargetType
from msgcore.core.errors import FieldError, PermanentError, TemporaryError
from msgcore.core.limits import Budget, RateLimits
from msgcore.outbound.rendering import Call, Rendering
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
from msgcore.platforms.documents import find_text
from msgcore.platforms.error_table import Problem
from msgcore.platforms.whatsapp_cloud.errors import ERRORS, PAIR_SECONDS, read_problem
from msgcore.platforms.whatsapp_cloud.inbound import WhatsAppCloudInbound
from msgcore.platforms.whatsapp_cloud.render import (
    SHOWS,
    WhatsAppCloudOptions,
    calls,
    reaction,
    read_options,
    template_call,
)

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.core.envelope import File
    from msgcore.outbound.attachments import LoadedAttachment
    from msgcore.outbound.layout import Layout

BASE_URL = "https://graph.facebook.com/v23.0"
"""With the version of the Graph API whose published description the tests compare with."""

NOTHING: Mapping[str, Any] = {}
TYPING = {"typing_indicator": {"type": "text"}}
"""Source: "Typing indicators"."""

_NUMBER = re.compile(r"\+?[0-9]{5,15}")
_GROUP = re.compile(r"[A-Za-z0-9+/_=-]{8,255}")
_MESSAGE = re.compile(r"wamid\.\S{1,240}")

DECLARATION = PlatformDeclaration(
    name="whatsapp-cloud",
    display_name="WhatsApp Cloud API",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "Within 24 hours after the person wrote; otherwise templates only"),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "By webhook, with appSecret and verifyToken"),
        CapabilityInfo(Capability.BUTTONS, "up to 3 stand below the text, up to 10 are a list"),
        CapabilityInfo(Capability.REACTIONS, "One at a time, to messages that were received"),
        CapabilityInfo(Capability.TYPING, "For 25 seconds, to who wrote before; marks that as read"),
        CapabilityInfo(Capability.MARK_READ, "With what came before it"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.VOICE_RECEIVE,
        Capability.RECEIVE_REACTION,
        Capability.RECEIVE_CLICK,
        Capability.RECEIVE_DELIVERED,
        Capability.RECEIVE_READ,
        Capability.RECEIVE_FAILED,
    ),
    credentials=(
        CredentialField("accessToken", "an access token of a system user", secret=True, example="EAAJB" + "x" * 40),
        CredentialField(
            "phoneNumberId",
            "the id of the business phone number at Meta (no phone number)",
            example="106540352242922",
            pattern=r"[0-9]{5,32}",
        ),
        CredentialField(
            "appSecret",
            "the secret of the Meta app, which signs what comes in",
            required=False,
            secret=True,
            example="0123456789abcdef0123456789abcdef",
            max_length=255,
        ),
        CredentialField(
            "verifyToken",
            "a word of your own that the App Dashboard asks for with the webhook's address",
            required=False,
            secret=True,
            example="verify-0123456789",
            max_length=255,
        ),
    ),
    options=WhatsAppCloudOptions,
    supports_webhooks=True,
    # "Throughput": 80 messages a second of a phone number; "Pair rate limits": 1 in 6 s to one person. The periods are
    # 2 % longer, which is what jitter on the way takes (docs/performance.md).
    limits=RateLimits(account=(Budget(80, 1.02),), lane=(Budget(1, 1.02 * PAIR_SECONDS),)),
)


class WhatsAppCloudAdapter(CallingAdapter):
    """Calls the Graph API."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    inbound = WhatsAppCloudInbound()

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """A phone number with its country code, or a group of the Groups API."""
        if target.type is TargetType.GROUP:
            message = "target.id must be the id of a group, as the Groups API gave it"
            return [] if _GROUP.fullmatch(target.id) else [FieldError("/target/id", message)]
        if _NUMBER.fullmatch(target.id):
            return []
        return [
            FieldError("/target/id", "target.id must be a phone number with its country code, such as +4915112345678")
        ]

    @classmethod
    def address(cls, id_: str) -> str:
        """Numbers come without their +."""
        return id_.removeprefix("+")

    @classmethod
    def check_content(cls, content: Content, options: SendOptions) -> list[FieldError]:
        """Messages have ids of WhatsApp's own."""
        if options.reply_to is not None and not _MESSAGE.fullmatch(options.reply_to):
            message = "options.replyTo must be the id of a message, such as wamid.HBgL..., for whatsapp-cloud"
            return [FieldError("/options/replyTo", message)]
        return super().check_content(content, options)

    @classmethod
    def check_action(cls, action: Action) -> list[FieldError]:
        """Typing is shown below a message that was received."""
        if isinstance(action, Type) and action.message_id is None:
            message = "target: nobody wrote in this chat yet, and WhatsApp shows typing only as an answer"
            return [FieldError("/target", message)]
        return super().check_action(action)

    @classmethod
    def render(cls, content: Content, options: SendOptions) -> Rendering:
        """A template in place of a content that names one."""
        own = read_options(content)
        if own.template is not None:
            return Rendering((template_call(own.template, own, options),))
        return super().render(content, options)

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        return calls(content, options, layout)

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Send one message; WhatsApp knows no idempotency keys, so `key` is not used."""
        del key
        answered = delivery.options.reply_to
        if answered is not None and not delivery.part_ids and read_options(delivery.content).mark_read:
            await self.mark_read(account, answered)
        return await self.post(account, delivery.target, call)

    async def post(self, account: Account, target: Target, call: Call) -> SentReceipt:
        """Send a message, or a reaction, with its file. Raises DeliveryError."""
        body = dict(call.body)
        for file in await self.services.attachments.load(call.files):
            kind: str = body["type"]
            body[kind] = {**body[kind], "id": await self._upload(account, file)}
        receiver = "group" if target.type is TargetType.GROUP else "individual"
        head = {"messaging_product": "whatsapp", "recipient_type": receiver, "to": target.id}
        answer = await self.ask(json_call("POST", self._url(account, call.method), head | body, _login(account)))
        return SentReceipt(find_text(answer.data, "messages", 0, "id"))

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """A reaction takes the place of the one before; typing is a mark as read, with an indicator."""
        match outgoing.action:
            case React() as action:
                return await self.post(account, outgoing.target, reaction(action.message_id, action.emoji))
            case Unreact() as action:
                return await self.post(account, outgoing.target, reaction(action.message_id, ""))
            case MarkRead() as action:
                await self.mark_read(account, action.message_id)
            case Type(message_id=str() as answered):
                await self.mark_read(account, answered, TYPING)
            case _:
                return await super().act(account, outgoing)
        return SentReceipt()

    async def mark_read(self, account: Account, message_id: str, more: Mapping[str, Any] = NOTHING) -> None:
        """Show a message that was received, and those before it, as read. Raises DeliveryError."""
        body = {"messaging_product": "whatsapp", "status": "read", "message_id": message_id, **more}
        await self.ask(json_call("POST", self._url(account, "messages"), body, _login(account)))

    async def locate_file(self, account: Account, file: File) -> FileSource:
        """Where a file of a received message is, for five minutes; its URL wants the same login. Raises DeliveryError.

        Source: "Media", "Retrieve media URL" and "Download media".
        """
        answer = await self.ask(
            HttpCall("GET", f"{self.base_url(BASE_URL)}/{quote(file.id or '', safe='')}", _login(account))
        )
        url = answer.data.get("url")
        if not isinstance(url, str):
            raise PermanentError("attachment_not_found", "WhatsApp gave the file no address")
        return FileSource(url, _login(account))

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)

    async def _upload(self, account: Account, file: LoadedAttachment) -> str:
        """The id of a file that is at Meta now, for 30 days ("Media", "Upload media")."""
        parts = [
            Part("messaging_product", b"whatsapp"),
            Part("type", file.mime_type.encode()),
            Part("file", file.data, file.filename, file.mime_type),
        ]
        answer = await self.ask(HttpCall("POST", self._url(account, "media"), _login(account), parts))
        id_ = find_text(answer.data, "id")
        if id_ is None:
            raise TemporaryError("platform_unavailable", "WhatsApp took a file and did not say how to name it")
        return id_

    def _url(self, account: Account, edge: str) -> str:
        return f"{self.base_url(BASE_URL)}/{account.credentials['phoneNumberId']}/{edge}"


def _login(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.credentials['accessToken']}"}


ADAPTER = WhatsAppCloudAdapter

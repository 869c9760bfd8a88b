"""Discord by its HTTP API and its gateway (https://docs.discord.com/developers), version 10."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from cachetools import LRUCache

from msgcore.core.actions import Action, Delete, Edit, React, Type, Unreact
from msgcore.core.content import TargetType
from msgcore.core.errors import (
    DeliveryError,
    FieldError,
    InvalidInputError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)
from msgcore.core.limits import Budget, RateLimits
from msgcore.outbound.transport import Part, Response
from msgcore.platforms.base import (
    Account,
    Capability,
    CapabilityInfo,
    CredentialField,
    OutgoingAction,
    OutgoingDelivery,
    PlatformDeclaration,
    SentReceipt,
)
from msgcore.platforms.calling import Answer, CallingAdapter, HttpCall, json_call
from msgcore.platforms.discord.api import BASE_URL, headers_of
from msgcore.platforms.discord.errors import ERRORS, pace, read_problem
from msgcore.platforms.discord.inbound import DiscordInbound
from msgcore.platforms.discord.intents import GATEWAY_FIELDS, check_intents
from msgcore.platforms.discord.live import DiscordLive
from msgcore.platforms.discord.parts import message_id
from msgcore.platforms.discord.render import CREATE, SHOWS, DiscordOptions, calls, problems
from msgcore.platforms.error_table import Problem

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.outbound.attachments import LoadedAttachment
    from msgcore.outbound.layout import Layout
    from msgcore.outbound.rendering import Call, Rendering
    from msgcore.outbound.services import AdapterServices

KEPT_CHANNELS = 10_000
"""Channels with one person that are remembered, of all accounts."""
NONCE = 25
"""Characters of a nonce (resources/message#create-message)."""

_ID = re.compile(r"[1-9][0-9]{0,19}")
_MESSAGE = re.compile(r"(?:[1-9][0-9]{0,19}:)?[1-9][0-9]{0,19}")
_EXAMPLE = "290926798626357999:306588351130107906"
_EMOJI = re.compile(r"(?:<a?:)?(?P<name>[^:<>]+):(?P<id>[0-9]{1,20})>?")

DECLARATION = PlatformDeclaration(
    name="discord",
    display_name="Discord",
    capabilities=(
        CapabilityInfo(
            Capability.SEND_MESSAGE, "To channels and threads that the bot sees, and to people in its servers"
        ),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "Commands and buttons by webhook, all else over the gateway"),
        CapabilityInfo(Capability.EDIT_MESSAGE, "Of the bot's own; no polls"),
        CapabilityInfo(Capability.DELETE_MESSAGE),
        CapabilityInfo(Capability.ATTACHMENTS, "25 MiB in all"),
        CapabilityInfo(Capability.EMBEDS, "25 fields each and 6,000 characters together"),
        CapabilityInfo(Capability.REACTIONS, "Emojis, and a server's own as name:id"),
        CapabilityInfo(Capability.TYPING, "For ten seconds"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.RECEIVE_EDIT,
        Capability.RECEIVE_DELETE,
        Capability.RECEIVE_REACTION,
        Capability.RECEIVE_CLICK,
        Capability.RECEIVE_COMMAND,
        Capability.RECEIVE_MEMBERSHIP,
        Capability.RECEIVE_TYPING,
    ),
    credentials=(
        CredentialField(
            "token",
            "the bot's token, from the page Bot of the application",
            secret=True,
            example="MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs",
            pattern=r"[A-Za-z0-9_.-]{20,256}",
        ),
        CredentialField(
            "applicationId",
            "the application's id, from its page General Information",
            required=False,
            example="198622483471925248",
            pattern=r"[1-9][0-9]{0,19}",
        ),
        CredentialField(
            "publicKey",
            "the application's public key, from its page General Information, to receive by webhook",
            required=False,
            secret=True,
            example="22556792c769dd97fb5e714d77ac76f6a4913470ef593bdead2429209b795ff5",
            pattern=r"[0-9a-fA-F]{64}",
        ),
        *GATEWAY_FIELDS,
    ),
    connection_type="websocket",
    options=DiscordOptions,
    supports_webhooks=True,
    supports_websocket=True,
    # https://docs.discord.com/developers/topics/rate-limits, "Global Rate Limit": 50 requests a second. That of a
    # channel is told by headers only; libraries know it as 5 in 5 seconds. Both with a margin: docs/performance.md.
    limits=RateLimits(account=(Budget(50, 1.02),), lane=(Budget(5, 5.1),)),
)


class DiscordAdapter(CallingAdapter):
    """Calls the HTTP API."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    inbound = DiscordInbound()
    live = DiscordLive
    editable = frozenset((CREATE,))

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._channels: LRUCache[tuple[str, str, str], str] = LRUCache(KEPT_CHANNELS)

    @classmethod
    def check_credentials(cls, credentials: Mapping[str, Any]) -> list[FieldError]:
        """Intents that there are."""
        return check_intents(credentials)

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """Discord's own ids."""
        if _ID.fullmatch(target.id):
            return []
        who = "a person" if target.type is TargetType.USER else "a channel"
        return [FieldError("/target/id", f"target.id must be the id of {who}, such as 198622483471925248")]

    @classmethod
    def check_content(cls, content: Content, options: SendOptions) -> list[FieldError]:
        """Messages and threads are known by their ids."""
        errors: list[FieldError] = []
        if options.reply_to is not None and not _MESSAGE.fullmatch(options.reply_to):
            message = f"options.replyTo must be the id of a message, such as {_EXAMPLE}, for discord"
            errors.append(FieldError("/options/replyTo", message))
        if options.thread_id is not None and not _ID.fullmatch(options.thread_id):
            errors.append(FieldError("/options/threadId", "options.threadId must be the id of a thread for discord"))
        return errors or super().check_content(content, options)

    @classmethod
    def check_action(cls, action: Action) -> list[FieldError]:
        """Messages are known by their ids."""
        if isinstance(action, React | Unreact | Edit | Delete) and not _MESSAGE.fullmatch(action.message_id):
            return [FieldError("/messageId", f"messageId must be the id of a message, such as {_EXAMPLE}, for discord")]
        return super().check_action(action)

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        return calls(content, options, layout)

    @classmethod
    def render(cls, content: Content, options: SendOptions) -> Rendering:
        """The messages, and what Discord would refuse of them."""
        rendering = super().render(content, options)
        errors = (*rendering.errors, *problems(content, rendering.calls))
        return msgspec.structs.replace(rendering, errors=errors)

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Post one message. What repeats it has the same nonce: for a few minutes Discord gives the first one again."""
        try:
            channel = delivery.options.thread_id or await self._channel(account, delivery.target)
            files = await self.services.attachments.load(call.files)
        except DeliveryError as error:
            error.reached = "no"  # nobody sees anything of it yet
            raise
        body = {**call.body, "nonce": _nonce(key), "enforce_nonce": True}
        answer = await self._ask(account, "POST", f"/channels/{channel}/messages", body, files)
        id_ = answer.data.get("id")
        return SentReceipt(None if id_ is None else message_id(channel, str(id_)), pace(answer.response))

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """Reactions, edits and deletions of a message, and typing."""
        action = outgoing.action
        match action:
            case Type():
                channel = await self._channel(account, outgoing.target)
                answer = await self._ask(account, "POST", f"/channels/{channel}/typing")
            case React():
                path = await self._reaction(account, outgoing, action)
                answer = await self._ask(account, "PUT", path)
            case Unreact():
                path = await self._reaction(account, outgoing, action)
                answer = await self._undo(account, path, "reaction_refused")
            case Edit():
                # What is not given would stay as it was.
                bare: dict[str, Any] = {"content": "", "embeds": [], "components": [], "attachments": []}
                written = (await self.written(account, action)).body
                body = bare | {name: value for name, value in written.items() if name != "tts"}
                answer = await self._ask(account, "PATCH", await self._message(account, outgoing, action), body)
            case Delete():
                answer = await self._undo(account, await self._message(account, outgoing, action), "message_unknown")
            case _:
                return await super().act(account, outgoing)
        return SentReceipt(None, None if answer is None else pace(answer.response))

    async def register_webhook(self, account: Account, url: str) -> dict[str, Any]:
        """Have Discord post interactions there, in place of the gateway; it tries the address at once.

        Source: https://docs.discord.com/developers/resources/application#edit-current-application
        """
        if not account.credentials.get("publicKey"):
            message = "credentials.publicKey is required: Discord only takes an address that verifies its requests"
            raise InvalidInputError.of([FieldError("/credentials/publicKey", message)])
        answer = await self._ask(account, "PATCH", "/applications/@me", {"interactions_endpoint_url": url})
        told = ("id", "name", "interactions_endpoint_url")
        return {name: answer.data[name] for name in told if name in answer.data}

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)

    async def forget(self, account_id: str) -> None:
        """Channels with people belong to the bot that the token was for."""
        for known in [known for known in self._channels if known[0] == account_id]:
            del self._channels[known]

    async def _channel(self, account: Account, target: Target) -> str:
        """The channel of a target, which for a person has to be opened first (resources/user#create-dm)."""
        if target.type is not TargetType.USER:
            return target.id
        place = (account.id, account.version, target.id)
        known = self._channels.get(place)
        if known is not None:
            return known
        try:
            answer = await self._ask(account, "POST", "/users/@me/channels", {"recipient_id": target.id})
        except ThrottledError as error:
            error.scope = Scope.ACCOUNT  # else each further person is one more request too many
            raise
        except PermanentError as error:
            if error.code != "recipient_unknown":
                raise
            return target.id  # nobody's: a chat with a person is told by the id of its channel
        if "id" not in answer.data:
            raise TemporaryError("platform_unavailable", "Discord did not say which channel it opened")
        self._channels[place] = str(answer.data["id"])
        return self._channels[place]

    async def _message(
        self, account: Account, outgoing: OutgoingAction, action: React | Unreact | Edit | Delete
    ) -> str:
        """The path of a message; one without a channel in its id is in the target's."""
        channel, _, number = action.message_id.rpartition(":")
        return f"/channels/{channel or await self._channel(account, outgoing.target)}/messages/{number}"

    async def _reaction(self, account: Account, outgoing: OutgoingAction, action: React | Unreact) -> str:
        message = await self._message(account, outgoing, action)
        return f"{message}/reactions/{_emoji(action.emoji)}/@me"

    async def _undo(self, account: Account, path: str, gone: str) -> Answer | None:
        """Take something away; what is not there any more (`gone`) is as good as that."""
        try:
            return await self._ask(account, "DELETE", path)
        except PermanentError as error:
            if error.code != gone:
                raise
            return None

    async def _ask(
        self,
        account: Account,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        files: Sequence[LoadedAttachment] = (),
    ) -> Answer:
        url = f"{self.base_url(BASE_URL)}{path}"
        headers = headers_of(account.credentials["token"])
        if body is None:
            return await self.ask(HttpCall(method, url, headers))
        if not files:
            return await self.ask(json_call(method, url, body, headers))
        named = [{"id": str(index), "filename": file.filename} for index, file in enumerate(files)]
        form = msgspec.json.encode({**body, "attachments": named})
        parts = [Part("payload_json", form, mime_type="application/json")]
        parts += [Part(f"files[{index}]", file.data, file.filename, file.mime_type) for index, file in enumerate(files)]
        return await self.ask(HttpCall(method, url, headers, parts))


def _nonce(key: str) -> str:
    """A key as short as a nonce may be; 150 bits of its hash are enough to tell messages apart."""
    return urlsafe_b64encode(sha256(key.encode()).digest()).decode()[:NONCE]


def _emoji(emoji: str) -> str:
    """An emoji as it stands in a path: itself, or `name:id` (also of `<:name:id>`) for a server's own."""
    found = _EMOJI.fullmatch(emoji)
    return quote(emoji if found is None else f"{found['name']}:{found['id']}", safe="")


ADAPTER = DiscordAdapter

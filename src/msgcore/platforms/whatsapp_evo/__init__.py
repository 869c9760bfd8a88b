"""WhatsApp by an Evolution API server of one's own (v2, https://doc.evolution-api.com), as a linked device."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, assert_never, cast
from urllib.parse import quote

from msgcore.core.actions import Delete, Edit, MarkRead, React, Type, Unreact
from msgcore.core.errors import FieldError
from msgcore.core.limits import RateLimits
from msgcore.outbound.rendering import Call
from msgcore.outbound.transport import Response
from msgcore.platforms.base import (
    Account,
    Capability,
    CapabilityInfo,
    CredentialField,
    OutgoingAction,
    OutgoingDelivery,
    PlatformDeclaration,
    QrCode,
    SentReceipt,
)
from msgcore.platforms.calling import CallingAdapter, HttpCall, json_call
from msgcore.platforms.documents import find, find_text
from msgcore.platforms.error_table import Problem
from msgcore.platforms.whatsapp_evo.errors import ERRORS, read_problem
from msgcore.platforms.whatsapp_evo.inbound import EVENTS, SECRET_HEADER, WhatsAppEvoInbound, sent_id, webhook_secret
from msgcore.platforms.whatsapp_evo.render import (
    SHOWS,
    WhatsAppEvoOptions,
    calls,
    delete,
    edit,
    reaction,
    read_mark,
    typing,
    with_file,
)
from msgcore.security.egress import url_problem

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.outbound.layout import Layout

LARGEST_PICTURE = 256 * 1024
"""Bytes of an answer with a QR code in it."""

_ADDRESS = re.compile(r"\+?[0-9]{5,15}|[0-9]{5,20}@(?:s\.whatsapp\.net|lid)|[0-9-]{10,40}@g\.us")

DECLARATION = PlatformDeclaration(
    name="whatsapp-evo",
    display_name="WhatsApp (Evolution API)",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "To numbers and groups, by an Evolution API server of your own"),
        CapabilityInfo(
            Capability.RECEIVE_MESSAGE, "By webhook, which register-webhook sets; votes and edits are not told"
        ),
        CapabilityInfo(Capability.BUTTONS, "WhatsApp does not show buttons of linked devices"),
        CapabilityInfo(Capability.REACTIONS, "One at a time"),
        CapabilityInfo(Capability.VOICE_SEND, "Audio becomes voice messages"),
        CapabilityInfo(Capability.EDIT_MESSAGE, "Texts, and captions of pictures and videos, for 15 minutes"),
        CapabilityInfo(
            Capability.DELETE_MESSAGE, "For as long as WhatsApp's apps take it, which do not say whether they did"
        ),
        CapabilityInfo(Capability.TYPING, "For 5 seconds"),
        CapabilityInfo(Capability.MARK_READ, "In chats with one person that WhatsApp names by number"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.VOICE_RECEIVE,
        Capability.RECEIVE_DELETE,
        Capability.RECEIVE_REACTION,
        Capability.RECEIVE_CLICK,
        Capability.RECEIVE_MEMBERSHIP,
        Capability.RECEIVE_DELIVERED,
        Capability.RECEIVE_READ,
        Capability.RECEIVE_FAILED,
        Capability.RECEIVE_TYPING,
    ),
    credentials=(
        CredentialField(
            "evolutionApiUrl",
            "the URL of the Evolution API server",
            destination=True,
            example="https://evolution.example.com",
        ),
        CredentialField(
            "evolutionApiKey",
            "the API key of the server, or of the instance",
            secret=True,
            example="429683C4C977415CAAFCCE10F7D57E11",
        ),
        CredentialField(
            "instanceName",
            "the name of the instance, which has to exist: letters, digits, hyphens and underscores",
            required=False,
            default="msgcore",
            example="msgcore",
            pattern=r"[A-Za-z0-9_-]{1,50}",
        ),
    ),
    connection_type="webhook",
    options=WhatsAppEvoOptions,
    supports_webhooks=True,
    # Nobody publishes how much a linked device may send; this only keeps one from filling up the server.
    limits=RateLimits(in_flight=5),
)


class WhatsAppEvoAdapter(CallingAdapter):
    """Calls the Evolution API."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    editable = frozenset(("sendText",))
    inbound = WhatsAppEvoInbound()

    @classmethod
    def check_credentials(cls, credentials: Mapping[str, Any]) -> list[FieldError]:
        """The server's URL is one."""
        problem = url_problem(credentials["evolutionApiUrl"])
        if problem is None:
            return []
        return [FieldError("/credentials/evolutionApiUrl", f"credentials.evolutionApiUrl {problem}")]

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """A phone number with its country code, or an id of WhatsApp's own (JID)."""
        if _ADDRESS.fullmatch(target.id):
            return []
        message = (
            "target.id must be a phone number with its country code, such as 4915112345678, "
            "or an id such as 4915112345678@s.whatsapp.net or 120363041967849074@g.us"
        )
        return [FieldError("/target/id", message)]

    @classmethod
    def address(cls, id_: str) -> str:
        """Chats with people come as JIDs."""
        number = id_.removeprefix("+")
        return f"{number}@s.whatsapp.net" if number.isdecimal() else id_

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        return calls(content, options, layout)

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Make one call; the Evolution API knows no idempotency keys, so `key` is not used."""
        del key
        return await self.post(account, delivery.target.id, call)

    async def post(self, account: Account, number: str, call: Call) -> SentReceipt:
        """Send a message, or a reaction, with its file. Raises DeliveryError."""
        body = call.body
        for file in await self.services.attachments.load(call.files):
            body = with_file(call, file, b64encode(file.data).decode())
        # A reaction names the chat in its key.
        whole = body if "key" in body else {"number": number, **body}
        answer = await self.ask(json_call("POST", _url(account, f"message/{call.method}"), whole, _login(account)))
        sent = find(answer.data, "key")
        chat, id_ = find_text(sent, "remoteJid"), find_text(sent, "id")
        return SentReceipt(None if chat is None or id_ is None else sent_id({**sent, "remoteJid": chat, "id": id_}))

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """See `render.py`; a reaction takes the place of the one before."""
        chat, action = outgoing.target.id, outgoing.action
        match action:
            case React():
                call = reaction(chat, action.message_id, action.emoji, from_me=action.from_me)
                return await self.post(account, chat, call)
            case Unreact():
                return await self.post(account, chat, reaction(chat, action.message_id, "", from_me=action.from_me))
            case Edit():
                await self._do(account, "POST", edit(chat, action.message_id, await self.written(account, action)))
            case Delete():
                await self._do(account, "DELETE", delete(chat, action.message_id))
            case Type():
                await self._do(account, "POST", typing(chat))
            case MarkRead():
                await self._do(account, "POST", read_mark(chat, action.message_id))
            case _:
                assert_never(action)
        return SentReceipt()

    async def _do(self, account: Account, method: str, call: Call) -> None:
        await self.ask(json_call(method, _url(account, f"chat/{call.method}"), call.body, _login(account)))

    async def register_webhook(self, account: Account, url: str) -> dict[str, Any]:
        """Have the server post what happens to this address; what it says about that. Raises DeliveryError."""
        webhook = {
            "enabled": True,
            "url": url,
            "headers": {SECRET_HEADER: webhook_secret(account)},
            "byEvents": False,
            "base64": False,
            "events": list(EVENTS),
        }
        answer = await self.ask(json_call("POST", _url(account, "webhook/set"), {"webhook": webhook}, _login(account)))
        return {name: answer.data.get(name) for name in ("enabled", "url", "events")}

    async def qr_code(self, account: Account) -> QrCode:
        """What the server shows for the instance just now ("Instance Connect"). Raises DeliveryError."""
        call = HttpCall("GET", _url(account, "instance/connect"), _login(account))
        data = (await self.ask(call, largest=LARGEST_PICTURE)).data
        picture: Any = data.get("base64")
        instance: Any = data.get("instance")
        linked = isinstance(instance, dict) and cast("dict[str, Any]", instance).get("state") == "open"
        return QrCode(picture if isinstance(picture, str) else None, linked)

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)


def _url(account: Account, path: str) -> str:
    base: str = account.credentials["evolutionApiUrl"]
    return f"{base.rstrip('/')}/{path}/{quote(account.credentials.get('instanceName') or 'msgcore', safe='')}"


def _login(account: Account) -> dict[str, str]:
    return {"apikey": account.credentials["evolutionApiKey"]}


ADAPTER = WhatsAppEvoAdapter

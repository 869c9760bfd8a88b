"""Matrix by the Client-Server API (https://spec.matrix.org/v1.18/client-server-api/), without encryption."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from cachetools import TTLCache

from msgcore.core.actions import Delete, Edit, MarkRead, React, Type, Unreact
from msgcore.core.content import TargetType
from msgcore.core.errors import AuthenticationError, DeliveryError, FieldError, PermanentError
from msgcore.core.limits import RateLimits
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
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.matrix import actions
from msgcore.platforms.matrix.client import MEDIA, Homeserver, needed, path
from msgcore.platforms.matrix.errors import ERRORS, read_problem
from msgcore.platforms.matrix.inbound import MatrixInbound
from msgcore.platforms.matrix.live import MatrixLive
from msgcore.platforms.matrix.render import (
    MESSAGE,
    SHOWS,
    MatrixOptions,
    calls,
    read_options,
    replacement,
    with_file,
)
from msgcore.platforms.matrix.rooms import KEPT, KEPT_SECONDS, Rooms
from msgcore.security.egress import url_problem

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.core.envelope import File
    from msgcore.outbound.layout import Layout
    from msgcore.outbound.rendering import Call
    from msgcore.outbound.services import AdapterServices
    from msgcore.outbound.transport import Response
    from msgcore.platforms.error_table import Problem

MXC: Final = re.compile(r"mxc://(?P<server>[A-Za-z0-9.:\[\]-]{1,255})/(?P<media>[A-Za-z0-9_-]{1,255})")

# https://spec.matrix.org/v1.18/appendices/#identifier-grammar; the rooms of version 12 have no server in their ids.
_USER = r"@[^\s:]{0,253}:[^\s]{1,253}"
_ROOM = r"![^\s]{1,254}"
_ALIAS = r"#[^\s:]{1,253}:[^\s]{1,253}"
_TARGETS = {
    TargetType.USER: (re.compile(f"{_USER}|{_ROOM}"), "the id of a user, such as @ann:example.org, or of a room"),
    TargetType.CHAT: (re.compile(f"{_USER}|{_ROOM}|{_ALIAS}"), "the id of a room or a user, or an alias"),
}
_PLACES = (
    re.compile(f"{_ROOM}|{_ALIAS}"),
    "the id of a room, such as !abc:example.org, or an alias such as #news:example.org",
)
_EVENT = re.compile(r"\$[^\s]{1,254}")

DECLARATION = PlatformDeclaration(
    name="matrix",
    display_name="Matrix",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "To rooms that the user is in, and to people; not to encrypted rooms"),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "By /sync; what is encrypted cannot be read"),
        CapabilityInfo(Capability.EDIT_MESSAGE, "What becomes one event"),
        CapabilityInfo(Capability.DELETE_MESSAGE, "Redacted: others see that something was there"),
        CapabilityInfo(Capability.ATTACHMENTS, "As large as the homeserver takes: 50 MB with Synapse as it is set up"),
        CapabilityInfo(Capability.BUTTONS, "A numbered list: Matrix has none"),
        CapabilityInfo(Capability.EMBEDS, "Written out as formatted text"),
        CapabilityInfo(Capability.REACTIONS),
        CapabilityInfo(Capability.THREADS, "options.threadId is the first message of the thread"),
        CapabilityInfo(Capability.TYPING),
        CapabilityInfo(Capability.MARK_READ),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.RECEIVE_EDIT,
        Capability.RECEIVE_DELETE,
        Capability.RECEIVE_REACTION,
        Capability.RECEIVE_MEMBERSHIP,
        Capability.RECEIVE_READ,
        Capability.RECEIVE_TYPING,
    ),
    credentials=(
        CredentialField(
            "homeserverUrl",
            "the URL of the homeserver's API, without /_matrix",
            destination=True,
            example="https://matrix.example.org",
        ),
        CredentialField(
            "accessToken",
            "an access token of the user",
            secret=True,
            example="syt_ZXhhbXBsZQ_ExampleExampleExample_000000",
            pattern=r"[!-~]{1,2048}",
        ),
        CredentialField(
            "userId",
            "the user that the token is of; asked for where it is not given",
            required=False,
            example="@bot:example.org",
            pattern=_USER,
            max_length=255,
        ),
        CredentialField("receive", "whether to listen to what happens", "boolean", required=False, default=True),
        CredentialField("autoJoin", "whether to follow invitations", "boolean", required=False, default=False),
    ),
    connection_type="polling",
    options=MatrixOptions,
    supports_polling=True,
    # Each homeserver has its own: Synapse begins with one message in 5 s and 10 at once of a user (rc_message,
    # https://element-hq.github.io/synapse/latest/usage/configuration/config_documentation.html#rc_message), which is
    # raised for bots, and says exactly when the next one may come. So nothing is held back before it says so.
    limits=RateLimits(in_flight=5),
)


class MatrixAdapter(CallingAdapter):
    """Calls a homeserver."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    needs_answer = True
    editable = frozenset((MESSAGE,))
    inbound = MatrixInbound()
    live = MatrixLive

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._rooms = Rooms(services.clock)
        self._largest: TTLCache[tuple[str, str], int] = TTLCache(KEPT, KEPT_SECONDS, timer=services.clock.monotonic)

    @classmethod
    def check_credentials(cls, credentials: Mapping[str, Any]) -> list[FieldError]:
        """The homeserver's URL is one, of a server and not of a page."""
        url: str = credentials["homeserverUrl"]
        problem = url_problem(url)
        if problem is None and (urlsplit(url).query or urlsplit(url).fragment):
            problem = "must have neither ? nor #"
        return [FieldError("/credentials/homeserverUrl", f"credentials.homeserverUrl {problem}")] if problem else []

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """Ids of users and rooms, and aliases of rooms."""
        shape, words = _TARGETS.get(target.type, _PLACES)
        if shape.fullmatch(target.id) and len(target.id) <= 255:  # noqa: PLR2004
            return []
        return [FieldError("/target/id", f"target.id must be {words}")]

    @classmethod
    def check_content(cls, content: Content, options: SendOptions) -> list[FieldError]:
        """Messages are known by the ids of their events."""
        errors = [
            FieldError(
                f"/options/{name}",
                f"options.{name} must be the id of a message, such as $143273582443PhrSn, for matrix",
            )
            for name, given in (("replyTo", options.reply_to), ("threadId", options.thread_id))
            if given is not None and not _EVENT.fullmatch(given)
        ]
        return errors or super().check_content(content, options)

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        return calls(content, options, layout)

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Send an event; `key` is its transaction, by which the homeserver knows it again."""
        server, target = self._server(account), delivery.target.id
        try:
            room = await self._rooms.open(server, account, target)
            body = await self._loaded(server, account, call)
        except DeliveryError as error:
            error.reached = "no"  # nobody sees anything of it yet
            raise
        own = read_options(delivery.content)
        try:
            event = await self._put(server, account, room, body, key, in_the_clear=own.unencrypted)
        except PermanentError:
            if not self._rooms.forget(account, target):
                raise
            moved = await self._rooms.open(server, account, target)
            if moved == room:
                raise
            event = await self._put(server, account, moved, body, key, in_the_clear=own.unencrypted)
        return SentReceipt(event)

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """Do something to a message, or in its room; transactions and what is there already make it happen once."""
        server, action, key = self._server(account), outgoing.action, outgoing.id
        room = await self._rooms.known(server, account, outgoing.target.id)
        if not room:
            raise PermanentError("recipient_unknown", "There is no direct chat with this user yet")
        match action:
            case React():
                await actions.react(server, room, action, key)
            case Unreact():
                await actions.unreact(server, await self._rooms.user(server, account), room, action, key)
            case Edit():
                body = replacement(action.message_id, (await self.written(account, action)).body)
                in_the_clear = read_options(action.content).unencrypted
                await self._put(server, account, room, body, key, in_the_clear=in_the_clear)
            case Delete():
                await actions.redact(server, room, action.message_id, key)
            case Type():
                await actions.show_typing(server, await self._rooms.user(server, account), room)
            case MarkRead():
                await server.send("POST", path("rooms", room, "receipt", "m.read", action.message_id), {})
        return SentReceipt()

    async def locate_file(self, account: Account, file: File) -> FileSource:
        """In the media repository, which wants the account's token (v1.11, #content-repository)."""
        found = MXC.fullmatch(file.id or "")
        if found is None:
            raise PermanentError("attachment_not_found", "The message names no file of the media repository")
        server = self._server(account)
        parts = (quote(found["server"], safe=""), found["media"])
        return FileSource(f"{server.url}/{MEDIA}/media/download/{'/'.join(parts)}", server.headers)

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)

    def _server(self, account: Account) -> Homeserver:
        return Homeserver(self.services.http, account, self.services.clock)

    async def _put(
        self, server: Homeserver, account: Account, room: str, body: Mapping[str, Any], key: str, *, in_the_clear: bool
    ) -> str:
        if not in_the_clear and await self._rooms.is_encrypted(server, account, room):
            raise PermanentError(
                "room_encrypted",
                "The room is encrypted, which MsgCore cannot do: use another one, "
                "or allow it with platformOptions.matrix.unencrypted",
            )
        return needed(await server.send("PUT", path("rooms", room, "send", MESSAGE, key), body), "event_id")

    async def _loaded(self, server: Homeserver, account: Account, call: Call) -> dict[str, Any]:
        """The event of a call, its file uploaded."""
        body = call.body
        for file in await self.services.attachments.load(call.files):
            if len(file.data) > await self._largest_upload(server, account):
                raise PermanentError("message_too_large", f"{file.filename} is larger than the homeserver takes")
            body = with_file(body, file, await server.upload(file.data, file.mime_type, file.filename))
        return body

    async def _largest_upload(self, server: Homeserver, account: Account) -> int:
        place = (account.id, account.version)
        known = self._largest.get(place)
        if known is None:
            try:
                said = (await server.get(f"{MEDIA}/media/config")).get("m.upload.size")
            except (PermanentError, AuthenticationError):  # it does not say: the upload itself will
                said = None
            known = self._largest[place] = said if isinstance(said, int) and said > 0 else 2**63
        return known


ADAPTER = MatrixAdapter

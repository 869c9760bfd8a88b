"""The contract of a platform: what it declares, and what its adapter does.

A platform is one folder. Its declaration drives validation, `GET /platforms/supported`, the docs
and the contract tests; its adapter renders and sends.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec

from msgcore.core.actions import Action, Delete, Edit, MarkRead, React, Type, Unreact
from msgcore.core.content import SendOptions
from msgcore.core.deliveries import Exchange
from msgcore.core.errors import InvalidInputError, PermanentError
from msgcore.core.limits import UNLIMITED, Pace, RateLimits
from msgcore.core.retry import RetryPolicy
from msgcore.core.stop_words import StopWords
from msgcore.outbound.layout import AS_GIVEN, Shows, ignored, refusals
from msgcore.outbound.rendering import Call, Rendering
from msgcore.platforms.error_table import ErrorTable
from msgcore.platforms.live import Live
from msgcore.platforms.receiving import Inbound

if TYPE_CHECKING:
    from msgcore.core.content import Button, Content, Target
    from msgcore.core.envelope import File
    from msgcore.core.errors import FieldError
    from msgcore.outbound.services import AdapterServices


class Capability(StrEnum):
    """What a platform can do (names of the compatible API, and those that it does not have).

    What begins with `receive-` is told by the platform; of the others, each is asked of it.
    """

    SEND_MESSAGE = "send-message"
    RECEIVE_MESSAGE = "receive-message"
    EDIT_MESSAGE = "edit-message"
    DELETE_MESSAGE = "delete-message"
    ATTACHMENTS = "attachments"
    EMBEDS = "embeds"
    BUTTONS = "buttons"
    REACTIONS = "reactions"
    THREADS = "threads"
    TYPING = "typing"
    MARK_READ = "mark-read"
    VOICE_SEND = "voice-send"
    VOICE_RECEIVE = "voice-receive"
    SUBJECT = "subject"
    LOCATION = "location"
    CONTACT = "contact"
    POLL = "poll"
    REPLIES = "replies"
    SILENT = "silent"
    RECEIVE_ATTACHMENTS = "receive-attachments"
    RECEIVE_EDIT = "receive-edit"
    RECEIVE_DELETE = "receive-delete"
    RECEIVE_REACTION = "receive-reaction"
    RECEIVE_CLICK = "receive-click"
    RECEIVE_COMMAND = "receive-command"
    RECEIVE_MEMBERSHIP = "receive-membership"
    RECEIVE_DELIVERED = "receive-delivered"
    RECEIVE_READ = "receive-read"
    RECEIVE_FAILED = "receive-failed"
    RECEIVE_TYPING = "receive-typing"


ALL_TOLD: Final = (
    Capability.VOICE_RECEIVE,
    *(each for each in Capability if each.value.startswith("receive-") and each is not Capability.RECEIVE_MESSAGE),
)
"""Whatever a platform may tell of: that of platforms which take reports in our own shape."""

CAPABILITY_OF: Final[dict[type[Action], Capability]] = {
    React: Capability.REACTIONS,
    Unreact: Capability.REACTIONS,
    Edit: Capability.EDIT_MESSAGE,
    Delete: Capability.DELETE_MESSAGE,
    Type: Capability.TYPING,
    MarkRead: Capability.MARK_READ,
}
"""What a platform must be able to do for an action."""


@dataclass(frozen=True, slots=True)
class CapabilityInfo:
    """A capability and, in words, where it ends on this platform."""

    capability: Capability
    limitations: str | None = None


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One field of an account's credentials.

    `secret` ones are never shown again. `destination` ones say where the secrets are sent: whoever
    changes one has to give the secrets anew. `until_webhook` is for a boolean by which an account receives without
    a webhook: registering one sets it to false.
    """

    name: str
    description: str
    kind: Literal["string", "integer", "boolean"] = "string"
    required: bool = True
    secret: bool = False
    destination: bool = False
    until_webhook: bool = False
    example: Any = None
    default: Any = None
    pattern: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    max_length: int = 2048


@dataclass(frozen=True, slots=True)
class PlatformDeclaration:
    """The fact sheet of a platform.

    `capabilities` are those that nothing else tells, and words about others: what is in `shows` of the adapter need not
    be said again (`fact_sheet.py`). `tells` is what comes in, beside messages.
    `options` is the typed shape of `content.platformOptions[name]` (None: passed on as it is).
    `ordered` tells whether messages to one conversation keep their order. `stop_words` are those with which
    people opt out of messages (None: nobody can by a word). `ignores_case`: ids of users that differ in capitals
    only are the same.
    """

    name: str
    display_name: str
    capabilities: tuple[CapabilityInfo, ...]
    credentials: tuple[CredentialField, ...]
    tells: tuple[Capability, ...] = ()
    connection_type: Literal["http", "webhook", "polling", "websocket"] = "http"
    options: type[msgspec.Struct] | None = None
    limits: RateLimits = UNLIMITED
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    ordered: bool = True
    stop_words: StopWords | None = None
    ignores_case: bool = False
    supports_webhooks: bool = False
    supports_polling: bool = False
    supports_websocket: bool = False

    def user_key(self, user_id: str) -> str:
        """An id of a user in the form by which two of them are compared."""
        return user_id.lower() if self.ignores_case else user_id


@dataclass(frozen=True, slots=True)
class Account:
    """One configured platform of a project, with its credentials in the clear. Never log it.

    `version` changes whenever the credentials do, so adapters know to drop pooled connections. `webhook_url` is
    where its platform posts to us; whoever knows it may try, so it is not shown either.
    """

    id: str
    project_id: str
    platform: str
    credentials: Mapping[str, Any] = field(repr=False)
    version: str = ""
    webhook_url: str = field(default="", repr=False)


class OutgoingDelivery(msgspec.Struct, frozen=True):
    """One message to one target, as an adapter gets it.

    `attempt` counts from 1; `throttles` is how often the platform already asked to wait.
    `id` never changes over retries: derive idempotency keys from it. `part_ids` are the platform's ids of
    the parts that it took already, where a message goes out in several calls.
    """

    id: str
    message_id: str
    target: Target
    content: Content
    options: SendOptions
    attempt: int
    throttles: int
    created_at: datetime
    part_ids: tuple[str, ...] = ()


class OutgoingAction(msgspec.Struct, frozen=True):
    """An action on a message that is in the chat `target`, as an adapter gets it; the rest is as above."""

    id: str
    message_id: str
    target: Target
    action: Action
    attempt: int
    throttles: int
    created_at: datetime


class SentReceipt(msgspec.Struct, frozen=True):
    """The platform took the message; `provider_message_id` is its own id for it.

    `pace` is what its answer said about its budget, where it says so; `exchange` is kept for the user. With
    `more` it took a part, and the next one is to be sent when its turn comes.
    """

    provider_message_id: str | None = None
    pace: Pace | None = None
    exchange: Exchange | None = None
    more: bool = False


@dataclass(frozen=True, slots=True)
class FileSource:
    """Where a file is fetched from. `headers` may hold secrets: they go to that origin only."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


class QrCode(msgspec.Struct, frozen=True):
    """How far linking a device is: the picture to be scanned now, as a data: URL, and whether it is done."""

    image: str | None = None
    linked: bool = False


class PlatformAdapter(ABC):
    """Sends on one platform for all of its accounts.

    One adapter serves every account of its platform in the process, so state per account is kept
    by account id and bounded.
    """

    declaration: ClassVar[PlatformDeclaration]
    shows: ClassVar[Shows] = AS_GIVEN
    """What of a content it can show, and within which limits."""
    errors: ClassVar[ErrorTable] = ErrorTable()
    """The platform's documented errors, and what each means for a delivery."""
    inbound: ClassVar[Inbound | None] = None
    """How requests of the platform are received, where it makes any."""
    live: ClassVar[type[Live] | None] = None
    """How connections are held over which the platform tells what happens, where it has such; `inbound` reads it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not inspect.isabstract(cls) and not hasattr(cls, "declaration"):
            raise TypeError(f"{cls.__name__} has no declaration")

    def __init__(self, services: AdapterServices) -> None:
        self.services = services

    @classmethod
    def check_credentials(cls, credentials: Mapping[str, Any]) -> list[FieldError]:
        """Rules on credentials beyond the declared fields; pointers start with `/credentials/`."""
        del credentials
        return []

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """Rules on one recipient before it is accepted; pointers start with `/target/`.

        Called for each of up to 10,000 targets of a request: keep it quick.
        """
        del target
        return []

    @classmethod
    def check_content(cls, content: Content, options: SendOptions) -> list[FieldError]:
        """Rules on what is sent, once per request; pointers start with `/content/` or `/options/`."""
        del content
        return refusals(ignored(options, cls.shows), options)

    @classmethod
    def check_action(cls, action: Action) -> list[FieldError]:
        """Rules on an action before it is accepted; pointers start with `/messageId`, `/target` or `/content/`.

        The content of an `Edit` has to be one that can take the place of a message.
        """
        return cls.check_content(action.content, SendOptions()) if isinstance(action, Edit) else []

    @classmethod
    def address(cls, id_: str) -> str:
        """The id of a chat or a person in the form in which the platform tells it: by it both ways are one chat."""
        return id_

    @classmethod
    def numbered(cls, content: Content) -> Sequence[Button]:
        """The buttons of a content that are shown as a numbered list, in its order; an answer of `2` presses one."""
        del content
        return ()

    @classmethod
    def render(cls, content: Content, options: SendOptions) -> Rendering:
        """What a content becomes on the platform, for `messages/preview`; passed on as it is, unless said otherwise."""
        return Rendering((Call("send", msgspec.to_builtins(content)),), tuple(ignored(options, cls.shows)))

    @abstractmethod
    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        """Deliver once.

        Raises a `DeliveryError` child that tells permanent from temporary, throttled and
        authentication failures; anything else is treated as temporary with an unknown result.
        """

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """Do something to a message that is there already, once; for platforms with the capability for it.

        Doing it again must be as good as doing it once. Raises what `send` does.
        """
        del account, outgoing
        raise PermanentError("unsupported", f"{self.declaration.display_name} cannot do this")

    async def register_webhook(self, account: Account, url: str) -> dict[str, Any]:
        """Have the platform post what happens to this address; gives what the platform says about it.

        Raises InvalidInputError where there is nothing to be registered, and what `send` raises.
        """
        del account, url
        name = self.declaration.name
        remedy = "enter its webhookUrl there" if self.declaration.supports_webhooks else "nothing is posted by it"
        raise InvalidInputError(f"Registering a webhook is not supported by {name}: {remedy}")

    async def qr_code(self, account: Account) -> QrCode:
        """The picture that links a device with an account.

        Raises InvalidInputError where no device is linked, and what `send` raises.
        """
        del account
        raise InvalidInputError(f"Linking by QR code is not supported by {self.declaration.name}")

    async def find_sent(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt | None:
        """Ask the platform whether an earlier attempt of this delivery reached it.

        Returns None where it did not, or where the platform cannot be asked (the default); a PermanentError is as
        good as that. Raises what `send` does.
        """
        del account, delivery
        return None

    async def locate_file(self, account: Account, file: File) -> FileSource:
        """Where a file of a received message is. Raises a `DeliveryError` child, as `send` does.

        The default: at its `url`. Platforms that give an id in its place ask for the address here.
        """
        del account
        if file.url is None:
            raise PermanentError("attachment_not_found", "The platform gave the file no address")
        return FileSource(file.url)

    async def forget(self, account_id: str) -> None:
        """Drop what is kept for an account (changed or deleted credentials)."""
        del account_id

    async def close(self) -> None:
        """Release connections at shutdown."""
        return

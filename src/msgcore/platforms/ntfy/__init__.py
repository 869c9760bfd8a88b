"""Push messages by ntfy (https://docs.ntfy.sh): ntfy.sh, or a server of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from msgcore.core.actions import Delete, Edit, MarkRead
from msgcore.core.errors import FieldError, PermanentError
from msgcore.core.limits import Budget, RateLimits
from msgcore.outbound.layout import Shows
from msgcore.outbound.rendering import Call, Rendering
from msgcore.outbound.transport import Response
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
from msgcore.platforms.calling import CallingAdapter, HttpCall, json_call
from msgcore.platforms.error_table import Problem
from msgcore.platforms.ntfy.errors import ERRORS, read_problem
from msgcore.platforms.ntfy.inbound import NtfyInbound
from msgcore.platforms.ntfy.live import NtfyLive
from msgcore.platforms.ntfy.naming import (
    DEFAULT_SERVER,
    MOST_TOPICS,
    TOPIC,
    login,
    message_id,
    message_path,
    sequence_of,
    server_of,
    topics_of,
)
from msgcore.platforms.ntfy.render import (
    FORMATTED,
    LONGEST_SERVER,
    PUBLISH,
    SHOWS,
    Destination,
    NtfyOptions,
    as_headers,
    calls,
    completed,
    errors_of,
    is_formatted,
)
from msgcore.security.egress import url_problem

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.outbound.layout import Layout

SKEW = 60
"""Seconds by which the server's clock may be behind ours."""
LOOKED_THROUGH = 1024 * 1024
"""Bytes of a topic that are looked through for a message."""

DECLARATION = PlatformDeclaration(
    name="ntfy",
    display_name="ntfy",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "To topics; subject is the title"),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "From topics that are listened to; ntfy does not tell who wrote"),
        CapabilityInfo(Capability.EDIT_MESSAGE, "On Android and in the web app; by servers from 2.16 on"),
        CapabilityInfo(Capability.DELETE_MESSAGE, "On Android and in the web app; by servers from 2.16 on"),
        CapabilityInfo(Capability.MARK_READ, "Takes the notification from everybody who follows the topic"),
        CapabilityInfo(Capability.ATTACHMENTS, "One a message, by url or of 15 MB; the server keeps them for 3 hours"),
        CapabilityInfo(Capability.EMBEDS, "Written out as text"),
        CapabilityInfo(Capability.BUTTONS, "3; values are published to a topic when they are pressed"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.RECEIVE_EDIT,
        Capability.RECEIVE_DELETE,
        Capability.RECEIVE_CLICK,
    ),
    credentials=(
        CredentialField(
            "serverUrl",
            "the address of the ntfy server",
            required=False,
            destination=True,
            default=DEFAULT_SERVER,
            example="https://ntfy.example.com",
            max_length=LONGEST_SERVER,
        ),
        CredentialField(
            "token",
            "an access token, in place of username and password",
            required=False,
            secret=True,
            example="tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2",
            pattern=r"tk_[A-Za-z0-9]{1,125}",
        ),
        CredentialField("username", "a user of the server", required=False, pattern=r"[^:]{1,255}", max_length=255),
        CredentialField("password", "the password of username", required=False, secret=True, max_length=255),
        CredentialField(
            "topics",
            f"up to {MOST_TOPICS} topics to be listened to, with commas between; unset: nothing is received",
            required=False,
            example="alerts,orders",
            pattern=r"\s*[-_A-Za-z0-9]{1,64}\s*(?:,\s*[-_A-Za-z0-9]{1,64}\s*)*",
            max_length=4096,
        ),
        CredentialField(
            "answerTopic",
            "a topic of its own that pressed buttons write to; unset: the topic that they are in",
            required=False,
            example="answers",
            pattern=TOPIC.pattern,
        ),
    ),
    options=NtfyOptions,
    supports_polling=True,
    # https://docs.ntfy.sh/publish/#limitations, "Requests": 60 at once, and one more each 5 seconds.
    limits=RateLimits(account=(Budget(60, 300.0, burst=60),)),
)


class NtfyAdapter(CallingAdapter):
    """Publishes to topics."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    editable = frozenset((PUBLISH,))
    inbound = NtfyInbound()
    live = NtfyLive

    @classmethod
    def check_credentials(cls, credentials: Mapping[str, Any]) -> list[FieldError]:
        """A server's address, one way to log in, and not too many topics."""
        errors: list[FieldError] = []
        server: str = credentials.get("serverUrl") or DEFAULT_SERVER
        problem = url_problem(server) or ("must be without ? and #" if "?" in server or "#" in server else None)
        if problem is not None:
            errors.append(FieldError("/credentials/serverUrl", f"credentials.serverUrl {problem}"))
        for given, missing in (("username", "password"), ("password", "username")):
            if credentials.get(given) and not credentials.get(missing):
                text = f"credentials.{missing} is required with {given}"
                errors.append(FieldError(f"/credentials/{missing}", text))
        if credentials.get("token") and credentials.get("username"):
            text = "credentials.token is instead of username and password: give one of them"
            errors.append(FieldError("/credentials/token", text))
        if len(topics_of(credentials.get("topics"))) > MOST_TOPICS:
            text = f"credentials.topics must name at most {MOST_TOPICS}"
            errors.append(FieldError("/credentials/topics", text))
        return errors

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """A topic."""
        if TOPIC.fullmatch(target.id):
            return []
        message = "target.id must be a topic: up to 64 letters, digits, hyphens and underscores"
        return [FieldError("/target/id", message)]

    @classmethod
    def shows_of(cls, content: Content) -> Shows:
        """Markdown for formatted contents only."""
        return FORMATTED if is_formatted(content) else SHOWS

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        return calls(content, options, layout)

    @classmethod
    def render(cls, content: Content, options: SendOptions) -> Rendering:
        """The messages that a content becomes, where the server takes them."""
        made = super().render(content, options)
        return msgspec.structs.replace(made, errors=(*made.errors, *errors_of(made.calls)))

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Publish; whoever gets the same sequence id again has one message, with the newer content."""
        return await self._publish(account, delivery.target.id, sequence_of(account, key), call)

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """Publish what takes the place of a message, deletes it, or clears it."""
        topic, action, server = outgoing.target.id, outgoing.action, server_of(account)
        match action:
            case Edit():
                await self._publish(
                    account, topic, action.message_id.rpartition(":")[2], await self.written(account, action)
                )
            case Delete():
                url = f"{server}{message_path(topic, action.message_id)}"
                await self.ask(HttpCall("DELETE", url, login(account)))
            case MarkRead():
                url = f"{server}{message_path(topic, action.message_id)}/clear"
                await self.ask(HttpCall("PUT", url, login(account)))
            case _:
                return await super().act(account, outgoing)
        return SentReceipt()

    async def find_sent(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt | None:
        """Look for its sequence id in what the server has of the topic, where the account may read it."""
        done = len(delivery.part_ids)
        sequence = sequence_of(account, f"{delivery.id}.{done}")
        since = int(delivery.created_at.timestamp()) - SKEW
        url = f"{server_of(account)}/{delivery.target.id}/json?poll=1&scheduled=1&since={since}"
        try:
            answer = await self.ask(HttpCall("GET", url, login(account)), largest=LOOKED_THROUGH)
        except PermanentError:
            return None  # it may not read there
        if f'"sequence_id":"{sequence}"'.encode() not in (answer.response.body or b""):
            return None
        more = done + 1 < len((await self._rendering(account, delivery)).calls)
        return SentReceipt(message_id(delivery.target.id, sequence), more=more)

    async def _publish(self, account: Account, topic: str, sequence: str, call: Call) -> SentReceipt:
        server = server_of(account)
        answers = account.credentials.get("answerTopic") or topic
        whole = completed(call.body, Destination(server, topic, sequence, answers))
        files = await self.services.attachments.load(call.files)
        for file in files:
            headers = login(account) | as_headers(whole | {"filename": file.filename})
            kind = {"Content-Type": file.mime_type}
            await self.ask(HttpCall("PUT", f"{server}/{topic}", headers | kind, file.data))
        if not files:
            await self.ask(json_call("POST", f"{server}/", whole, login(account)))
        return SentReceipt(message_id(topic, sequence))

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)


ADAPTER = NtfyAdapter

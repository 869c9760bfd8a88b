"""Slack by the Web API and the Events API (https://docs.slack.dev)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import msgspec

from msgcore.core.actions import Action, Delete, Edit, React, Unreact
from msgcore.core.content import TargetType
from msgcore.core.errors import DeliveryError, FieldError, PermanentError, Scope, TemporaryError, ThrottledError
from msgcore.core.limits import Budget, RateLimits
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
from msgcore.platforms.calling import Answer, CallingAdapter, HttpCall, json_call
from msgcore.platforms.documents import find, find_objects, find_text
from msgcore.platforms.error_table import Problem
from msgcore.platforms.slack.errors import ERRORS, read_problem
from msgcore.platforms.slack.events import message_id
from msgcore.platforms.slack.inbound import SlackInbound
from msgcore.platforms.slack.live import BASE_URL, SlackLive
from msgcore.platforms.slack.render import (
    DELETE,
    POST,
    SHARE,
    SHOWS,
    SlackOptions,
    calls,
    delete,
    edit,
    problems,
    react,
    unreact,
)

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.core.envelope import File
    from msgcore.outbound.attachments import LoadedAttachment
    from msgcore.outbound.layout import Layout
    from msgcore.outbound.rendering import Call, Rendering
    from msgcore.outbound.services import AdapterServices
    from msgcore.outbound.transport import Response

KEPT_CONVERSATIONS = 10_000
"""Conversations with one person that are remembered, of all accounts."""
EVENT_TYPE = "msgcore_delivery"
"""What the metadata of our messages is called (https://docs.slack.dev/messaging/message-metadata)."""
LOOKED_AT = 100
"""Messages that are looked through for one that may have been sent."""
LARGEST_HISTORY = 2 * 1024 * 1024
SKEW = 60.0
"""Seconds that Slack's clock may be behind ours."""

_PERSON = re.compile(r"[UWD][A-Z0-9]{2,31}")
_CHANNEL = re.compile(r"[CGD][A-Z0-9]{2,31}")
_ANY = re.compile(r"[CGDUW][A-Z0-9]{2,31}")
_MESSAGE = re.compile(r"(?:[CGD][A-Z0-9]{2,31}:)?[0-9]{1,12}\.[0-9]{1,6}")

DECLARATION = PlatformDeclaration(
    name="slack",
    display_name="Slack",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "To channels that the app is in, and to people"),
        CapabilityInfo(
            Capability.RECEIVE_MESSAGE, "By webhook or Socket Mode: events, pressed buttons, slash commands"
        ),
        CapabilityInfo(Capability.EDIT_MESSAGE, "Texts, buttons and embeds, while the workspace allows it"),
        CapabilityInfo(Capability.DELETE_MESSAGE, "The app's own messages; not those that files became"),
        CapabilityInfo(Capability.ATTACHMENTS, "uploaded; they have no id of a message"),
        CapabilityInfo(Capability.EMBEDS, "12,000 characters together"),
        CapabilityInfo(Capability.REACTIONS, "By the names of emojis that Slack knows, and by those of the workspace"),
        CapabilityInfo(Capability.THREADS, "An answer is a thread"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.RECEIVE_EDIT,
        Capability.RECEIVE_DELETE,
        Capability.RECEIVE_REACTION,
        Capability.RECEIVE_CLICK,
        Capability.RECEIVE_COMMAND,
        Capability.RECEIVE_MEMBERSHIP,
    ),
    credentials=(
        CredentialField(
            "botToken",
            "the app's Bot User OAuth Token",
            secret=True,
            example="xoxb-example-example-example",
            pattern=r"xoxb-[0-9A-Za-z-]{10,250}",
        ),
        CredentialField(
            "signingSecret",
            "the app's Signing Secret, to receive by webhook; without it no webhook is taken",
            required=False,
            secret=True,
            example="0123456789abcdef0123456789abcdef",
            pattern=r"[0-9A-Za-z]{16,128}",
        ),
        CredentialField(
            "appToken",
            "an App-Level Token with the scope connections:write, to receive by Socket Mode",
            required=False,
            secret=True,
            example="xapp-example-example-example",
            pattern=r"xapp-[0-9A-Za-z-]{10,250}",
        ),
    ),
    options=SlackOptions,
    supports_webhooks=True,
    supports_websocket=True,
    # https://docs.slack.dev/apis/web-api/rate-limits: chat.postMessage takes one message a second for each channel;
    # the limit of the workspace has no number. 2 % slower than allowed: docs/performance.md.
    limits=RateLimits(lane=(Budget(1, 1.02),)),
)


class SlackAdapter(CallingAdapter):
    """Calls the Web API."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    needs_answer = True
    editable = frozenset((POST,))
    inbound = SlackInbound()
    live = SlackLive

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._conversations: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """Slack's own ids: names of channels change, and are no lanes."""
        shape, example = _CHANNEL, "of a channel, such as C024BE91L"
        if target.type is TargetType.USER:
            shape, example = _PERSON, "of a person, such as U061F7AUR"
        elif target.type is TargetType.CHAT:
            shape, example = _ANY, "of a conversation or a person, such as D069C7QFK or U061F7AUR"
        if shape.fullmatch(target.id):
            return []
        return [FieldError("/target/id", f"target.id must be the id {example}")]

    @classmethod
    def check_content(cls, content: Content, options: SendOptions) -> list[FieldError]:
        """Messages and threads are known by their times."""
        errors = [
            FieldError(f"/options/{name}", f"options.{name} must be the id of a message, such as {_EXAMPLE}, for slack")
            for name, given in (("replyTo", options.reply_to), ("threadId", options.thread_id))
            if given is not None and not _MESSAGE.fullmatch(given)
        ]
        return errors or super().check_content(content, options)

    @classmethod
    def check_action(cls, action: Action) -> list[FieldError]:
        """Messages are known by their times; of what files became, Slack may only have told the file."""
        if isinstance(action, React | Unreact | Edit | Delete) and not _MESSAGE.fullmatch(action.message_id):
            message = f"messageId must be the id of a message, such as {_EXAMPLE}, and this is that of a file"
            return [FieldError("/messageId", message)]
        return super().check_action(action)

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        return calls(content, options, layout)

    @classmethod
    def render(cls, content: Content, options: SendOptions) -> Rendering:
        """The calls, and what Slack would refuse of their blocks."""
        rendering = super().render(content, options)
        return msgspec.structs.replace(rendering, errors=(*rendering.errors, *problems(rendering.calls)))

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Make one call; what repeats it can be recognised by `key`, which is in the message's metadata."""
        try:
            channel: str = call.body.get("channel") or await self._conversation(account, delivery.target.id)
            files = [await self._upload(account, file) for file in await self.services.attachments.load(call.files)]
        except DeliveryError as error:
            error.reached = "no"  # nobody sees anything of it yet
            raise
        if call.method == SHARE:
            answer = await self._write(account, SHARE, {"channel_id": channel, "files": files, **call.body})
            return SentReceipt(_shared_id(answer.data, channel))
        body = {"channel": channel, **call.body}
        if call.method == POST:
            body["metadata"] = {"event_type": EVENT_TYPE, "event_payload": {"key": key}}
        answer = await self._write(account, call.method, body)
        ts = find_text(answer.data, "ts")
        return SentReceipt(None if ts is None else message_id(find_text(answer.data, "channel") or channel, ts))

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """See `render.py`."""
        match outgoing.action:
            case React() as action:
                call = react(action.message_id, action.emoji)
            case Unreact() as action:
                call = unreact(action.message_id, action.emoji)
            case Edit() as action:
                call = edit(action.message_id, await self.written(account, action))
            case Delete() as action:
                call = delete(action.message_id)
            case _:
                return await super().act(account, outgoing)
        try:
            await self._write(account, call.method, call.body)
        except PermanentError as error:
            if call.method != DELETE or error.code != "message_unknown":
                raise  # a message that is not there need not be deleted
        return SentReceipt()

    async def locate_file(self, account: Account, file: File) -> FileSource:
        """At its `url_private`, which wants the app's token.

        Source: https://docs.slack.dev/reference/objects/file-object, "Authentication". No other host gets the token,
        and it is not sent unencrypted.
        """
        source = await super().locate_file(account, file)
        url = urlsplit(source.url)
        theirs = url.scheme == "https" and (url.hostname or "").endswith(".slack.com")
        return FileSource(source.url, _authorized(account)) if theirs else source

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)

    async def find_sent(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt | None:
        """Look for the metadata of the message in its conversation, where the app has the scopes to read it."""
        made, done = (await self._rendering(account, delivery)).calls, len(delivery.part_ids)
        if made[done].method != POST:
            return None
        channel = await self._conversation(account, delivery.target.id)
        since = delivery.created_at.timestamp() - SKEW
        asked = {"channel": channel, "oldest": f"{since:.6f}", "limit": str(LOOKED_AT), "include_all_metadata": "true"}
        thread: str | None = made[done].body.get("thread_ts")
        method = "conversations.history" if thread is None else "conversations.replies"
        answer = await self._read(account, method, asked if thread is None else asked | {"ts": thread})
        wanted = {"key": f"{delivery.id}.{done}"}
        for message in find_objects(answer.data, "messages"):
            about = message.get("metadata")
            if find(about, "event_type") == EVENT_TYPE and find(about, "event_payload") == wanted:
                ts = find_text(message, "ts")
                return SentReceipt(None if ts is None else message_id(channel, ts), more=done + 1 < len(made))
        return None

    async def forget(self, account_id: str) -> None:
        """Conversations belong to the workspace that the token was for."""
        for known in [known for known in self._conversations if known[0] == account_id]:
            del self._conversations[known]

    async def _conversation(self, account: Account, id_: str) -> str:
        """The conversation that a target names, which for a person has to be opened first."""
        if id_[0] not in "UW":
            return id_
        place = (account.id, account.version, id_)
        known = self._conversations.get(place)
        if known is None:
            answer = await self._write(account, "conversations.open", {"users": id_})
            known = find_text(answer.data, "channel", "id")
            if known is None:
                raise TemporaryError("platform_unavailable", "Slack did not say which conversation it opened")
            self._conversations[place] = known
            if len(self._conversations) > KEPT_CONVERSATIONS:
                self._conversations.popitem(last=False)
        else:
            self._conversations.move_to_end(place)
        return known

    async def _upload(self, account: Account, file: LoadedAttachment) -> dict[str, str]:
        """Give Slack the bytes of a file, which nobody sees before it is shared.

        Source: https://docs.slack.dev/messaging/working-with-files#uploading_files
        """
        about = {"filename": file.filename, "length": str(len(file.data))}
        ticket = (await self._read(account, "files.getUploadURLExternal", about)).data
        url, id_ = find_text(ticket, "upload_url"), find_text(ticket, "file_id")
        if url is None or id_ is None:
            raise TemporaryError("platform_unavailable", "Slack did not say where to upload the file")
        headers = {"Content-Type": "application/octet-stream"}
        answer = await self.services.http.request("POST", url, headers=headers, body=file.data)
        if answer.status != 200:  # noqa: PLR2004
            raise TemporaryError("platform_unavailable", f"Slack answered {answer.status} for the upload of the file")
        return {"id": id_, "title": file.filename}

    async def _write(self, account: Account, method: str, body: dict[str, Any]) -> Answer:
        headers = {**_authorized(account), "Content-Type": "application/json; charset=utf-8"}
        return await self._ask(method, json_call("POST", self._url(method), body, headers))

    async def _read(self, account: Account, method: str, fields: Mapping[str, str]) -> Answer:
        """A method that takes no JSON ("Content types" of its page)."""
        headers = {**_authorized(account), "Content-Type": "application/x-www-form-urlencoded"}
        return await self._ask(method, HttpCall("POST", self._url(method), headers, urlencode(fields).encode()))

    async def _ask(self, method: str, call: HttpCall) -> Answer:
        try:
            return await self.ask(call, largest=LARGEST_HISTORY)
        except ThrottledError as error:
            if method != POST:  # limits are of a method (rate-limits): others need not wait for this one
                error.scope = Scope.LANE
            raise

    def _url(self, method: str) -> str:
        return f"{self.base_url(BASE_URL)}/{method}"


_EXAMPLE = "C024BE91L:1503435956.000247"


def _authorized(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.credentials['botToken']}"}


def _shared_id(data: Mapping[str, Any], channel: str) -> str | None:
    """The message that files were shared in, as far as Slack tells already; else the first file."""
    file = find(data, "files", 0)
    for kind in ("public", "private"):
        ts = find_text(file, "shares", kind, channel, 0, "ts")
        if ts is not None:
            return message_id(channel, ts)
    return find_text(file, "id")


ADAPTER = SlackAdapter

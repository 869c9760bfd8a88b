"""LINE by the Messaging API (https://developers.line.biz/en/reference/messaging-api/), of LINE Official Accounts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_OID, uuid5

import msgspec

from msgcore.core.actions import Type
from msgcore.core.errors import FieldError, PermanentError, TemporaryError
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
from msgcore.platforms.documents import find_text
from msgcore.platforms.error_table import Problem
from msgcore.platforms.line.errors import ERRORS, read_problem
from msgcore.platforms.line.inbound import LineInbound
from msgcore.platforms.line.render import SHOWS, LineOptions, calls, errors_of, read_options, shows_of

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.core.envelope import File
    from msgcore.outbound.layout import Layout, Shows
    from msgcore.outbound.rendering import Call, Rendering
    from msgcore.outbound.transport import Response

BASE_URL = "https://api.line.me"
DATA_URL = "https://api-data.line.me"
"""Where files are."""
TYPING_SECONDS = 20
"""Of 5 to 60, in steps of 5 (#display-a-loading-indicator)."""

_TARGET = re.compile(r"[UCR][0-9a-f]{32}")
_PREPARED = ("video", "audio")
"""Types of files that LINE may not be done with when it tells of them (#verify-video-or-audio-preparation-status)."""

DECLARATION = PlatformDeclaration(
    name="line",
    display_name="LINE",
    capabilities=(
        CapabilityInfo(
            Capability.SEND_MESSAGE,
            "To friends, to who wrote within 7 days, and to groups with the account; up to the plan's monthly limit",
        ),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "By webhook, with channelSecret; register-webhook sets its address"),
        CapabilityInfo(
            Capability.ATTACHMENTS,
            "Other files than JPEG, PNG, MP4 (with previewImageUrl), MP3 and M4A (with duration) by https",
        ),
        CapabilityInfo(Capability.TYPING, f"For {TYPING_SECONDS} seconds, or until a message comes; to people only"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.RECEIVE_EDIT,
        Capability.RECEIVE_DELETE,
        Capability.RECEIVE_CLICK,
        Capability.RECEIVE_MEMBERSHIP,
    ),
    credentials=(
        CredentialField(
            "channelAccessToken",
            "a channel access token, as the LINE Developers Console issues it",
            secret=True,
            example="bNl4YEFPI/hjFWhTqexp4MuEw5YPs7qhr6dJDXKwNPuLka==",
            pattern=r"[A-Za-z0-9._~+/-]{16,2000}=*",
        ),
        CredentialField(
            "channelSecret",
            "the channel secret, which signs what comes in; without it no webhook is taken",
            required=False,
            secret=True,
            example="0123456789abcdef0123456789abcdef",
            max_length=255,
        ),
    ),
    options=LineOptions,
    supports_webhooks=True,
    # #rate-limits: 2,000 pushes a second of a channel. What one person bears is not told. The period is 2 % longer,
    # which is what jitter on the way takes (docs/performance.md).
    limits=RateLimits(account=(Budget(2000, 1.02),)),
)


class LineAdapter(CallingAdapter):
    """Pushes messages."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    inbound = LineInbound()

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """Ids say by their letter what they are of."""
        if _TARGET.fullmatch(target.id):
            return []
        message = (
            "target.id must be the id of a person (U...), a group (C...) or a room (R...) as LINE's webhooks tell it: "
            "the letter and 32 hexadecimal digits, no LINE ID"
        )
        return [FieldError("/target/id", message)]

    @classmethod
    def shows_of(cls, content: Content) -> Shows:
        """See `render.py`."""
        return shows_of(content)

    @classmethod
    def render(cls, content: Content, options: SendOptions) -> Rendering:
        """The pushes that a content becomes, where the options can be kept."""
        made = super().render(content, options)
        return msgspec.structs.replace(made, errors=(*made.errors, *errors_of(content, made.calls)))

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        return calls(content, options, layout)

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Push up to five messages. LINE keeps a retry key for 24 hours, and answers a repeated one with the same ids.

        The receipt has the id of the first: the others cannot be changed or deleted anyway.
        """
        token = read_options(delivery.content).mark_as_read_token
        if token is not None and not delivery.part_ids:
            await self._post(account, "/v2/bot/chat/markAsRead", {"markAsReadToken": token})
        body, headers = {"to": delivery.target.id, **call.body}, {"X-Line-Retry-Key": str(uuid5(NAMESPACE_OID, key))}
        answer = await self._post(account, f"/v2/bot/message/{call.method}", body, headers)
        return SentReceipt(find_text(answer.data, "sentMessages", 0, "id"))

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """Show a loading animation; there is nothing else that can be done to what was sent."""
        if not isinstance(outgoing.action, Type):
            return await super().act(account, outgoing)
        if not outgoing.target.id.startswith("U"):
            raise PermanentError("recipient_unfit", "LINE shows typing in chats with one person only, not in groups")
        body = {"chatId": outgoing.target.id, "loadingSeconds": TYPING_SECONDS}
        await self._post(account, "/v2/bot/chat/loading/start", body)
        return SentReceipt()

    async def register_webhook(self, account: Account, url: str) -> dict[str, Any]:
        """Set the address; `active` tells whether *Use webhook* is on in the console, which only people can set."""
        endpoint = f"{self.base_url(BASE_URL)}/v2/bot/channel/webhook/endpoint"
        await self.ask(json_call("PUT", endpoint, {"endpoint": url}, _login(account)))
        answer = await self.ask(HttpCall("GET", endpoint, _login(account)))
        return dict(answer.data)

    async def locate_file(self, account: Account, file: File) -> FileSource:
        """At LINE, for a while, and to the same login; or where an app had it sent from."""
        if file.id is None:
            return await super().locate_file(account, file)
        url = f"{self.base_url(DATA_URL)}/v2/bot/message/{quote(file.id, safe='')}/content"
        if file.type in _PREPARED:
            answer = await self.ask(HttpCall("GET", f"{url}/transcoding", _login(account)))
            _check_prepared(answer.data.get("status"))
        return FileSource(url, _login(account))

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)

    async def _post(
        self, account: Account, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Answer:
        return await self.ask(
            json_call("POST", f"{self.base_url(BASE_URL)}{path}", body, _login(account) | dict(headers or {}))
        )


def _check_prepared(status: Any) -> None:
    """Raises a DeliveryError unless LINE is done with a file."""
    if status == "failed":
        raise PermanentError("attachment_not_found", "LINE could not prepare the file")
    if status != "succeeded":
        raise TemporaryError("attachment_unavailable", "LINE is still preparing the file")


def _login(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.credentials['channelAccessToken']}"}


ADAPTER = LineAdapter

"""Short messages by Vonage's SMS API (https://developer.vonage.com/en/api/sms)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from msgcore.core.limits import Budget, RateLimits
from msgcore.core.stop_words import SHORT_MESSAGES
from msgcore.outbound.layout import Layout, Shows
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.dialect import PLAIN
from msgcore.outbound.sms import Encoding, measure, note_segments, size_of
from msgcore.outbound.transport import Response
from msgcore.platforms.base import (
    Account,
    Capability,
    CapabilityInfo,
    CredentialField,
    OutgoingDelivery,
    PlatformDeclaration,
    SentReceipt,
)
from msgcore.platforms.calling import form_call
from msgcore.platforms.documents import find_objects, find_text
from msgcore.platforms.error_table import Problem
from msgcore.platforms.sms import SENDER, SmsAdapter
from msgcore.platforms.vonage_sms.errors import ERRORS, read_problem
from msgcore.platforms.vonage_sms.inbound import METHODS, VonageInbound
from msgcore.security.addresses import is_seen_from_outside

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions

PLATFORM = "vonage-sms"
BASE_URL = "https://rest.nexmo.com"
LONGEST = 3200
""""Vonage accepts SMS up to 3200 characters long" (Concatenation and Encoding)."""
LONGEST_CALLBACK = 100
"""Characters of `callback` (vonage_sms.requests.SmsMessage of Vonage's Python SDK)."""
TTL = (20_000, 604_800_000)
"""The least and the most milliseconds of `ttl`."""


class VonageSmsOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.vonage-sms`: what the SMS API has beyond the universal message."""

    message_class: (
        Annotated[int, msgspec.Meta(ge=0, le=3, description="0 (shown at once, and not stored) to 3")] | None
    ) = None
    entity_id: (
        Annotated[
            str, msgspec.Meta(min_length=1, max_length=64, description="what some countries, such as India, ask for")
        ]
        | None
    ) = None
    content_id: (
        Annotated[
            str, msgspec.Meta(min_length=1, max_length=64, description="what some countries, such as India, ask for")
        ]
        | None
    ) = None


DECLARATION = PlatformDeclaration(
    name=PLATFORM,
    display_name="Vonage SMS",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "Plain text"),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "By signed webhook"),
    ),
    tells=(
        Capability.RECEIVE_DELIVERED,
        Capability.RECEIVE_FAILED,
    ),
    credentials=(
        CredentialField("apiKey", "the account's API key", secret=True, example="abcd1234", max_length=32),
        CredentialField(
            "apiSecret", "the account's API secret", secret=True, example="abcdef0123456789", max_length=64
        ),
        CredentialField(
            "from",
            "the number or name that messages come from",
            example="AcmeInc",
            pattern=SENDER,
        ),
        CredentialField(
            "signatureSecret",
            "the account's signature secret, which signs Vonage's requests; needed to receive",
            required=False,
            secret=True,
            example="my_secret_key_for_testing",
            max_length=128,
        ),
        CredentialField(
            "signatureMethod",
            f"how Vonage's requests are signed, as set in its dashboard: {', '.join(METHODS)}",
            required=False,
            example="sha256",
            default="sha256",
            pattern="|".join(METHODS),
        ),
    ),
    options=VonageSmsOptions,
    supports_webhooks=True,
    # "All API keys are set with 30 API requests per second", and a long virtual number of the US sends one a second:
    # https://api.support.vonage.com/hc/en-us/articles/203993598
    limits=RateLimits(account=(Budget(30, 1.0),), lane=(Budget(1, 1.0),)),
    stop_words=SHORT_MESSAGES,
)


class VonageSmsAdapter(SmsAdapter):
    """Calls the SMS API."""

    declaration = DECLARATION
    shows = Shows(dialect=PLAIN, text=LONGEST, measure=measure, note=note_segments, replies=False)
    errors = ERRORS
    needs_answer = True
    inbound = VonageInbound()

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """The messages, without the recipient and the sender; files have become links."""
        del options
        own = msgspec.convert((content.platform_options or {}).get(PLATFORM, {}), VonageSmsOptions)
        given = {"message-class": own.message_class, "entity-id": own.entity_id, "content-id": own.content_id}
        every = {name: value for name, value in given.items() if value is not None}
        return [Call("sms", _message(text) | every) for text in layout.texts]

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Make one call; `key` names a message of several segments.

        Vonage gives each segment an id and sends a receipt for each, so that these messages are known by our
        reference, which all the receipts have.
        """
        credentials = account.credentials
        fields = {"api_key": credentials["apiKey"], "api_secret": credentials["apiSecret"], **call.body}
        fields |= {"from": credentials["from"].removeprefix("+"), "to": delivery.target.id.removeprefix("+")}
        if size_of(call.body["text"]).segments > 1:
            fields["client-ref"] = key
        left = self.seconds_left(delivery)
        if left is not None:
            fields["ttl"] = min(max(left * 1000, TTL[0]), TTL[1])
        if is_seen_from_outside(account.webhook_url) and len(account.webhook_url) <= LONGEST_CALLBACK:
            fields["callback"] = account.webhook_url
        pairs = ((name, str(value)) for name, value in fields.items())
        answer = await self.ask(form_call("POST", f"{self.base_url(BASE_URL)}/sms/json", pairs, {}))
        return SentReceipt(fields.get("client-ref") or _message_id(answer.data))

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)


def _message(text: str) -> dict[str, Any]:
    """Vonage writes in GSM's alphabet unless told otherwise, and puts ? for what that does not have."""
    return {"text": text} | ({"type": "unicode"} if size_of(text).encoding is Encoding.UCS_2 else {})


def _message_id(data: Mapping[str, Any]) -> str | None:
    ids = (find_text(part, "message-id") for part in find_objects(data, "messages"))
    return next((id_ for id_ in ids if id_ is not None), None)


ADAPTER = VonageSmsAdapter

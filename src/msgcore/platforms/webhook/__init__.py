"""Custom platform: each message is a signed POST to a URL of the user's own.

Signed by Standard Webhooks (https://www.standardwebhooks.com), whose libraries verify it in most
languages. `webhook-id` is the delivery's id and stays the same over retries, so that receivers can
drop duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgcore.core.errors import FieldError
from msgcore.platforms.base import (
    ALL_TOLD,
    Account,
    Capability,
    CapabilityInfo,
    CredentialField,
    OutgoingAction,
    OutgoingDelivery,
    PlatformAdapter,
    PlatformDeclaration,
    SentReceipt,
)
from msgcore.platforms.webhook.client import Endpoints, post
from msgcore.platforms.webhook.errors import ERRORS
from msgcore.platforms.webhook.inbound import WebhookInbound
from msgcore.platforms.webhook.render import encode, encode_action
from msgcore.security.egress import url_problem
from msgcore.security.webhook_secrets import read_secret

if TYPE_CHECKING:
    from msgcore.outbound.services import AdapterServices

DECLARATION = PlatformDeclaration(
    name="webhook",
    display_name="Webhook (custom platform)",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "The receiver decides what to do with a message"),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "Reports in MsgCore's own shape, signed with the same secret"),
        CapabilityInfo(Capability.ATTACHMENTS, "Passed on as they were given; URLs are not fetched"),
        CapabilityInfo(Capability.EDIT_MESSAGE, "Posted as contents of the kind edit"),
        CapabilityInfo(Capability.DELETE_MESSAGE, "Posted as contents of the kind delete"),
        CapabilityInfo(Capability.REACTIONS, "Posted as contents of the kind reaction"),
        CapabilityInfo(Capability.TYPING, "Posted as contents of the kind typing"),
        CapabilityInfo(Capability.MARK_READ, "Posted as contents of the kind receipt"),
    ),
    tells=ALL_TOLD,
    credentials=(
        CredentialField(
            "url",
            "address that messages are posted to",
            destination=True,
            example="https://example.com/messages",
            max_length=4096,
        ),
        CredentialField(
            "secret",
            "whsec_ and 24 to 64 random bytes in base64, which sign each message",
            secret=True,
            example="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            max_length=128,
        ),
    ),
    supports_webhooks=True,
)


class WebhookAdapter(PlatformAdapter):
    """Posts deliveries to their account's URL."""

    declaration = DECLARATION
    errors = ERRORS
    inbound = WebhookInbound()

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._endpoints = Endpoints()

    @classmethod
    def check_credentials(cls, credentials: Mapping[str, Any]) -> list[FieldError]:
        """A URL that may be posted to, and a secret that signs."""
        errors: list[FieldError] = []
        problem = url_problem(credentials["url"])
        if problem is not None:
            errors.append(FieldError("/credentials/url", f"credentials.url {problem}"))
        if read_secret(credentials["secret"]) is None:
            errors.append(
                FieldError(
                    "/credentials/secret",
                    "credentials.secret must be whsec_ and 24 to 64 random bytes in base64; "
                    'make one with: echo "whsec_$(openssl rand -base64 32)"',
                )
            )
        return errors

    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        """Post once; the provider's id is the one in the answer, or the delivery's."""
        answer_id = await self._post(account, delivery.id, encode(account, delivery))
        return SentReceipt(answer_id or delivery.id)

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """Post what is done to a message, in the shape in which this platform tells of it."""
        await self._post(account, outgoing.id, encode_action(account, outgoing))
        return SentReceipt()

    async def _post(self, account: Account, delivery_id: str, body: bytes) -> str | None:
        endpoint, now = self._endpoints.of(account), self.services.clock.now()
        return await post(self.services.http, endpoint, delivery_id, body, now)

    async def forget(self, account_id: str) -> None:
        """Read the account's URL and secret anew."""
        self._endpoints.forget(account_id)


ADAPTER = WebhookAdapter

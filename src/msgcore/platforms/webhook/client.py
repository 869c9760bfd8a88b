"""The POST, and what its answer means."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from standardwebhooks import Webhook

from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError, ThrottledError
from msgcore.outbound.http import retry_after
from msgcore.outbound.transport import Response, Transport
from msgcore.platforms.base import Account
from msgcore.platforms.error_table import UNKNOWN_WAIT
from msgcore.security.webhook_secrets import read_secret

MAX_PROVIDER_ID = 255
MAX_ENDPOINTS = 10_000

_WORTH_ANOTHER_TRY = frozenset((408, 425))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an account's messages go, and what signs them."""

    version: str
    url: str
    signer: Webhook


class Endpoints:
    """The endpoints of the accounts that sent lately, their secrets decoded once."""

    def __init__(self) -> None:
        self._endpoints: OrderedDict[str, Endpoint] = OrderedDict()

    def of(self, account: Account) -> Endpoint:
        """The endpoint of an account as it is now. Raises AuthenticationError for a secret that is none."""
        known = self._endpoints.get(account.id)
        if known is not None and known.version == account.version:
            return known
        secret = read_secret(account.credentials["secret"])
        if secret is None:
            raise AuthenticationError("secret_invalid", "credentials.secret is not a Standard Webhooks secret")
        endpoint = Endpoint(account.version, account.credentials["url"], Webhook(secret))
        self._endpoints[account.id] = endpoint
        if len(self._endpoints) > MAX_ENDPOINTS:
            self._endpoints.popitem(last=False)
        return endpoint

    def forget(self, account_id: str) -> None:
        """Parse it anew next time."""
        self._endpoints.pop(account_id, None)


async def post(transport: Transport, endpoint: Endpoint, delivery_id: str, body: bytes, now: datetime) -> str | None:
    """Post a signed body; returns the id in the answer, if it gives one. Raises DeliveryError."""
    headers = {
        "Content-Type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": endpoint.signer.sign(delivery_id, now, body.decode()),
    }
    answer = await transport.request("POST", endpoint.url, headers=headers, body=body)
    if not 200 <= answer.status < 300:  # noqa: PLR2004
        raise _refusal(answer, endpoint, now)
    # The receiver took the message: whatever is wrong with what it says beyond that must not send it again.
    return None if answer.body is None else _read_id(answer.body)


def _read_id(answer: bytes) -> str | None:
    """`id` or `messageId` of a JSON object."""
    if not answer.startswith(b"{"):
        return None
    try:
        document: dict[str, Any] = msgspec.json.decode(answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # no JSON, not UTF-8, nested too deeply
        return None
    found = document.get("id") or document.get("messageId")
    return str(found)[:MAX_PROVIDER_ID] if isinstance(found, str | int) else None


def _refusal(answer: Response, endpoint: Endpoint, now: datetime) -> DeliveryError:
    status = answer.status
    text = f"{urlsplit(endpoint.url).hostname} answered {status}"
    wait = retry_after(answer.headers.get("Retry-After"), now) if status in (429, 503) else None
    if wait is None and status == 429:  # noqa: PLR2004
        wait = UNKNOWN_WAIT
    if wait is not None:
        return ThrottledError("throttled", f"{text}: it asks to wait {wait:.0f} s", retry_after=wait)
    if status >= 500 or status in _WORTH_ANOTHER_TRY:  # noqa: PLR2004
        # A 5xx may come from the middle of something, or from a proxy that waited in vain: it may have the message.
        reached = "maybe" if status >= 500 else "no"  # noqa: PLR2004
        return TemporaryError("receiver_failed", f"{text}: the receiver's own log may tell why", reached=reached)
    if status == 401:  # noqa: PLR2004
        return AuthenticationError("signature_refused", f"{text}: check that both sides have the same secret")
    if 300 <= status < 400:  # noqa: PLR2004
        return PermanentError("receiver_redirects", f"{text}: redirects are not followed; set url to the final address")
    return PermanentError("receiver_refused", f"{text}: it refuses the message")

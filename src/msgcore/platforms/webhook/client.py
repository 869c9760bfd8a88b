"""The POST, and what its answer means."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
import msgspec
from standardwebhooks import Webhook
from yarl import URL

from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError, ThrottledError
from msgcore.outbound.http import as_delivery_error, read_bounded, retry_after
from msgcore.platforms.base import Account
from msgcore.platforms.webhook.render import read_secret
from msgcore.security.egress import EgressGuard

MAX_ANSWER = 64 * 1024
ANSWER_SECONDS = 5.0
"""How long the body of a 2xx answer may take: the message is sent, only an id could still come."""
MAX_PROVIDER_ID = 255
MAX_ENDPOINTS = 10_000
STREAMED_FROM = 1024 * 1024
"""Bytes from which a body is written in pieces: aiohttp writes one piece without a pause."""

_WORTH_ANOTHER_TRY = frozenset((408, 425, 429))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an account's messages go, and what signs them."""

    version: str
    url: URL
    signer: Webhook


class Endpoints:
    """The endpoints of the accounts that sent lately, parsed once."""

    def __init__(self, egress: EgressGuard) -> None:
        self._egress = egress
        self._endpoints: OrderedDict[str, Endpoint] = OrderedDict()

    def of(self, account: Account) -> Endpoint:
        """The endpoint of an account as it is now. Raises PermanentError for a URL that is not allowed."""
        known = self._endpoints.get(account.id)
        if known is not None and known.version == account.version:
            return known
        url: str = account.credentials["url"]
        self._egress.check_url(url)
        secret = read_secret(account.credentials["secret"])
        if secret is None:
            raise AuthenticationError("secret_invalid", "credentials.secret is not a Standard Webhooks secret")
        endpoint = Endpoint(account.version, URL(url), Webhook(secret))
        self._endpoints[account.id] = endpoint
        if len(self._endpoints) > MAX_ENDPOINTS:
            self._endpoints.popitem(last=False)
        return endpoint

    def forget(self, account_id: str) -> None:
        """Parse it anew next time."""
        self._endpoints.pop(account_id, None)


async def post(
    session: aiohttp.ClientSession, endpoint: Endpoint, delivery_id: str, body: bytes, now: datetime
) -> str | None:
    """Post a signed body; returns the id in the answer, if it gives one. Raises DeliveryError."""
    headers = {
        "Content-Type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": endpoint.signer.sign(delivery_id, now, body.decode()),
    }
    data = body if len(body) < STREAMED_FROM else io.BytesIO(body)
    try:
        async with session.post(endpoint.url, data=data, headers=headers, allow_redirects=False) as response:
            if not 200 <= response.status < 300:  # noqa: PLR2004
                raise _refusal(response, endpoint, now)
            return await _answer_id(response)
    except (aiohttp.ClientError, OSError) as error:
        raise as_delivery_error(error, endpoint.url.host or "") from error


async def _answer_id(response: aiohttp.ClientResponse) -> str | None:
    """The receiver's own id of the message, if its answer can be read and gives one.

    It took the message: whatever is wrong with what it says beyond that must not send it again.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await read_bounded(response, MAX_ANSWER)
        return _read_id(answer)
    except Exception:  # noqa: BLE001 - too large, too slow, cut off, not UTF-8, nested too deeply, ...
        return None


def _read_id(answer: bytes) -> str | None:
    """`id` or `messageId` of a JSON object."""
    if not answer.startswith(b"{"):
        return None
    document: dict[str, Any] = msgspec.json.decode(answer)
    found = document.get("id") or document.get("messageId")
    return str(found)[:MAX_PROVIDER_ID] if isinstance(found, str | int) else None


def _refusal(response: aiohttp.ClientResponse, endpoint: Endpoint, now: datetime) -> DeliveryError:
    status = response.status
    text = f"{endpoint.url.host} answered {status}"
    wait = retry_after(response.headers.get("Retry-After"), now) if status in (429, 503) else None
    if wait is not None:
        return ThrottledError("throttled", f"{text} and asked to wait {wait:.0f} s", retry_after=wait)
    if status >= 500 or status in _WORTH_ANOTHER_TRY:  # noqa: PLR2004
        return TemporaryError("receiver_failed", text)
    if status == 401:  # noqa: PLR2004
        return AuthenticationError("signature_refused", f"{text}: check that both sides have the same secret")
    if 300 <= status < 400:  # noqa: PLR2004
        return PermanentError("receiver_redirects", f"{text}: redirects are not followed; set url to the final address")
    return PermanentError("receiver_refused", f"{text}: it refuses the message")

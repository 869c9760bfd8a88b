"""Posting events to customers' webhooks: no platform that anybody configures, but sent as those are.

A module and no folder, so that the registry, and with it every list of platforms, does not have it.

Signed twice over: by Standard Webhooks (https://www.standardwebhooks.com), whose libraries verify it in most
languages, and as the compatible API did. `webhook-id` is the event's id and the same whenever it comes again.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import msgspec
from standardwebhooks import Webhook

from msgcore.core.deliveries import Exchange
from msgcore.core.errors import DeliveryError, PermanentError, Scope, TemporaryError, ThrottledError
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.core.limits import RateLimits
from msgcore.core.retry import RetryPolicy
from msgcore.outbound.http import retry_after
from msgcore.outbound.transport import Response
from msgcore.platforms.base import Account, OutgoingDelivery, PlatformAdapter, PlatformDeclaration, SentReceipt
from msgcore.security.webhook_secrets import read_secret

ANSWER_SECONDS = 15.0
"""How long an endpoint may take (Standard Webhooks, "Request timeouts": 15 to 30 s)."""

LARGEST_KEPT = 4096
"""Characters of an answer that are kept."""

DECLARATION = PlatformDeclaration(
    name=EVENT_WEBHOOK,
    display_name="Webhook for events",
    capabilities=(),
    credentials=(),
    retry=RetryPolicy(max_age=3 * 24 * 3600.0, cap=1800.0),
    limits=RateLimits(in_flight=20),
    ordered=False,
)

_TROUBLED = frozenset((408, 425, 429))
_GONE = 410


class EventWebhookAdapter(PlatformAdapter):
    """Posts events. An account is a webhook, and the content's own options are the document."""

    declaration = DECLARATION

    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        """Post once. Whatever is wrong with an endpoint may be mended, so all but 410 is tried again."""
        # Made for each attempt: the last one may come days after the first.
        document = self.services.refresh_event((delivery.content.platform_options or {})[EVENT_WEBHOOK])
        began = perf_counter()
        try:
            answer = await self._post(account, delivery.target.id, document)
        except DeliveryError as error:
            mendable = TemporaryError(error.code, error.message, reached=error.reached)
            mendable.exchange = Exchange(perf_counter() - began)
            raise mendable from error
        exchange = Exchange(perf_counter() - began, answer.status, _text(answer.body))
        if 200 <= answer.status < 300:  # noqa: PLR2004
            return SentReceipt(exchange=exchange)
        refusal = _refusal(answer, account.credentials["url"], self.services.clock.now())
        refusal.exchange = exchange
        raise refusal

    async def _post(self, account: Account, event_id: str, document: dict[str, Any]) -> Response:
        secrets, url = account.credentials["secrets"], account.credentials["url"]
        now = self.services.clock.now()
        valid = [secret for secret, until in secrets if until is None or now < until]
        if not valid:
            raise TemporaryError("secret_unreadable", "The stored secret cannot be decrypted: rotate it")
        body = msgspec.json.encode(document)
        headers = _headers(valid, event_id, document, body, now)
        return await self.services.http.request("POST", url, headers=headers, body=body, timeout=ANSWER_SECONDS)


def _headers(secrets: list[str], event_id: str, document: dict[str, Any], body: bytes, now: datetime) -> dict[str, str]:
    """What signs a body: the present secret comes first, and while another one ends it signs as well."""
    text = body.decode()
    keys = [read_secret(secret) or secret.encode() for secret in secrets]
    # The compatible API signs with the secret as it is written down, and the time is that of the event.
    timestamp = str(document["timestamp"])
    compatible = hmac.new(secrets[0].encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(key).sign(event_id, now, text) for key in keys),
        "X-MsgCore-Signature": f"sha256={compatible}",
        "X-MsgCore-Timestamp": timestamp,
        "X-MsgCore-Event": str(document["event"]),
    }


def _text(body: bytes | None) -> str | None:
    """The beginning of an answer; PostgreSQL stores no NUL."""
    return None if body is None else body[: 4 * LARGEST_KEPT].decode(errors="replace")[:LARGEST_KEPT].replace("\0", "")


def _refusal(answer: Response, url: str, now: datetime) -> DeliveryError:
    status = answer.status
    text = f"{urlsplit(url).hostname} answered {status}"
    if status == _GONE:
        return PermanentError("gone", text)
    wait = retry_after(answer.headers.get("Retry-After"), now) if status in (429, 503) else None
    if wait is not None:
        return ThrottledError("throttled", f"{text} and asked to wait {wait:.0f} s", retry_after=wait)
    if 300 <= status < 400:  # noqa: PLR2004
        return TemporaryError("receiver_redirects", f"{text}: redirects are not followed", scope=Scope.DELIVERY)
    if status >= 500 or status in _TROUBLED:  # noqa: PLR2004
        return TemporaryError("receiver_failed", text)
    # It lives, and may take the next one.
    return TemporaryError("receiver_refused", text, scope=Scope.DELIVERY)

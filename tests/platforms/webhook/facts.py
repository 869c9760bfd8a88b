"""What tests know of a webhook of the user's own."""

from __future__ import annotations

from datetime import UTC, datetime

from standardwebhooks import Webhook

from msgcore.platforms.base import Account
from servers.facts import Facts


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As Standard Webhooks has it, by its library."""
    return standard_headers(Webhook(account.credentials["secret"]), body)


def standard_headers(webhook: Webhook, body: bytes) -> dict[str, str]:
    """The three headers of the specification, for a body that was sent just now."""
    now, id_ = datetime.now(UTC), "msg_17"
    stamp, signature = str(int(now.timestamp())), webhook.sign(id_, now, body.decode())
    return {"webhook-id": id_, "webhook-timestamp": stamp, "webhook-signature": signature}


FACTS = Facts(target="bob", credentials=lambda url: {"url": f"{url}/hook"}, sign=sign)

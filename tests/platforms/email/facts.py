"""What tests know of e-mail."""

from __future__ import annotations

from standardwebhooks import Webhook

from msgcore.platforms.base import Account
from platforms.webhook.facts import standard_headers
from servers.facts import Facts


def sign(account: Account, body: bytes) -> dict[str, str]:
    """As a mail service signs that knows Standard Webhooks; a secret of another form is the key as it is."""
    return standard_headers(Webhook(account.credentials["inboundSecret"].encode()), body)


FACTS = Facts(target="bob@example.com", message_id="<17@example.com>", sign=sign)

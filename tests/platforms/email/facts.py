"""What tests know of e-mail."""

from __future__ import annotations

from msgcore.platforms.base import Account
from servers.facts import Facts
from servers.standard_webhooks import signed


def sign(account: Account, body: bytes) -> dict[str, str]:
    """By the Standard Webhooks specification, as a script on a mail server does."""
    return signed(account.credentials["inboundSecret"].encode(), body)


FACTS = Facts(target="bob@example.com", message_id="<17@example.com>", sign=sign)

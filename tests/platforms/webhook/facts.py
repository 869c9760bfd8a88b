"""What tests know of a webhook of the user's own."""

from __future__ import annotations

from msgcore.platforms.base import Account
from msgcore.security.webhook_secrets import read_secret
from servers.facts import Facts
from servers.standard_webhooks import signed


def sign(account: Account, body: bytes) -> dict[str, str]:
    """By the Standard Webhooks specification, as the application does."""
    return signed(read_secret(account.credentials["secret"]) or b"", body)


FACTS = Facts(target="bob", credentials=lambda url: {"url": f"{url}/hook"}, sign=sign)

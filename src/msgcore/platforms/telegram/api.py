"""Where the Bot API's methods are (https://core.telegram.org/bots/api#making-requests)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msgcore.outbound.services import AdapterServices
    from msgcore.platforms.base import Account

BASE_URL = "https://api.telegram.org"


def base_url(services: AdapterServices) -> str:
    """Telegram's server, or the one that the operator runs."""
    return services.base_urls.get("telegram", BASE_URL).rstrip("/")


def method_url(services: AdapterServices, account: Account, method: str) -> str:
    """The address of a method for an account's bot: whoever knows it is the bot."""
    return f"{base_url(services)}/bot{account.credentials['token']}/{method}"

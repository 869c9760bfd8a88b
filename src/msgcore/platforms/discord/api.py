"""Where Discord's HTTP API is, and how it is called."""

from __future__ import annotations

from msgcore import __version__

BASE_URL = "https://discord.com/api/v10"
USER_AGENT = f"DiscordBot (https://github.com/msgcore/msgcore, {__version__})"
"""In the form without which Discord may refuse requests (https://docs.discord.com/developers/reference#user-agent)."""


def headers_of(token: str) -> dict[str, str]:
    """The headers of a bot's requests."""
    return {"Authorization": f"Bot {token}", "User-Agent": USER_AGENT}

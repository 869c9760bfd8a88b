"""Intents: what a bot wants to be told of (https://docs.discord.com/developers/events/gateway#gateway-intents)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag
from typing import Any, Final

from msgcore.core.errors import FieldError
from msgcore.platforms.base import CredentialField

INTENTS, GATEWAY = "intents", "gateway"


class Intent(IntFlag):
    """Groups of events, by Discord's names and bits."""

    GUILDS = 1 << 0
    GUILD_MEMBERS = 1 << 1
    GUILD_MODERATION = 1 << 2
    GUILD_EXPRESSIONS = 1 << 3
    GUILD_INTEGRATIONS = 1 << 4
    GUILD_WEBHOOKS = 1 << 5
    GUILD_INVITES = 1 << 6
    GUILD_VOICE_STATES = 1 << 7
    GUILD_PRESENCES = 1 << 8
    GUILD_MESSAGES = 1 << 9
    GUILD_MESSAGE_REACTIONS = 1 << 10
    GUILD_MESSAGE_TYPING = 1 << 11
    DIRECT_MESSAGES = 1 << 12
    DIRECT_MESSAGE_REACTIONS = 1 << 13
    DIRECT_MESSAGE_TYPING = 1 << 14
    MESSAGE_CONTENT = 1 << 15
    GUILD_SCHEDULED_EVENTS = 1 << 16
    AUTO_MODERATION_CONFIGURATION = 1 << 20
    AUTO_MODERATION_EXECUTION = 1 << 21
    GUILD_MESSAGE_POLLS = 1 << 24
    DIRECT_MESSAGE_POLLS = 1 << 25


PRIVILEGED: Final = Intent.GUILD_MEMBERS | Intent.GUILD_PRESENCES | Intent.MESSAGE_CONTENT
USUAL: Final = (
    Intent.GUILD_MESSAGES
    | Intent.GUILD_MESSAGE_REACTIONS
    | Intent.DIRECT_MESSAGES
    | Intent.DIRECT_MESSAGE_REACTIONS
    | Intent.DIRECT_MESSAGE_TYPING
    | Intent.MESSAGE_CONTENT
)
"""All that is read, but for who types in servers, which is much, and who comes and goes there, which is privileged.

Not GUILDS either: at each beginning Discord would send all channels, roles and emojis of all servers.
"""
GATEWAY_FIELDS: Final = (
    CredentialField(
        INTENTS,
        "what the gateway is asked for: names of intents between commas, or their sum as a number; unset: "
        + ", ".join(str(each.name) for each in USUAL),
        required=False,
        example="GUILD_MESSAGES, MESSAGE_CONTENT",
        max_length=1000,
    ),
    CredentialField(
        GATEWAY,
        "whether messages are received over the gateway; false: only interactions that Discord posts",
        kind="boolean",
        required=False,
        default=True,
    ),
)

_BY_NAME = {each.name.replace("_", "").lower(): each for each in Intent if each.name}


def read_intents(credentials: Mapping[str, Any]) -> Intent:
    """The intents of an account. Raises ValueError, naming what is none."""
    given = str(credentials.get(INTENTS) or "").strip()
    if not given:
        return USUAL
    if given.isascii() and given.isdigit():
        return Intent(int(given))
    found = Intent(0)
    for name in given.split(","):
        intent = _BY_NAME.get(name.strip().replace("_", "").lower())
        if intent is None:
            raise ValueError(name.strip())
        found |= intent
    return found


def check_intents(credentials: Mapping[str, Any]) -> list[FieldError]:
    """What is wrong with them, before they are stored."""
    pointer, rest = f"/credentials/{INTENTS}", f"use {', '.join(_names(Intent))}"
    try:
        intents = read_intents(credentials)
    except ValueError as error:
        return [FieldError(pointer, f"credentials.{INTENTS}: {error} is no intent; {rest}")]
    unknown = int(intents) & ~sum(Intent)
    if unknown:
        return [FieldError(pointer, f"credentials.{INTENTS}: the bits {unknown} are no intents; {rest}")]
    return []


def privileged(intents: Intent) -> str:
    """The names of those that have to be allowed in the portal."""
    return ", ".join(_names(intents & PRIVILEGED))


def _names(intents: Any) -> list[str]:
    return [str(each.name) for each in intents]

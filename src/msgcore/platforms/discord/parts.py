"""Parts that all payloads of Discord have: ids, people and channels."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgcore.core.envelope import Person, Place, shortened

Part = Mapping[str, Any]

EPOCH = 1420070400.0
"""The first second of 2015 (https://docs.discord.com/developers/reference#snowflakes)."""
DIRECT, GROUP = 1, 3
"""Channels with one person, and with several ones ("Channel Types")."""


def message_id(channel: str, id_: str) -> str:
    """A message; calls need its channel as well."""
    return f"{channel}:{id_}"


def moment_of(snowflake: str) -> datetime:
    """When something with this id was made ("Snowflake Format"). Raises ValueError for what is none."""
    return datetime.fromtimestamp((int(snowflake) >> 22) / 1000 + EPOCH, UTC)


def place(channel: str, *, guild: str | None, kind: int | None = None, name: str | None = None) -> Place:
    """A channel or thread; one that is in no server (guild) is a conversation with one person or several."""
    if kind == GROUP:
        return Place(id=channel, type="group", name=shortened(name))
    return Place(id=channel, type="channel" if guild is not None else "user", name=shortened(name))


def person(user: Part, member: Part | None = None) -> Person:
    """A user, by the name that they have in the server, or everywhere."""
    name = (member or {}).get("nick") or user.get("global_name") or user.get("username")
    username, number = user.get("username"), user.get("discriminator")
    if username is not None and number not in (None, "0", "0000"):
        username = f"{username}#{number}"  # of bots, which kept theirs ("Users Resource")
    return Person(id=user["id"], name=shortened(name), username=shortened(username), is_bot=user.get("bot") is True)

"""Interactions: pressed buttons, choices from menus, and commands; how they are answered at once, and read.

Source: https://docs.discord.com/developers/interactions/receiving-and-responding
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, Final

from msgcore.core.envelope import Click, Command, Envelope, Happening, shortened
from msgcore.platforms.discord.parts import Part, message_id, moment_of, person, place


class Kind(IntEnum):
    """Interaction Type."""

    PING = 1
    COMMAND = 2
    COMPONENT = 3
    AUTOCOMPLETE = 4
    MODAL = 5


EPHEMERAL = 1 << 6
"""Only who did it sees the answer ("Message Flags")."""
PONG: Final[dict[str, Any]] = {"type": 1}
DEFERRED_UPDATE: Final[dict[str, Any]] = {"type": 6}
NO_CHOICES: Final[dict[str, Any]] = {"type": 8, "data": {"choices": []}}
SEEN: Final[dict[str, Any]] = {"type": 4, "data": {"content": "\N{WHITE HEAVY CHECK MARK}", "flags": EPHEMERAL}}
"""What who gave a command sees. The answer proper is a message like any other: a deferred answer would promise one
within 15 minutes, which nobody here can keep, and become "The application did not respond"."""


def answer_to(interaction: Part) -> dict[str, Any]:
    """What Discord wants within three seconds of an interaction ("Interaction Response Object").

    By HTTP it is the answer to the request; of one that came over the gateway it is posted to
    `/interactions/{id}/{token}/callback`.
    """
    match interaction.get("type"):
        case Kind.PING:
            return PONG
        case Kind.COMPONENT:
            return DEFERRED_UPDATE
        case Kind.AUTOCOMPLETE:
            return NO_CHOICES
        case _:
            return SEEN


def read_interaction(interaction: Part) -> Iterator[Envelope]:
    """The envelopes of an interaction. Raises KeyError and the like for one of another shape."""
    match interaction["type"]:
        case Kind.COMMAND:
            yield _envelope(interaction, interaction["id"], _command(interaction))
        case Kind.COMPONENT:
            yield from _clicks(interaction)
        case _:
            return


def _clicks(interaction: Part) -> Iterator[Envelope]:
    """A pressed button, or each choice from a menu."""
    data: Part = interaction["data"]
    message: Part = interaction.get("message") or {}
    id_, values = data["custom_id"], data.get("values")
    about = _component(message.get("components") or (), id_)
    options: Sequence[Part] = about.get("options") or ()
    labels = {option["value"]: option["label"] for option in options}
    where = message_id(message["channel_id"], message["id"]) if "channel_id" in message else None
    for index, value in enumerate([id_] if values is None else values):
        label = about.get("label") if values is None else labels.get(value)
        click = Click(value=value, message_id=where, label=shortened(label))
        yield _envelope(interaction, f"{interaction['id']}.{index}" if index else interaction["id"], click)


def _component(components: Sequence[Part], id_: str) -> Part:
    """The component with this id, in whatever it lies; an empty one where there is none."""
    for each in components:
        if each.get("custom_id") == id_:
            return each
        inner = [*(each.get("components") or ()), *(one for one in (each.get("accessory"),) if one is not None)]
        if inner and (found := _component(inner, id_)):
            return found
    return {}


def _command(interaction: Part) -> Command:
    """A command as it was written: `/name sub option:value`. It is no message, and has the id of the interaction."""
    data = interaction["data"]
    target: str | None = data.get("target_id")  # of commands in the menu of a user or a message
    arguments = target or " ".join(_written(data.get("options") or ()))
    where = interaction.get("channel_id") or interaction["channel"]["id"]
    return Command(id=message_id(where, interaction["id"]), name=data["name"], arguments=arguments)


def _written(options: Sequence[Part]) -> Iterator[str]:
    for option in options:
        if "value" in option:
            value = option["value"]
            yield f"{option['name']}:{str(value).lower() if isinstance(value, bool) else value}"
        else:
            yield option["name"]
            yield from _written(option.get("options") or ())


def _envelope(interaction: Part, id_: str, content: Happening) -> Envelope:
    member: Part | None = interaction.get("member")
    channel: Part = interaction.get("channel") or {}
    user = member["user"] if member is not None else interaction["user"]
    where = place(
        interaction.get("channel_id") or channel["id"],
        guild=interaction.get("guild_id"),
        kind=channel.get("type"),
        name=channel.get("name"),
    )
    # With the token anybody could answer in the application's name.
    raw = {name: value for name, value in interaction.items() if name != "token"}
    at = moment_of(interaction["id"])
    return Envelope(event_id=id_, chat=where, content=content, author=person(user, member), occurred_at=at, raw=raw)

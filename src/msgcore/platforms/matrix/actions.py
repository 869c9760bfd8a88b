"""What is done to a message, or in its room: each happens once, however often it is asked for."""

from __future__ import annotations

from urllib.parse import quote

from msgcore.core.actions import React, Unreact
from msgcore.core.errors import PermanentError
from msgcore.platforms.matrix.client import RELATIONS, Homeserver, listed, mapping, needed, path, text
from msgcore.platforms.matrix.render import REACTION, annotation

TYPING_MILLISECONDS = 10_000
LOOKED_AT = 20
"""Pages of reactions that are looked through for one of our own."""
PAGE = 50
LARGEST_PAGE = 4 * 1024 * 1024


async def react(server: Homeserver, room: str, action: React, key: str) -> None:
    """Put an emoji to a message (#mreaction); `key` is the transaction, here and below."""
    try:
        body = annotation(action.message_id, action.emoji)
        await server.send("PUT", path("rooms", room, "send", REACTION, key), body)
    except PermanentError as error:
        if error.code != "reaction_duplicate":
            raise


async def unreact(server: Homeserver, me: str, room: str, action: Unreact, key: str) -> None:
    """Redact the user's own reactions with this emoji, found among those to the message (#relationships-api)."""
    ids = "/".join(quote(part, safe="") for part in (action.message_id, "m.annotation", REACTION))
    endpoint = f"{RELATIONS}/rooms/{quote(room, safe='')}/relations/{ids}"
    asked = {"limit": str(PAGE), "dir": "b"}
    number = 0
    for _ in range(LOOKED_AT):
        page = await server.get(endpoint, asked, largest=LARGEST_PAGE)
        for event in map(mapping, listed(page.get("chunk"))):
            emoji = text(mapping(mapping(event.get("content")).get("m.relates_to")).get("key"))
            if event.get("sender") == me and _plain(emoji) == _plain(action.emoji):
                await redact(server, room, needed(event, "event_id"), f"{key}.{number}")
                number += 1
        following = text(page.get("next_batch"))
        if not following:
            return
        asked["from"] = following


async def redact(server: Homeserver, room: str, event_id: str, key: str) -> None:
    """Take the content of an event away; one that is not there is as good as redacted."""
    try:
        await server.send("PUT", path("rooms", room, "redact", event_id, key), {})
    except PermanentError as error:
        if error.code != "recipient_unknown":
            raise


async def show_typing(server: Homeserver, me: str, room: str) -> None:
    """Show that the user is typing, for some seconds (#typing-notifications)."""
    body = {"typing": True, "timeout": TYPING_MILLISECONDS}
    await server.send("PUT", path("rooms", room, "typing", me), body)


def _plain(emoji: str) -> str:
    """An emoji without what only says how to draw it: some clients add it, as they should."""
    return emoji.replace("\ufe0f", "")

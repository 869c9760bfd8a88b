"""The rooms that targets stand for: a person's direct chat, a room by its alias, and whether a room is encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from cachetools import TTLCache

from msgcore.core.clock import Clock
from msgcore.core.errors import DeliveryError, PermanentError
from msgcore.platforms.base import Account
from msgcore.platforms.matrix.client import Homeserver, listed, mapping, needed, path, text

KEPT = 10_000
"""Rooms of all accounts that are remembered."""
KEPT_SECONDS = 600.0
"""People leave rooms, and aliases move."""
LOOKED_AT = 5
"""Direct chats with one person that are looked at, the newest first."""
LARGEST_DIRECT = 4 * 1024 * 1024
"""Bytes of `m.direct`, which lists all direct chats of a user."""

_HERE = ("join", "invite")


async def direct_rooms(server: Homeserver, me: str) -> dict[str, list[str]]:
    """The direct chats of an account, by the other person (`m.direct`, #direct-messaging)."""
    try:
        found = await server.get(path("user", me, "account_data", "m.direct"), largest=LARGEST_DIRECT)
    except PermanentError as error:
        if error.code == "recipient_unknown":  # it has none yet
            return {}
        raise
    return read_direct(found)


def read_direct(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """The content of an `m.direct` event."""
    return {person: [room for room in map(text, listed(rooms)) if room] for person, rooms in content.items()}


async def note_direct(server: Homeserver, me: str, person: str, room: str) -> None:
    """Have the account remember a direct chat, for other processes and other clients of it too."""
    known = await direct_rooms(server, me)
    if room not in known.get(person, ()):
        known[person] = [*known.get(person, ()), room]
        await server.send("PUT", path("user", me, "account_data", "m.direct"), known)


class Rooms:
    """Finds rooms, and remembers them for a while."""

    def __init__(self, clock: Clock) -> None:
        self._found: TTLCache[Hashable, str] = TTLCache(KEPT, KEPT_SECONDS, timer=clock.monotonic)
        self._encrypted: TTLCache[Hashable, bool] = TTLCache(KEPT, KEPT_SECONDS, timer=clock.monotonic)
        self._users: TTLCache[Hashable, str] = TTLCache(KEPT, KEPT_SECONDS, timer=clock.monotonic)
        self._opening: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def user(self, server: Homeserver, account: Account) -> str:
        """The user of an account."""
        given = account.credentials.get("userId")
        if given:
            return str(given)
        place = (account.id, account.version)
        known = self._users.get(place)
        if known is None:
            known = self._users[place] = await server.whoami()
        return known

    async def known(self, server: Homeserver, account: Account, target: str) -> str:
        """The room that a target stands for, or an empty text for a person without a direct chat."""
        if target.startswith("!"):
            return target
        place = (account.id, account.version, target)
        room = self._found.get(place)
        if room is None:
            room = await (self._alias if target.startswith("#") else self._direct)(server, account, target)
            if room:
                self._found[place] = room
        return room

    async def open(self, server: Homeserver, account: Account, target: str) -> str:
        """The same; a person gets a direct chat, once, however many messages go to them at a time."""
        place = (account.id, account.version, target)
        async with self._opening.setdefault(place, asyncio.Lock()):
            room = await self.known(server, account, target)
            if not room:
                room = self._found[place] = await self._create(server, account, target)
        return room

    def forget(self, account: Account, target: str) -> bool:
        """Look for a target's room anew next time; whether one was remembered."""
        return self._found.pop((account.id, account.version, target), None) is not None

    async def is_encrypted(self, server: Homeserver, account: Account, room: str) -> bool:
        """Whether a room's messages have to be encrypted; once it is so, it stays so (#mroomencryption)."""
        place = (account.id, account.version, room)
        known = self._encrypted.get(place)
        if known is None:
            state = await _state(server, room, "m.room.encryption", "")
            known = self._encrypted[place] = bool(state)
        return known

    async def _alias(self, server: Homeserver, account: Account, alias: str) -> str:
        del account
        return needed(await server.get(path("directory", "room", alias)), "room_id")

    async def _direct(self, server: Homeserver, account: Account, person: str) -> str:
        """The newest direct chat that both are in and that is not encrypted."""
        me = await self.user(server, account)
        for room in reversed((await direct_rooms(server, me)).get(person, [])[-LOOKED_AT:]):
            try:
                # Of a room that one has left, this is how it was then.
                members = [await _state(server, room, "m.room.member", user) for user in (me, person)]
                are_there = members[0].get("membership") == "join" and members[1].get("membership") in _HERE
                if are_there and not await self.is_encrypted(server, account, room):
                    return room
            except PermanentError:
                continue  # one that it never was in
        return ""

    async def _create(self, server: Homeserver, account: Account, person: str) -> str:
        me = await self.user(server, account)
        wanted = {"preset": "private_chat", "is_direct": True, "invite": [person]}
        room = needed(await server.send("POST", path("createRoom"), wanted), "room_id")
        try:
            await note_direct(server, me, person, room)
        except DeliveryError as error:
            # The chat is there: it is used as long as this process remembers it.
            if not isinstance(error, PermanentError):
                self._found[account.id, account.version, person] = room
                raise
        return room


async def _state(server: Homeserver, room: str, kind: str, key: str) -> Mapping[str, Any]:
    """The content of a piece of a room's state; empty where it has none."""
    try:
        return mapping(await server.get(path("rooms", room, "state", kind, key)))
    except PermanentError as error:
        if error.code == "recipient_unknown":
            return {}
        raise

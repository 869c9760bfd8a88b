"""What is new in a room: which events matter, and what has to be known to read each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from cachetools import LRUCache

from msgcore.core.errors import PermanentError
from msgcore.platforms.live import Payload
from msgcore.platforms.matrix.client import Fields, Homeserver, listed, mapping, path, text
from msgcore.platforms.matrix.gaps import pages_between
from msgcore.platforms.matrix.inbound import previous_membership
from msgcore.platforms.matrix.tracking import ROOMS, Reactions, Receipts, Typists

TIMELINE_TYPES = [
    *("m.room.message", "m.sticker", "m.reaction", "m.room.redaction", "m.room.member"),
    *("m.room.encrypted", "m.room.name", "m.room.create"),
]
PAGE = 100
TOGETHER = 2 * 1024 * 1024
"""Bytes that are stored together, so that not all of a long gap is in memory."""

_WRITTEN = ("m.room.message", "m.sticker", "m.room.encrypted")
_NO_MESSAGE = "m.key.verification.request"


Ask = Callable[[str, Mapping[str, str] | None], Awaitable[Fields]]
"""Gets what is at an endpoint, with a query."""
Store = Callable[[], Awaitable[None]]
"""Stores what waits; the position stays where it was."""


class Timelines:
    """Makes payloads of what happens in the rooms of an account."""

    def __init__(self, server: Homeserver, me: str, ask: Ask, store: Store) -> None:
        self._server = server
        self._me = me
        self._ask = ask
        self._store = store
        self._direct: frozenset[str] = frozenset()
        self._names: LRUCache[str, str] = LRUCache(ROOMS)
        self._encrypted: LRUCache[str, None] = LRUCache(ROOMS)
        self._receipts = Receipts()
        self._typists = Typists()
        self._reactions = Reactions(())
        self._payloads: list[Payload] = []
        self._notes: list[str] = []
        self._bytes = 0

    def direct(self, rooms: Mapping[str, Sequence[str]]) -> None:
        """Which rooms are direct chats."""
        self._direct = frozenset(room for several in rooms.values() for room in several)

    def restore(self, reactions: Sequence[Any]) -> None:
        """Go on with the reactions of a state."""
        self._reactions = Reactions(reactions)

    @property
    def reactions(self) -> list[list[str]]:
        """For the state."""
        return self._reactions.kept

    @property
    def waiting(self) -> bool:
        """Whether something is to be stored."""
        return bool(self._payloads or self._notes)

    def taken(self, largest: int) -> tuple[list[Payload], list[str]]:
        """What is to be stored now, and notes on it."""
        fitting = [payload for payload in self._payloads if len(payload.body) <= largest]
        notes = self._notes
        if len(fitting) < len(self._payloads):
            notes = [*notes, f"Events of more than {largest} bytes were left out"]
        self._payloads, self._notes, self._bytes = [], [], 0
        return fitting, notes

    async def take(self, room: str, told: Fields, since: str, following: str) -> None:
        """What an answer of `/sync` tells of a room, in order, with what it leaves out."""
        timeline = mapping(told.get("timeline"))
        state = [mapping(event) for event in listed(mapping(told.get("state")).get("events"))]
        events = [mapping(event) for event in listed(timeline.get("events"))]
        # All of a room's state comes when one has joined it: then there is no place from which to go on.
        is_new = any(event.get("type") == "m.room.create" for event in (*state, *events))
        start = max((number for number, event in enumerate(events) if self._is_start(event)), default=-1)
        before = text(timeline.get("prev_batch"))
        if timeline.get("limited") is True and before and start < 0:
            try:
                await self._fill(room, before, None if is_new else since)
            except PermanentError as error:  # as after it was deleted: it must not hold up the others
                self._notes.append(f"What was left out of {room} cannot be had any more: {error.message}")
        await self._events(room, events[start + 1 :], [*state, *events[: start + 1]])
        self._ephemeral(room, told, following)

    async def _fill(self, room: str, before: str, until: str | None) -> None:
        wanted = {"types": TIMELINE_TYPES, "lazy_load_members": True, "include_redundant_members": True}
        query = {"dir": "b", "limit": str(PAGE), "filter": msgspec.json.encode(wanted).decode()}
        if until is not None:
            query["to"] = until

        async def fetch(token: str) -> Fields:
            return await self._ask(path("rooms", room, "messages"), {**query, "from": token})

        async for page in pages_between(before, fetch, self._is_start):
            await self._events(room, page.events, page.members)
            if self._bytes > TOGETHER:
                await self._store()

    def _is_start(self, event: Fields) -> bool:
        """Whether it is how the user came into the room: by an invitation, else by joining.

        Who invites somebody, and writes before they are there, wants them to read it.
        """
        if event.get("type") != "m.room.member" or event.get("state_key") != self._me:
            return False
        membership = mapping(event.get("content")).get("membership")
        return membership == "invite" or (membership == "join" and previous_membership(event) not in ("join", "invite"))

    # --- events

    async def _events(self, room: str, events: Sequence[Fields], state: Sequence[Fields]) -> None:
        names = _names(state)
        for event in (*state, *events):
            if event.get("type") == "m.room.name":
                self._names[room] = text(mapping(event.get("content")).get("name"))
        for event in events:
            names |= _names((event,))
            if not text(event.get("event_id")):
                continue
            if event.get("type") in _WRITTEN:
                self._receipts.saw(room, text(event["event_id"]), own=event.get("sender") == self._me)
            if event.get("sender") == self._me:
                continue
            more = await self._looked_into(room, event)
            if more is not None:
                who, whom = (names.get(text(event.get(name))) for name in ("sender", "state_key"))
                place = await self._place(room)
                self._add({"room": place, "name": who, "member": whom, **more, "event": event})

    async def _looked_into(self, room: str, event: Fields) -> dict[str, Any] | None:
        """What has to be known to read an event; None for one that does not matter."""
        kind, content = event.get("type"), mapping(event.get("content"))
        if kind == "m.room.encrypted":
            self._note_encrypted(room)
            return None
        if "redacted_because" in mapping(event.get("unsigned")):
            return None
        if kind == "m.room.redaction":
            was = await self._was(room, text(event.get("redacts")) or text(content.get("redacts")))
            return None if was is None else {"was": was}
        if kind == "m.reaction":
            self._reactions.saw(event)
        is_told = kind in ("m.reaction", "m.room.member") or (
            kind in _WRITTEN and await self._is_written(room, event, content)
        )
        return {} if is_told else None

    async def _is_written(self, room: str, event: Fields, content: Fields) -> bool:
        """Whether it is what somebody wrote, and may have written."""
        if content.get("msgtype") == _NO_MESSAGE or not isinstance(content.get("body"), str):
            return False
        relation = mapping(content.get("m.relates_to"))
        return relation.get("rel_type") != "m.replace" or await self._may_edit(
            room, event, text(relation.get("event_id"))
        )

    def _note_encrypted(self, room: str) -> None:
        if room not in self._encrypted:
            self._encrypted[room] = None
            self._notes.append(f"{room} is encrypted, so what is written there cannot be read: use a room without it")

    async def _may_edit(self, room: str, event: Fields, original: str) -> bool:
        """Whether it is an edit of the sender's own message: servers pass on any (#validity-of-replacement-events)."""
        found = await self._event(room, original)
        if found is None:
            return False
        relation = mapping(mapping(found.get("content")).get("m.relates_to"))
        return (found.get("sender"), found.get("type")) == (event.get("sender"), event.get("type")) and (
            relation.get("rel_type") != "m.replace"
        )

    async def _was(self, room: str, event_id: str) -> Mapping[str, str] | None:
        """What was redacted; None for what is no message, nor a reaction that is still known."""
        reaction = self._reactions.taken_away(event_id)
        if reaction is not None:
            return reaction
        found = await self._event(room, event_id)
        # Of what cannot be seen any more nobody knows what it was.
        return {"message": event_id} if event_id and (found is None or found.get("type") in _WRITTEN) else None

    async def _event(self, room: str, event_id: str) -> Fields | None:
        if not event_id:
            return None
        try:
            return await self._ask(path("rooms", room, "event", event_id), None)
        except PermanentError:
            return None

    async def _place(self, room: str) -> dict[str, Any]:
        if room in self._direct:
            return {"id": room, "type": "user"}
        name = self._names.get(room)
        if name is None:
            try:
                name = text((await self._ask(path("rooms", room, "state", "m.room.name", ""), None)).get("name"))
            except PermanentError:
                name = ""
            self._names[room] = name
        return {"id": room, "type": "group", "name": name[:1024] or None}

    # --- what passes

    def _ephemeral(self, room: str, told: Fields, following: str) -> None:
        kind = "user" if room in self._direct else "group"
        place = {"id": room, "type": kind}
        for event in map(mapping, listed(mapping(told.get("ephemeral")).get("events"))):
            content = mapping(event.get("content"))
            if event.get("type") == "m.receipt":
                receipts = self._receipts.read(self._me, room, content)
                if receipts:
                    self._add({"room": place, "receipts": receipts})
            elif event.get("type") == "m.typing":
                began = [{"id": following, "user": user} for user in self._typists.began(self._me, room, content)]
                if began:
                    self._add({"room": place, "typing": began})

    def _add(self, found: dict[str, Any]) -> None:
        body = msgspec.json.encode(found)
        self._bytes += len(body)
        self._payloads.append(Payload(body))


def _names(events: Iterable[Fields]) -> dict[str, str]:
    """The names of members, by their ids."""
    return {
        text(event.get("state_key")): text(mapping(event.get("content")).get("displayname"))[:1024]
        for event in events
        if event.get("type") == "m.room.member"
    }

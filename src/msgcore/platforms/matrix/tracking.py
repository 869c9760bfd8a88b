"""What a connection remembers of the events that it saw, to tell what later ones are about."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from cachetools import LRUCache

from msgcore.platforms.matrix.client import Fields, listed, mapping, text

ROOMS = 5000
OWN = 20
"""The last messages of ours in a room that nobody is known to have read."""
OTHERS = 20_000
"""Messages of others: nobody waits for their receipts."""
REACTIONS = 50
"""The last reactions are in the state as well: an event that takes one away says only which event that was."""


LONGEST_ID = 255
"""Bytes of an id (https://spec.matrix.org/v1.18/appendices/#identifier-grammar)."""


class Receipts:
    """Tells which receipts are of messages of ours: a receipt is for a message and all before it (#receipts)."""

    def __init__(self) -> None:
        self._own: LRUCache[str, deque[str]] = LRUCache(ROOMS)
        self._others: LRUCache[str, None] = LRUCache(OTHERS)

    def saw(self, room: str, event_id: str, *, own: bool) -> None:
        """A message came by in its room's timeline."""
        if not own:
            self._others[event_id] = None
            return
        kept = self._own.get(room)
        if kept is None:
            kept = self._own[room] = deque(maxlen=OWN)
        kept.append(event_id)

    def read(self, me: str, room: str, content: Fields) -> list[dict[str, Any]]:
        """What an `m.receipt` event tells of our messages.

        One that is of neither was sent before this connection, or by another process just now: it is told as well.
        """
        found: list[dict[str, Any]] = []
        for event_id, kinds in content.items():
            for user, about in mapping(mapping(kinds).get("m.read")).items():
                if user != me and event_id not in self._others:
                    at = mapping(about).get("ts")
                    found += ({"event": each, "user": user, "at": at} for each in self._up_to(room, event_id))
        return found

    def _up_to(self, room: str, event_id: str) -> list[str]:
        waiting = self._own.get(room)
        if waiting is None or event_id not in waiting:
            return [event_id]
        done: list[str] = []
        while not done or done[-1] != event_id:
            done.append(waiting.popleft())
        return done


class Typists:
    """Tells who began to type: the server says who does so just now (#mtyping)."""

    def __init__(self) -> None:
        self._now: LRUCache[str, frozenset[str]] = LRUCache(ROOMS)

    def began(self, me: str, room: str, content: Fields) -> list[str]:
        """The users who type now and did not before."""
        now = frozenset(text(user) for user in listed(content.get("user_ids"))) - {me, ""}
        before = self._now.get(room, frozenset())
        self._now[room] = now
        return sorted(now - before)


class Reactions:
    """The last reactions, by the ids of their events."""

    def __init__(self, kept: Iterable[Any]) -> None:
        """`kept` is what `kept` gave before."""
        self._known: LRUCache[str, dict[str, str]] = LRUCache(REACTIONS)
        for each in kept:
            event_id, message, emoji = each
            self._known[event_id] = {"message": message, "emoji": emoji}

    def saw(self, event: Fields) -> None:
        """A reaction came by."""
        relation = mapping(mapping(event.get("content")).get("m.relates_to"))
        message, emoji = text(relation.get("event_id")), text(relation.get("key"))
        if len(message) > LONGEST_ID:
            return  # the id of no message; the state would grow with it
        self._known[text(event.get("event_id"))] = {"message": message, "emoji": emoji[:LONGEST_ID]}

    def taken_away(self, event_id: str) -> Mapping[str, str] | None:
        """What a reaction was that is no more; None for what is not known to be one."""
        return self._known.pop(event_id, None)

    @property
    def kept(self) -> list[list[str]]:
        """For the state."""
        return [[event_id, each["message"], each["emoji"]] for event_id, each in self._known.items()]

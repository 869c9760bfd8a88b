"""Invitations to rooms: followed where that is wanted, and else told of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from msgcore.core.errors import DeliveryError, ThrottledError
from msgcore.platforms.matrix.client import Fields, Homeserver, listed, mapping, path, text
from msgcore.platforms.matrix.rooms import note_direct

JOIN_SECONDS = 60.0
"""Rooms of other servers take long to join."""
MOST_WAITING = 100
"""Invitations that wait until the homeserver lets the user join again; of what is beyond, only a note is made."""
LEAST_WAIT = 1.0
"""Seconds until the next try, should the homeserver say that it need not be waited at all."""
LONGEST_ID = 255


class _Invitation(NamedTuple):
    room: str
    person: str
    is_direct: bool


class Invitations:
    """Follows the invitations of an account's user, as fast as the homeserver lets it."""

    def __init__(
        self,
        server: Homeserver,
        me: str,
        *,
        joins: bool,
        now: Callable[[], float],
        on_direct: Callable[[], Awaitable[None]],
    ) -> None:
        """`on_direct` is called when the user has come into a direct chat."""
        self._server = server
        self._me = me
        self._joins = joins
        self._now = now
        self._on_direct = on_direct
        self._waiting: dict[str, tuple[_Invitation, float]] = {}

    def restore(self, kept: Iterable[Any]) -> None:
        """Go on with those that waited; `kept` is what `kept` gave before."""
        for room, person, is_direct in kept:
            self._waiting[room] = _Invitation(room, person, is_direct), self._now()

    @property
    def kept(self) -> list[list[Any]]:
        """Those that wait, for the state: they are told only once."""
        return [list(each) for each, _ in self._waiting.values()]

    @property
    def wait(self) -> float:
        """Seconds until the next one can be followed."""
        return min((max(0.0, at - self._now()) for _, at in self._waiting.values()), default=float("inf"))

    async def take(self, invited: Fields) -> list[str]:
        """Follow what an answer of `/sync` tells, and what has waited long enough; notes on what is not followed."""
        now = self._now()
        due = [each for each, at in self._waiting.values() if at <= now]
        notes: list[str] = []
        for each in (*due, *(self._read(room, mapping(told)) for room, told in invited.items())):
            self._waiting.pop(each.room, None)
            if not self._joins:
                notes.append(f"{each.person} invited the user to {each.room}: autoJoin is off, so it was not joined")
                continue
            try:
                await self._follow(each)
            except DeliveryError as error:
                if isinstance(error, ThrottledError) and len(self._waiting) < MOST_WAITING:
                    self._waiting[each.room] = each, self._now() + max(LEAST_WAIT, error.retry_after)
                    continue
                # The invitation stays; it is told once, so that a room that cannot be joined holds up nothing.
                notes.append(f"The invitation of {each.person} to {each.room} could not be followed: {error.message}")
        return notes

    def _read(self, room: str, told: Fields) -> _Invitation:
        """An invitation. The other server may have sent any events along: ours adds the real one at the end."""
        events = [mapping(event) for event in listed(mapping(told.get("invite_state")).get("events"))]
        about = [each for each in events if (each.get("type"), each.get("state_key")) == ("m.room.member", self._me)]
        mine = about[-1] if about else mapping(None)
        is_direct = mapping(mine.get("content")).get("is_direct") is True
        return _Invitation(room, text(mine.get("sender"))[:LONGEST_ID], is_direct)

    async def _follow(self, invitation: _Invitation) -> None:
        await self._server.send("POST", path("rooms", invitation.room, "join"), {}, seconds=JOIN_SECONDS)
        if invitation.is_direct and invitation.person:
            await note_direct(self._server, self._me, invitation.person, invitation.room)
            await self._on_direct()

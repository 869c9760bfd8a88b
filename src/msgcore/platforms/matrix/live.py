"""What happens in the rooms of an account, by asking its homeserver for it (`/sync`, long polling)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from msgcore.core.errors import DeliveryError, PermanentError, ThrottledError
from msgcore.platforms.live import Live, Sink, State
from msgcore.platforms.matrix.client import Fields, Homeserver, listed, mapping, needed, path, same_user, text
from msgcore.platforms.matrix.invitations import LEAST_WAIT, Invitations
from msgcore.platforms.matrix.rooms import direct_rooms, read_direct
from msgcore.platforms.matrix.timeline import TIMELINE_TYPES, Timelines

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

POLL_SECONDS = 30.0
SLACK_SECONDS = 30.0
"""How much longer than asked for an answer may take."""
ANSWER_SECONDS = 60.0
"""How long any other answer may take: a connection that fell silent is noticed by nothing else."""
LARGEST_SYNC = 32 * 1024 * 1024
EVENTS_AT_ONCE = 50
"""Of a room in one answer; what is left out is asked for."""
STALE_SECONDS = 600.0
"""How old a position may become while nothing happens that is stored."""
LONGEST_WAIT = 60.0

_NONE: dict[str, Any] = {"types": []}
_MEMBERS = {"lazy_load_members": True, "include_redundant_members": True}
START: dict[str, Any] = {"presence": _NONE, "account_data": _NONE, "room": {
    "timeline": {"limit": 1, "types": ["m.room.create"]}, "state": _NONE, "ephemeral": _NONE, "account_data": _NONE,
}}  # fmt: skip
"""Of a first answer only the position is wanted, and the invitations."""


def _filter(limit: int) -> dict[str, Any]:
    """What is told from then on (#filtering); the members with each event, so that nothing has to be kept of them."""
    state = {"types": ["m.room.create", "m.room.member", "m.room.name"], **_MEMBERS}
    return {
        "presence": _NONE,
        "account_data": {"types": ["m.direct"]},
        "room": {
            "timeline": {"limit": limit, "types": TIMELINE_TYPES},
            "state": state,
            "ephemeral": {"types": ["m.receipt", "m.typing"]},
            "account_data": _NONE,
        },
    }


class MatrixLive(Live):
    """Asks homeservers for what happens."""

    @classmethod
    def wanted(cls, account: Account) -> bool:
        """Unless `receive` is off."""
        return account.credentials.get("receive") is not False

    async def run(self, account: Account, sink: Sink, state: State | None) -> None:
        """Take what happened meanwhile, and then what happens."""
        server = Homeserver(self.services.held_http, account, self.services.clock, seconds=ANSWER_SECONDS)
        me = same_user(account.credentials.get("userId"), await server.whoami())
        sync = _Sync(server, account, sink, me, self.services.clock.monotonic)
        await sync.begin(state)
        sink.connected()
        while True:
            await sync.step(POLL_SECONDS)


class _Sync:
    """One run of an account's connection."""

    def __init__(self, server: Homeserver, account: Account, sink: Sink, me: str, now: Callable[[], float]) -> None:
        self._server = server
        self._sink = sink
        self._me = me
        joins = account.credentials.get("autoJoin") is True
        self._invitations = Invitations(server, me, joins=joins, now=now, on_direct=self._learn_direct)
        self._now = now
        self._since = ""
        self._stored_at = 0.0
        self._filters: dict[int, str] = {}
        self._notes: list[str] = []
        self._timelines = Timelines(server, me, self._ask, self._store)

    async def begin(self, state: State | None) -> None:
        """Go on from a state, or begin now: what is there already is not new."""
        await self._learn_direct()
        known = state or {}
        if self._is_of_this(known):
            self._since = text(known.get("since"))
            self._timelines.restore(listed(known.get("reactions")))
            self._invitations.restore(listed(known.get("invited")))
            try:
                await self.step(0.0)
            except PermanentError as error:
                if error.code not in ("platform_refused", "message_refused", "recipient_unknown"):
                    raise
                self._notes.append(
                    f"The homeserver does not know where we were, so what came since is left out: {error}"
                )
            else:
                return
        answer = await self._server.get(
            path("sync"), {"filter": _json(START)}, largest=LARGEST_SYNC, seconds=POLL_SECONDS + SLACK_SECONDS
        )
        self._notes += await self._invitations.take(mapping(mapping(answer.get("rooms")).get("invite")))
        self._since = needed(answer, "next_batch")
        await self._store()

    async def step(self, seconds: float) -> None:
        """Wait so long for something to happen, and store it."""
        answer = await self._sync(min(seconds, self._invitations.wait))
        following = needed(answer, "next_batch")
        for event in map(mapping, listed(mapping(answer.get("account_data")).get("events"))):
            if event.get("type") == "m.direct":
                self._timelines.direct(read_direct(mapping(event.get("content"))))
        rooms = mapping(answer.get("rooms"))
        self._notes += await self._invitations.take(mapping(rooms.get("invite")))
        for kind in ("join", "leave"):
            for room, told in mapping(rooms.get(kind)).items():
                await self._timelines.take(room, mapping(told), self._since, following)
        self._since = following
        if self._timelines.waiting or self._notes or self._now() - self._stored_at >= STALE_SECONDS:
            await self._store()

    async def _sync(self, seconds: float) -> Fields:
        """One answer; one that is too large to be had at once is asked for with one event of each room."""
        for limit in (EVENTS_AT_ONCE, 1):
            if limit not in self._filters:
                made = await self._server.send("POST", path("user", self._me, "filter"), _filter(limit))
                self._filters[limit] = needed(made, "filter_id")
            query = {"filter": self._filters[limit], "since": self._since, "timeout": str(int(seconds * 1000))}
            try:
                return await self._server.get(
                    path("sync"), query, largest=LARGEST_SYNC, seconds=seconds + SLACK_SECONDS
                )
            except DeliveryError as error:
                if error.code != "answer_lost" or limit == 1:
                    raise
        raise AssertionError

    async def _ask(self, endpoint: str, query: Mapping[str, str] | None) -> Fields:
        """A request within a step, which is not begun anew because the homeserver wants us to be slow."""
        while True:
            try:
                return await self._server.get(endpoint, query, largest=LARGEST_SYNC)
            except ThrottledError as error:
                await asyncio.sleep(min(LONGEST_WAIT, max(LEAST_WAIT, error.retry_after)))

    async def _store(self) -> None:
        """Store what is waiting, with the position that all of it comes after."""
        payloads, notes = self._timelines.taken(self._sink.largest)
        notes, self._notes = [*self._notes, *notes], []
        state = {
            "homeserver": self._server.url,
            "user": self._me,
            "since": self._since,
            "reactions": self._timelines.reactions,
            "invited": self._invitations.kept,
        }
        await self._sink.store(payloads, state, notes)
        self._stored_at = self._now()

    async def _learn_direct(self) -> None:
        self._timelines.direct(await direct_rooms(self._server, self._me))

    def _is_of_this(self, state: State) -> bool:
        return (state.get("homeserver"), state.get("user")) == (self._server.url, self._me) and bool(state.get("since"))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

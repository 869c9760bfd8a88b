"""Where live connections put what they get: the same table as what is posted, in one transaction with their state.

The transaction also checks that the process still holds the connections, and keeps others from taking them until
it ends. So of two processes that both think they hold one, only one can store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from msgcore.core.clock import Clock
from msgcore.core.ids import new_id
from msgcore.inbound.translation import plain
from msgcore.platforms.base import Account
from msgcore.platforms.live import LeaseLostError, Payload, State
from msgcore.store import connections as store
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.group_commit import GroupCommit
from msgcore.store.inbound import RawRequest, keep, log

Row = dict[str, Any]
LARGEST_BATCH = 8_000_000
"""Bytes that are stored in one transaction."""
LONGEST_LINE = 1000
"""Characters of a line of the log: what strangers wrote may stand in it."""


@dataclass(frozen=True, slots=True)
class Haul:
    """What a connection got, and how far it is with it."""

    platform_id: str
    requests: Sequence[RawRequest]
    state: State
    notes: Sequence[Row]


class LiveStore:
    """Stores what all connections of a process get, as many together as come together."""

    def __init__(self, database: Database, holder: str, on_stored: Callable[[str], None]) -> None:
        """`holder` is the process, as its leases name it; `on_stored` is told what there is to be read for."""
        self._database = database
        self._holder = holder
        self._on_stored = on_stored
        self._commits: GroupCommit[Haul, None] = GroupCommit(self._flush, largest=LARGEST_BATCH, weigh=_weight)

    async def store(self, haul: Haul) -> None:
        """Returns when it is committed. Raises LeaseLostError, and what the database raises."""
        await self._commits.submit(haul)

    async def drain(self) -> None:
        """Wait until all that was begun is stored."""
        await self._commits.drain()

    async def _flush(self, hauls: Sequence[Haul]) -> Sequence[Exception | None]:
        try:
            held = await self._database.transact(lambda connection: self._write(connection, hauls))
        except Exception as error:
            if len(hauls) == 1 or is_away(error):
                raise
            return [(await self._flush_alone(haul)) for haul in hauls]  # one must not fail the others
        for haul in hauls:
            if haul.requests and haul.platform_id in held:
                self._on_stored(haul.platform_id)
        return [None if haul.platform_id in held else LeaseLostError() for haul in hauls]

    async def _flush_alone(self, haul: Haul) -> Exception | None:
        try:
            return (await self._flush([haul]))[0]
        except Exception as error:  # noqa: BLE001 - given to whoever stores it
            return error

    def _write(self, connection: Connection, hauls: Sequence[Haul]) -> set[str]:
        held = store.fence(connection, self._holder, {haul.platform_id for haul in hauls})
        mine = [haul for haul in hauls if haul.platform_id in held]
        keep(connection, [request for haul in mine for request in haul.requests])
        log(connection, [line for haul in mine for line in haul.notes])
        store.keep_states(connection, [(haul.platform_id, haul.state) for haul in mine])
        return held


class AccountSink:
    """The sink of one run of an account's connection."""

    def __init__(
        self, account: Account, live_store: LiveStore, clock: Clock, *, largest: int, on_connected: Callable[[], None]
    ) -> None:
        self._account = account
        self._store = live_store
        self._clock = clock
        self._on_connected = on_connected
        self._storing: asyncio.Task[None] | None = None
        self.largest = largest

    async def store(self, payloads: Sequence[Payload], state: State, notes: Sequence[str] = ()) -> None:
        """Store payloads, the state that they lead to, and notes for the account's log."""
        account, now = self._account, self._clock.now()
        requests = [
            RawRequest(
                id=new_id(),
                project_id=account.project_id,
                platform_id=account.id,
                platform=account.platform,
                headers=payload.headers,
                query="",
                body=payload.body,
                received_at=now,
            )
            for payload in payloads
        ]
        lines = [log_line(self._account, "warn", note, self._clock) for note in notes]
        haul = Haul(account.id, requests, state, lines)
        self._storing = asyncio.create_task(self._store.store(haul), name="live-store")
        self._storing.add_done_callback(_look_at)
        await asyncio.shield(self._storing)  # what is begun is finished: see `settle`

    async def settle(self) -> None:
        """Wait for what is being stored: whoever connects next goes on from there."""
        if self._storing is not None and not self._storing.done():
            await asyncio.wait([self._storing])

    def connected(self) -> None:
        """The connection is up."""
        self._on_connected()


def log_line(
    account: Account, level: str, message: str, clock: Clock, *, error: str | None = None, metadata: Any = None
) -> Row:
    """A line of the platforms' log about an account's connection."""
    return {
        "id": new_id(),
        "project_id": account.project_id,
        "platform_id": account.id,
        "platform": account.platform,
        "level": level,
        "category": "connection",
        "message": (plain(message) or "")[:LONGEST_LINE],
        "metadata": metadata,
        "error": plain(error),
        "timestamp": clock.now(),
    }


def _look_at(task: asyncio.Task[None]) -> None:
    """Whoever waited for it may be gone, and its error with them: it is theirs alone."""
    if not task.cancelled():
        task.exception()


def _weight(haul: Haul) -> int:
    return 500 + sum(len(request.body) for request in haul.requests)

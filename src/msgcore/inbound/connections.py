"""The connection manager: holds this process's share of the live connections, each under a lease.

Every process that dispatches has one. A connection whose holder ends is free as soon as its lease is over, or at
once if the holder had the time to say so, and goes to whoever has less than their share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import Connection

from msgcore.core.clock import Clock
from msgcore.core.ids import new_id
from msgcore.core.tasks import end
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.inbound.holding import Holding, Surroundings
from msgcore.inbound.live_sink import LiveStore
from msgcore.platforms.live import Live
from msgcore.security.keyring import DecryptionError
from msgcore.store import connections as store
from msgcore.store.database import Database
from msgcore.store.faults import is_away

log = structlog.stdlib.get_logger(__name__)

LEASE_SECONDS = 10.0
"""With one beat and a log-in, a connection whose holder was killed is up elsewhere within 15 s."""
BEAT_SECONDS = 2.0
"""How often leases are renewed and accounts looked at: a lease outlives four beats that fail."""
SAFETY_SECONDS = 2.0
"""So long before a lease that could not be renewed ends, its connection is given up here."""
MOST_HELD = 1000
"""Connections of one process: each costs a socket, some memory, and its part of a beat."""
GIVE_BACK_SECONDS = 3.0
"""How long giving back leases may take: without it they end by themselves."""
SHED_AT_ONCE = 20
"""Connections that are given up in one beat for another process's sake, so that few are down at any time."""


class ConnectionManager:
    """Takes, renews and gives up leases, and holds the connections that they are for."""

    def __init__(
        self,
        *,
        database: Database,
        accounts: AccountDirectory,
        platforms: Mapping[str, Live],
        on_stored: Callable[[str], None],
        clock: Clock,
        largest: int,
    ) -> None:
        """`on_stored` is told the id of an account that has something to be read; `largest` bytes has a payload."""
        self._holder = new_id()
        self._database = database
        self._accounts = accounts
        self._platforms = platforms
        self._clock = clock
        live_store = LiveStore(database, self._holder, on_stored)
        self._live_store = live_store
        self._around = Surroundings(database, accounts, live_store, clock, largest)
        self._held: dict[str, Holding] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._given_back: set[str] = set()
        """Leases that were released since the last beat began: what it says of them is old."""
        self._safe_until = float("-inf")
        self._news = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to hold connections."""
        self._beating = asyncio.create_task(self._beat_on(), name="connections")

    async def stop(self) -> None:
        """Hang up everywhere, and let others take over at once."""
        await end(self._beating)
        self._let_go(list(self._held))
        if self._ending:
            await asyncio.wait(set(self._ending.values()))
        await self._live_store.drain()
        await self._give_back(lambda connection: store.leave(connection, self._holder))
        for live in self._platforms.values():
            await live.close()

    def hurry(self) -> None:
        """An account was made, changed or deleted: look now."""
        self._news.set()

    async def _beat_on(self) -> None:
        while True:
            asked_at = self._clock.monotonic()
            self._given_back.clear()
            try:
                held = await self._beat()
                self._safe_until = asked_at + LEASE_SECONDS - SAFETY_SECONDS
                self._follow(held)
            except Exception as error:
                if not (isinstance(error, TimeoutError) or is_away(error)):
                    log.exception("connections_beat_failed")
            if self._held and self._clock.monotonic() >= self._safe_until:
                log.warning("connections_given_up", reason="their leases could not be renewed", number=len(self._held))
                self._let_go(list(self._held))
            await self._rest()

    async def _rest(self) -> None:
        left = self._safe_until - self._clock.monotonic() if self._held else BEAT_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.05, min(BEAT_SECONDS, left))):
                await self._news.wait()
        self._news.clear()

    async def _beat(self) -> store.Held:
        async with asyncio.timeout(self._patience(self._safe_until - self._clock.monotonic())):
            if not (self._held or await store.is_any_wanted(self._database, self._platforms)):
                return store.Held({}, 0)
            return await self._database.transact(self._renew)

    def _patience(self, seconds: float) -> float | None:
        """How long the database may take: an answer after the leases' end is none. SQLite is on this machine."""
        if self._database.kind == "sqlite":
            return None
        return max(0.1, seconds) if self._held else LEASE_SECONDS

    def _renew(self, connection: Connection) -> store.Held:
        store.judge(connection, self._platforms, self._is_wanted)
        return store.beat(connection, self._holder, self._platforms, lease=LEASE_SECONDS, most=MOST_HELD)

    def _is_wanted(self, row: Any) -> bool:
        record = AccountRecord.of(row)
        try:
            account = self._accounts.decrypt(record)
        except DecryptionError:
            log.error("credentials_unreadable", platform=record.platform, platform_id=record.id)  # noqa: TRY400
            return False
        return self._platforms[record.platform].wanted(account)

    # --- holding what it has leases for

    def _follow(self, held: store.Held) -> None:
        """Hold what is held by the leases, as the accounts are now, and nothing else."""
        mine = {id_: lease for id_, lease in held.leases.items() if id_ not in self._given_back}
        for id_ in [id_ for id_ in mine if id_ in self._held][: min(held.surplus, SHED_AT_ONCE)]:
            del mine[id_]
        stale = [id_ for id_, each in self._held.items() if id_ not in mine or mine[id_].version != each.version]
        self._let_go(stale)
        for id_, lease in mine.items():
            if id_ not in self._ending and (id_ not in self._held or self._held[id_].task.done()):
                self._held[id_] = Holding(id_, lease.version, self._platforms[lease.platform], self._around)

    def _let_go(self, platform_ids: Iterable[str]) -> None:
        """Hang up, and give back the leases once that is done."""
        holdings = {id_: self._held.pop(id_) for id_ in platform_ids}
        if holdings:
            task = asyncio.create_task(self._end(holdings), name="hang-up")
            self._ending |= dict.fromkeys(holdings, task)

    async def _end(self, holdings: Mapping[str, Holding]) -> None:
        await asyncio.gather(*(end(holding.task) for holding in holdings.values()), return_exceptions=True)
        await self._give_back(lambda connection: store.release(connection, self._holder, list(holdings)))
        self._given_back |= holdings.keys()
        for id_ in holdings:
            del self._ending[id_]
        self.hurry()

    async def _give_back(self, work: Callable[[Connection], None]) -> None:
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS if self._database.kind == "postgresql" else None):
                await self._database.transact(work)
        except Exception as error:  # noqa: BLE001 - the leases end by themselves, or are taken up again here
            log.warning("connections_not_released", error=type(error).__name__)

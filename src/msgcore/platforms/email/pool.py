"""SMTP connections, kept open and shared by the mails of an account."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgcore.core.errors import DeliveryError
from msgcore.platforms.base import Account
from msgcore.platforms.email.client import Connection, Connector, StaleConnectionError
from msgcore.platforms.email.render import OutgoingMail
from msgcore.security.egress import EgressGuard

CONNECTIONS: Final = 5
"""Connections of one account at a time."""
IDLE_SECONDS: Final = 30.0
MAX_POOLS: Final = 1000


class Pools:
    """The pools of the accounts that sent lately; the least recently used goes first."""

    def __init__(self, egress: EgressGuard, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._connector = Connector(egress)
        self._idle_seconds = idle_seconds
        self._pools: OrderedDict[str, Pool] = OrderedDict()
        self._goodbyes: set[asyncio.Task[None]] = set()

    def of(self, account: Account) -> Pool:
        """The pool of an account as it is now; one with older credentials is closed."""
        pool = self._pools.get(account.id)
        if pool is None or pool.version != account.version:
            self.forget(account.id)
            pool = self._pools[account.id] = Pool(account, self._connector, self._say_goodbye, self._idle_seconds)
            if len(self._pools) > MAX_POOLS:
                self.forget(next(iter(self._pools)))
        self._pools.move_to_end(account.id)
        return pool

    def forget(self, account_id: str) -> None:
        """Close the pool of an account, if there is one; what is being sent is finished."""
        pool = self._pools.pop(account_id, None)
        if pool is not None:
            pool.close()

    async def close(self) -> None:
        """Close all pools and wait until their servers know."""
        for account_id in list(self._pools):
            self.forget(account_id)
        if self._goodbyes:
            await asyncio.wait(self._goodbyes)

    def _say_goodbye(self, connection: Connection) -> None:
        task = asyncio.create_task(connection.quit())
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)


class Pool:
    """Up to five connections with one account's credentials; idle ones are closed after a while."""

    def __init__(
        self, account: Account, connector: Connector, goodbye: Callable[[Connection], None], idle_seconds: float
    ) -> None:
        self.version = account.version
        self._credentials = account.credentials
        self._connector = connector
        self._goodbye = goodbye
        self._idle_seconds = idle_seconds
        # A mail is rendered inside its slot, so that a flood of large ones is never in memory at once.
        self.slot = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[Connection] = []
        self._closed = False

    async def send(self, mail: OutgoingMail) -> int:
        """Send a mail over a free connection, or a new one; returns how many copies were refused.

        Hold `slot` meanwhile. Raises DeliveryError.
        """
        while self._idle:
            with suppress(StaleConnectionError):
                return await self._send_over(self._take_idle(), mail)
        return await self._send_over(await self._connector.connect(self._credentials), mail)

    def close(self) -> None:
        """Close what is idle now, and the rest when it is done."""
        self._closed = True
        while self._idle:
            self._goodbye(self._take_idle())

    async def _send_over(self, connection: Connection, mail: OutgoingMail) -> int:
        try:
            refused = await connection.send(mail)
        except (DeliveryError, StaleConnectionError):
            self._give_back(connection)
            raise
        except BaseException:  # interrupted in the middle of a command: what comes next would be misread
            connection.abort()
            raise
        self._give_back(connection)
        return refused

    def _take_idle(self) -> Connection:
        connection = self._idle.pop()
        if connection.expiry is not None:
            connection.expiry.cancel()
        return connection

    def _give_back(self, connection: Connection) -> None:
        if self._closed or not connection.is_usable:
            self._goodbye(connection)
            return
        connection.expiry = asyncio.get_running_loop().call_later(self._idle_seconds, self._expire, connection)
        self._idle.append(connection)

    def _expire(self, connection: Connection) -> None:
        self._idle.remove(connection)
        self._goodbye(connection)

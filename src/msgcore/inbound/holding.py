"""One account's live connection in this process: made, made again when it is lost, and told of in the account's log."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from msgcore.core.clock import Clock
from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, TemporaryError, ThrottledError
from msgcore.core.retry import RetryPolicy
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.inbound.live_sink import AccountSink, LiveStore, log_line
from msgcore.platforms.base import Account
from msgcore.platforms.discretion import discreet
from msgcore.platforms.live import LeaseLostError, Live
from msgcore.security.keyring import DecryptionError
from msgcore.store.connections import read_state
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.inbound import log as write_log

log = structlog.stdlib.get_logger(__name__)

BACKOFF = RetryPolicy(base=1.0, cap=300.0)
"""A server that is back after an hour is found within five minutes."""
HOPELESS = RetryPolicy(base=900.0, cap=3600.0)
"""After refused credentials, which only a person can mend, and then it is tried at once: servers lock accounts that
try again and again."""
LONGEST_ASKED = 24 * 3600.0
"""Seconds that a platform can ask to wait."""
AWAY_SECONDS = 1.0
"""While the database is away."""
LOST_SECONDS = 5.0
"""Longer than it takes until this is ended, because another process holds the connection."""
STABLE_SECONDS = 60.0
"""A connection that lasted so long was a good one: what comes after is news, and begins with short waits."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections of a process share."""

    database: Database
    accounts: AccountDirectory
    live_store: LiveStore
    clock: Clock
    largest: int


class Holding:
    """Holds the connection of an account as it is at one version, until it is cancelled."""

    def __init__(self, platform_id: str, version: datetime, live: Live, around: Surroundings) -> None:
        self.version = version
        self._platform_id = platform_id
        self._live = live
        self._around = around
        self._failures = 0
        self._up_since: float | None = None
        self._told: tuple[str, str] | None = None
        """The error that the account's log ends with."""
        self._good_news: asyncio.TimerHandle | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self.task = asyncio.create_task(self._hold(), name="connection")

    async def _hold(self) -> None:
        while True:
            account = await self._open()
            if account is None:
                return  # it was deleted or changed just now: whoever started this finds out by itself
            seconds = await self._run(account)
            await asyncio.sleep(seconds)

    async def _open(self) -> Account | None:
        around = self._around
        while True:
            try:
                record = await around.accounts.get(self._platform_id)
                if record is not None and record.updated_at != self.version:
                    around.accounts.forget(self._platform_id)
                    record = await around.accounts.get(self._platform_id)
                if record is None or record.updated_at != self.version:
                    return None
                return around.accounts.open(record)
            except DecryptionError:
                log.error("credentials_unreadable", platform_id=self._platform_id)  # noqa: TRY400 - says all there is
                return None
            except Exception as error:
                if not is_away(error):
                    log.exception("connection_not_begun", platform_id=self._platform_id)
                await asyncio.sleep(AWAY_SECONDS)

    async def _run(self, account: Account) -> float:
        """Hold it until it is lost; the seconds until it is to be tried again."""
        around = self._around
        sink = AccountSink(
            account,
            around.live_store,
            around.clock,
            largest=around.largest,
            on_connected=lambda: self._came_up(account),
        )
        self._up_since = None
        try:
            state = await read_state(around.database, account.id)
            with discreet(account):
                await self._live.run(account, sink, state)
            return await self._failed(account, TemporaryError("connection_closed", "The connection was closed"))
        except DeliveryError as error:
            return await self._failed(account, error)
        except LeaseLostError:
            log.info("connection_lease_lost", platform_id=account.id)
            return LOST_SECONDS
        except Exception as error:
            if is_away(error):
                return AWAY_SECONDS
            log.exception("connection_broke", platform=account.platform, platform_id=account.id)
            fault = TemporaryError(
                "connection_fault", f"MsgCore failed here ({type(error).__name__}); its log says how"
            )
            return await self._failed(account, fault)
        finally:
            self._went_down()
            await sink.settle()

    # --- how it goes

    def _came_up(self, account: Account) -> None:
        self._up_since = self._around.clock.monotonic()
        log.info("connection_up", platform=account.platform, platform_id=account.id)
        if self._told is None and self._failures == 0:
            self._tell_soon(account)
        else:  # it may be lost again at once, and the log would alternate for as long as that goes on
            self._good_news = asyncio.get_running_loop().call_later(STABLE_SECONDS, self._tell_soon, account)

    def _went_down(self) -> None:
        if self._good_news is not None:
            self._good_news.cancel()
            self._good_news = None
        up_since, self._up_since = self._up_since, None
        if up_since is not None and self._around.clock.monotonic() - up_since >= STABLE_SECONDS:
            self._failures = 0
            self._told = None

    async def _failed(self, account: Account, error: DeliveryError) -> float:
        self._went_down()
        policy = HOPELESS if isinstance(error, PermanentError | AuthenticationError) else BACKOFF
        seconds = self._delay(policy)
        if isinstance(error, ThrottledError):
            seconds = min(LONGEST_ASKED, max(seconds, error.retry_after))
        told = (error.code, error.message)
        log.info("connection_failed", platform=account.platform, platform_id=account.id, error=error.code, wait=seconds)
        if told != self._told:
            self._told = told
            about = {"code": error.code, "retryInSeconds": round(seconds)}
            await self._tell(account, "error", "The connection failed", metadata=about, error=error.message)
        return seconds

    def _delay(self, policy: RetryPolicy) -> float:
        self._failures += 1
        return policy.delay(self._failures, random.Random())

    # --- the account's log

    def _tell_soon(self, account: Account) -> None:
        task = asyncio.create_task(self._tell(account, "info", "Connected"))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, account: Account, level: str, message: str, **more: Any) -> None:
        line = log_line(account, level, message, self._around.clock, **more)
        try:
            await self._around.database.transact(lambda connection: write_log(connection, [line]))
        except Exception as error:  # noqa: BLE001 - the connection matters more than its log
            log.warning("connection_log_failed", platform_id=account.id, error=type(error).__name__)

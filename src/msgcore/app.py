"""The composition root: builds every part of a gateway from the settings. Nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import structlog

from msgcore.api.app import create_api
from msgcore.api.fast_send import FastSend
from msgcore.config import Settings
from msgcore.core.clock import Clock, SystemClock
from msgcore.core.deliveries import Ticket
from msgcore.core.errors import StartupError
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.dispatch.feeder import Feeder
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.messages import MessageCache
from msgcore.dispatch.processor import Processor
from msgcore.dispatch.verdict import Judge
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.services import AdapterServices
from msgcore.outbound.session import make_session
from msgcore.platforms.base import PlatformAdapter
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.egress import EgressGuard
from msgcore.security.keyring import Keyring
from msgcore.security.secrets import load_secrets, prepare_data_dir
from msgcore.services.container import Services
from msgcore.services.dead_letters import DeadLetterService
from msgcore.services.health import check_encryption_key
from msgcore.services.jobs import JobService
from msgcore.services.send import SendService
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.feed import Feed
from msgcore.store.ledger.work import WorkLog
from msgcore.store.lock import DispatchLock
from msgcore.store.migrate import require_current, upgrade
from msgcore.store.partitions import ensure_partitions

log = structlog.stdlib.get_logger(__name__)

MAINTENANCE_SECONDS = 6 * 3600.0
LOCK_SECONDS = 5.0
"""How often it is checked that no other process dispatches; a lock outlives anything but its connection."""

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application: scope, receive and send."""


class Gateway:
    """A running MsgCore: the API, the dispatch core, or both, over one database."""

    def __init__(self, settings: Settings, database: Database, keyring: Keyring, resources: AsyncExitStack) -> None:
        self.settings = settings
        self.database = database
        self.asgi: AsgiApp | None = None
        self._keyring = keyring
        self._resources = resources
        self._clock: Clock = SystemClock()
        self._registry = PlatformRegistry()
        self._work = WorkLog(database)
        self._messages = MessageCache(self._work)
        self._accounts = AccountDirectory(database, keyring)
        self._accept_log = AcceptLog(database, self._committed)
        self._scheduler: MemoryScheduler | None = None
        self._adapters: dict[str, PlatformAdapter] = {}
        self._feeder: Feeder | None = None
        self._processor: Processor | None = None
        self._lock: DispatchLock | None = None
        self._maintenance: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: Settings, *, api: bool = True, worker: bool = True) -> Gateway:
        """Open the database and build every part.

        With both parts (one process that does everything) the database is brought up to date
        first; a lone part expects it to be. Raises StartupError with one line for the operator.
        """
        if settings.redis_url is not None:
            raise StartupError(
                "MSGCORE_REDIS_URL is set, but this version schedules in one process only: unset it "
                "(several `msgcore api` processes may share one PostgreSQL database with one `msgcore worker`)"
            )
        if settings.database_url is None:
            prepare_data_dir(settings.data_dir)
        secrets = load_secrets(settings)
        async with AsyncExitStack() as resources:
            database = Database.open(
                settings.resolved_database_url,
                pool=settings.database_pool,
                synchronous=settings.sqlite_synchronous,
            )
            resources.push_async_callback(database.close)
            await (upgrade if api and worker else require_current)(database)
            keyring = Keyring(secrets.encryption_key)
            await check_encryption_key(database, keyring)
            gateway = cls(settings, database, keyring, resources)
            await ensure_partitions(database, gateway._clock.now())
            if worker:
                await gateway._build_dispatch(follow=not api)
            if api:
                gateway._build_api(secrets.jwt_secret)
            gateway._resources = resources.pop_all()
        return gateway

    async def start(self) -> None:
        """Begin to dispatch. The API answers as soon as a server runs `asgi`."""
        if self._feeder is not None and self._processor is not None:
            await self._feeder.start()
            self._processor.start()
        self._maintenance = asyncio.create_task(self._maintain(), name="maintenance")

    async def watch(self) -> None:
        """Runs for as long as all is well. Raises StartupError when another process took over dispatching."""
        while True:
            await asyncio.sleep(LOCK_SECONDS)
            if self._lock is not None:
                await self._lock.check()

    async def stop(self) -> None:
        """Commit what was accepted, finish what is being sent (bounded), close everything."""
        if self._maintenance is not None:
            self._maintenance.cancel()
            with suppress(asyncio.CancelledError):
                await self._maintenance
        await self._accept_log.drain()
        if self._feeder is not None:
            await self._feeder.stop()
        if self._processor is not None:
            await self._processor.stop(self.settings.shutdown_seconds)
        await self._resources.aclose()

    # --- parts

    async def _build_dispatch(self, *, follow: bool) -> None:
        settings = self.settings
        self._lock = await DispatchLock.acquire(self.database)
        self._resources.push_async_callback(self._lock.release)
        guard = EgressGuard(settings.egress_allow)
        session = make_session(guard, limit=max(100, settings.concurrency))
        self._resources.push_async_callback(session.close)
        services = AdapterServices(
            http=session,
            egress=guard,
            attachments=AttachmentLoader(session, guard, settings.max_attachment_bytes),
            database=self.database,
            clock=self._clock,
            base_urls=settings.platform_base_urls,
        )
        self._adapters = self._registry.build(services)
        for adapter in self._adapters.values():
            self._resources.push_async_callback(adapter.close)
        self._scheduler = MemoryScheduler(self._clock, lease_seconds=settings.lease_seconds)
        self._feeder = Feeder(
            feed=Feed(self.database),
            scheduler=self._scheduler,
            limits={declaration.name: declaration.limits for declaration in self._registry.declarations()},
            clock=self._clock,
            gate=self._accept_log.gate,
            on_resume=self._accounts.forget,
            every=settings.reconcile_seconds,
            follow=follow,
        )
        self._processor = Processor(
            scheduler=self._scheduler,
            work=self._work,
            accounts=self._accounts,
            messages=self._messages,
            adapters=self._adapters,
            clock=self._clock,
            judge=Judge(),
            concurrency=settings.concurrency,
            lease_seconds=settings.lease_seconds,
            send_timeout=settings.send_timeout_seconds,
        )

    def _build_api(self, jwt_secret: str) -> None:
        dead_letters = DeadLetterService(
            database=self.database, scheduler=self._scheduler, registry=self._registry, clock=self._clock
        )
        services = Services.build(
            database=self.database,
            keyring=self._keyring,
            registry=self._registry,
            settings=self.settings,
            clock=self._clock,
            jwt_secret=jwt_secret,
            on_platform_change=self._account_changed,
            sending=SendService(
                accounts=self._accounts,
                registry=self._registry,
                accept_log=self._accept_log,
                messages=self._messages,
                clock=self._clock,
            ),
            jobs=JobService(database=self.database, dead_letters=dead_letters, clock=self._clock),
            dead_letters=dead_letters,
        )
        self._resources.push_async_callback(services.authenticator.close)
        self.asgi = FastSend(
            create_api(services, self.settings),
            services.authenticator,
            services.sending,
            largest=self.settings.max_body_bytes,
        )

    # --- events between the parts

    async def _committed(self, tickets: Sequence[Ticket]) -> None:
        if self._feeder is not None:
            await self._feeder.committed(tickets)

    async def _account_changed(self, account_id: str) -> None:
        """A platform was made, changed, switched or deleted: use it as it is now."""
        self._accounts.forget(account_id)
        for adapter in self._adapters.values():
            await adapter.forget(account_id)
        if self._scheduler is not None:
            record = await self._accounts.get(account_id)
            if record is not None and record.is_held:
                await self._scheduler.pause(account_id)
            else:
                await self._scheduler.resume(account_id)

    async def _maintain(self) -> None:
        """Make coming months' partitions long before they are needed."""
        while True:
            await asyncio.sleep(MAINTENANCE_SECONDS)
            try:
                await ensure_partitions(self.database, self._clock.now())
            except Exception:  # the months ahead leave time for many more tries
                log.warning("maintenance_failed", exc_info=True)

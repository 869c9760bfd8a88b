"""The composition root: builds every part of a gateway from the settings. Nothing else does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any

import structlog

from msgcore.api.app import create_api, create_monitoring_api
from msgcore.api.fast_receive import FastReceive
from msgcore.api.fast_send import FastSend
from msgcore.api.metrics import CountedRequests
from msgcore.config import Settings
from msgcore.core.clock import Clock, SystemClock
from msgcore.core.deliveries import Ticket
from msgcore.core.tasks import end
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.dispatch.feeder import Feeder
from msgcore.dispatch.handover import Handover
from msgcore.dispatch.memory import MemoryScheduler
from msgcore.dispatch.messages import MessageCache
from msgcore.dispatch.opening import open_scheduler
from msgcore.dispatch.processor import Processor
from msgcore.dispatch.redis import RedisScheduler
from msgcore.dispatch.redis.loader import ShardLoader
from msgcore.dispatch.scheduler import SchedulerAwayError
from msgcore.dispatch.verdict import Judge
from msgcore.dispatch.webhook_accounts import WebhookDirectory
from msgcore.inbound.bus import EventBus
from msgcore.inbound.reader import Reader
from msgcore.inbound.receiver import Receiver
from msgcore.inbound.spool import Spool
from msgcore.inbound.tokens import TokenDirectory
from msgcore.inbound.webhook_feed import WebhookFeed
from msgcore.observability.metrics import Metrics
from msgcore.observability.snapshot import Dispatching
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import PlatformAdapter
from msgcore.platforms.event_webhook import EventWebhookAdapter
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.egress import EgressGuard
from msgcore.security.keyring import Keyring
from msgcore.security.secrets import load_secrets, prepare_data_dir
from msgcore.services.container import Services
from msgcore.services.dead_letters import DeadLetterService
from msgcore.services.event_streams import EventStreamService
from msgcore.services.health import HealthService, Life, check_encryption_key
from msgcore.services.jobs import JobService
from msgcore.services.monitoring import Monitoring
from msgcore.services.schedules import ScheduleService
from msgcore.services.send import SendService
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.ledger.feed import Feed
from msgcore.store.ledger.quota import QueueQuota
from msgcore.store.ledger.work import WorkLog
from msgcore.store.lock import DispatchLock, Leadership
from msgcore.store.migrate import require_current, upgrade
from msgcore.store.partitions import ensure_partitions
from msgcore.store.retention import forget_old

log = structlog.stdlib.get_logger(__name__)

MAINTENANCE_SECONDS = 6 * 3600.0
LOCK_SECONDS = 5.0
"""How often it is checked that no other process dispatches; a lock outlives anything but its connection."""

FAREWELL_SECONDS = 2.0
"""For telling those who follow events that the process stops; the HTTP server cuts them off without a word."""

UNKNOWN = "unknown"
"""The platform, in metrics, of an account that nobody asked for since so many others were."""

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application: scope, receive and send."""


class Gateway:
    """A running MsgCore: the API, the dispatch core, or both, over one database."""

    def __init__(self, settings: Settings, database: Database, keyring: Keyring, resources: AsyncExitStack) -> None:
        self.settings = settings
        self.database = database
        self.asgi: AsgiApp | None = None
        self.life = Life()
        self._keyring = keyring
        self._resources = resources
        self._clock: Clock = SystemClock()
        self._registry = PlatformRegistry()
        self._metrics = Metrics(declaration.name for declaration in self._registry.declarations())
        self._monitoring = Monitoring(
            database=database,
            clock=self._clock,
            metrics=self._metrics,
            dispatching=self._dispatching,
            leading=self._leading,
            breakers=self._breakers,
            ping_redis=None if settings.redis_url is None else self._ping_redis,
        )
        self._health = HealthService(database, self._clock, self._monitoring, self.life)
        declarations = (*self._registry.declarations(), EventWebhookAdapter.declaration)
        self._limits = {declaration.name: declaration.limits for declaration in declarations}
        self._work = WorkLog(database)
        self._messages = MessageCache(self._work)
        self._accounts = AccountDirectory(database, keyring)
        self._webhooks = WebhookDirectory(database, keyring)
        self._accept_log = AcceptLog(database, self._committed)
        self._scheduler: MemoryScheduler | RedisScheduler | None = None
        self._handover: Handover | None = None
        self._adapters: dict[str, PlatformAdapter] = {}
        self._feeder: Feeder | None = None
        self._processor: Processor | None = None
        self._lock: DispatchLock | None = None
        self._bus = EventBus()
        self._webhook_feed: WebhookFeed | None = None
        self._reader: Reader | None = None
        self._receiver: Receiver | None = None
        self._event_streams: EventStreamService | None = None
        self._maintenance: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: Settings, *, api: bool = True, worker: bool = True) -> Gateway:
        """Open the database and build every part.

        With both parts (one process that does everything) the database is brought up to date
        first; a lone part expects it to be. Raises StartupError with one line for the operator.
        """
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
            await gateway._build_scheduling(worker=worker)
            gateway._build_receiving(api=api)
            await gateway._build_adapters()
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
        self._bus.start()
        if self._webhook_feed is not None:
            self._webhook_feed.start()
        if self._reader is not None:
            self._reader.start()
        if self._receiver is not None:
            self._receiver.start()
        self._maintenance = asyncio.create_task(self._maintain(), name="maintenance")
        self.life.phase = "ready"

    async def watch(self) -> None:
        """Runs for as long as all is well. Raises StartupError when another process took over dispatching."""
        while True:
            await asyncio.sleep(LOCK_SECONDS)
            if self._lock is not None:
                await self._lock.check()

    async def begin_stop(self) -> None:
        """Say that it stops, to load balancers and to those who follow events; everything else goes on."""
        self.life.phase = "stopping"
        if self._event_streams is not None:
            await self._event_streams.end(FAREWELL_SECONDS)

    async def stop(self) -> None:
        """Commit what was accepted, finish what is being sent (bounded), close everything."""
        await self.begin_stop()
        await end(self._maintenance)
        if self._webhook_feed is not None:
            await self._webhook_feed.stop()
        await self._accept_log.drain()
        if self._receiver is not None:
            await self._receiver.stop()
        if self._reader is not None:
            await self._reader.stop()
        await self._bus.stop()
        if self._feeder is not None:
            await self._feeder.stop()
        if self._handover is not None:
            await self._handover.stop()
        if self._processor is not None:
            await self._processor.stop(self.settings.shutdown_seconds)
        await self._resources.aclose()

    def monitoring_api(self) -> AsgiApp:
        """Metrics and health alone, for a port of their own."""
        return create_monitoring_api(self._health, self._monitoring, self.settings)

    def before_close(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call it when nothing is sent any more and before what was opened is closed."""
        self._resources.push_async_callback(callback)

    # --- parts

    async def _build_scheduling(self, *, worker: bool) -> None:
        self._scheduler = await open_scheduler(self.settings, self.database, self._clock, worker=worker)
        if self._scheduler is None:
            return
        if isinstance(self._scheduler, RedisScheduler):
            self._resources.push_async_callback(self._scheduler.close)
        self._handover = Handover(
            feed=Feed(self.database),
            scheduler=self._scheduler,
            limits=self._limits,
            clock=self._clock,
            gate=self._accept_log.gate,
        )

    def _build_receiving(self, *, api: bool) -> None:
        if isinstance(self._scheduler, RedisScheduler):
            self._bus = EventBus(self._scheduler.connection)
        self._reader = Reader(
            database=self.database, accounts=self._accounts, registry=self._registry, bus=self._bus, clock=self._clock
        )
        if api:
            self._receiver = Receiver(
                database=self.database,
                tokens=TokenDirectory(self.database, self._accounts),
                accounts=self._accounts,
                registry=self._registry,
                spool=Spool(self.settings.data_dir / "spool", largest=self.settings.max_spool_bytes),
                on_stored=self._reader.wake,
            )

    def _build_feeder(self, scheduler: MemoryScheduler | RedisScheduler, handover: Handover, *, follow: bool) -> Feeder:
        loader, leadership = None, None
        feed = Feed(self.database)
        if isinstance(scheduler, RedisScheduler):
            loader = ShardLoader(feed=feed, scheduler=scheduler, limits=self._limits, clock=self._clock)
            leadership = Leadership(self.database)
            self._resources.push_async_callback(leadership.release)
        feeder = Feeder(
            feed=feed,
            scheduler=scheduler,
            limits=self._limits,
            clock=self._clock,
            gate=self._accept_log.gate,
            handover=handover,
            on_resume=self._forget,
            on_found=self._metrics.reconciled,
            every=self.settings.reconcile_seconds,
            follow=follow and loader is None,
            loader=loader,
            leadership=leadership,
        )
        if isinstance(scheduler, RedisScheduler):
            scheduler.on_closed = feeder.hurry
        return feeder

    async def _build_adapters(self) -> None:
        """What talks to platforms: to send, and to set up their webhooks."""
        settings = self.settings
        if self._reader is None:
            raise RuntimeError("what adapters store is read")
        guard = EgressGuard(settings.egress_allow)
        transport = await self._resources.enter_async_context(
            open_transport(guard, limit=max(100, settings.concurrency))
        )
        services = AdapterServices(
            http=transport,
            egress=guard,
            attachments=AttachmentLoader(transport, settings.max_attachment_bytes),
            database=self.database,
            clock=self._clock,
            base_urls=settings.platform_base_urls,
            on_stored=self._reader.wake,
        )
        self._adapters = self._registry.build(services)
        self._adapters[EventWebhookAdapter.declaration.name] = EventWebhookAdapter(services)
        for adapter in self._adapters.values():
            self._resources.push_async_callback(adapter.close)

    async def _build_dispatch(self, *, follow: bool) -> None:
        settings = self.settings
        if self._scheduler is None or self._handover is None:
            raise RuntimeError("a process that dispatches has a scheduler")
        if isinstance(self._scheduler, MemoryScheduler):
            self._lock = await DispatchLock.acquire(self.database)
            self._resources.push_async_callback(self._lock.release)
        self._feeder = self._build_feeder(self._scheduler, self._handover, follow=follow)
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
            metrics=self._metrics,
            webhooks=self._webhooks,
            on_told=self._bus.announce_soon,
        )
        self._webhook_feed = WebhookFeed(
            database=self.database,
            accept_log=self._accept_log,
            bus=self._bus,
            clock=self._clock,
            leads=self._leading,
        )

    def _build_api(self, jwt_secret: str) -> None:
        if self._receiver is None:
            raise RuntimeError("a process with an API receives")
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
            on_webhook_change=self._webhook_changed,
            adapters=self._adapters,
            accept_log=self._accept_log,
            health=self._health,
            monitoring=self._monitoring,
            sending=SendService(
                accounts=self._accounts,
                registry=self._registry,
                accept_log=self._accept_log,
                quota=QueueQuota(self.database, self._clock, self.settings.queue_quota),
                messages=self._messages,
                clock=self._clock,
            ),
            jobs=JobService(database=self.database, dead_letters=dead_letters, clock=self._clock),
            schedules=ScheduleService(
                database=self.database,
                scheduler=self._scheduler,
                registry=self._registry,
                clock=self._clock,
                on_told=self._bus.announce,
            ),
            dead_letters=dead_letters,
            receiver=self._receiver,
            bus=self._bus,
        )
        self._event_streams = services.event_streams
        self._resources.push_async_callback(services.authenticator.close)
        largest = self.settings.max_body_bytes
        api = create_api(services, self.settings)
        sending = FastSend(api, services.authenticator, services.sending, largest=largest)
        self.asgi = CountedRequests(FastReceive(sending, self._receiver, largest=largest), self._metrics)

    # --- events between the parts

    async def _committed(self, tickets: Sequence[Ticket]) -> None:
        for account_id, number in Counter(ticket.account_id for ticket in tickets).items():
            platform = self._accounts.platform_of(account_id) or self._webhooks.platform_of(account_id)
            self._metrics.platform(platform or UNKNOWN).accepted.inc(number)
        if self._handover is not None:
            await self._handover.committed(tickets)

    def _dispatching(self) -> Dispatching:
        if self._feeder is None:
            return "off"
        return "running" if self._handover is not None and self._handover.is_live else "starting"

    def _leading(self) -> bool:
        return self._feeder is not None and self._feeder.leads

    async def _breakers(self) -> Mapping[str, str]:
        return {} if self._scheduler is None else await self._scheduler.breakers()

    async def _ping_redis(self) -> bool:
        if isinstance(self._scheduler, RedisScheduler):
            await self._scheduler.connection.ping()
        return True

    async def _account_changed(self, account_id: str) -> None:
        """A platform was made, changed, switched or deleted: use it as it is now."""
        self._accounts.forget(account_id)
        for adapter in self._adapters.values():
            await adapter.forget(account_id)
        await self._hold_or_resume(account_id, self._accounts)

    async def _webhook_changed(self, webhook_id: str) -> None:
        """A webhook was changed, switched or deleted: use it as it is now."""
        self._webhooks.forget(webhook_id)
        await self._hold_or_resume(webhook_id, self._webhooks)

    def _forget(self, account_id: str) -> None:
        self._accounts.forget(account_id)
        self._webhooks.forget(account_id)

    async def _hold_or_resume(self, account_id: str, directory: AccountDirectory) -> None:
        if self._scheduler is not None:
            record = await directory.get(account_id)
            is_held = record is not None and record.is_held
            with suppress(SchedulerAwayError):  # the feeder does it as soon as the scheduler is back
                await (self._scheduler.pause if is_held else self._scheduler.resume)(account_id)

    async def _maintain(self) -> None:
        """Make coming months' partitions long before they are needed, and let old events go."""
        while True:
            try:
                await ensure_partitions(self.database, self._clock.now())
                await forget_old(self.database, self._clock.now() - timedelta(days=self.settings.event_days))
            except Exception:  # the months ahead leave time for many more tries
                log.warning("maintenance_failed", exc_info=True)
            await asyncio.sleep(MAINTENANCE_SECONDS)

"""The life of a gateway: its parts are built, started and stopped here, each in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from msgcore.api.app import create_monitoring_api
from msgcore.api.secured import SecuredAnswers
from msgcore.api.whole_bodies import WholeBodies
from msgcore.app.adapters import Adapters
from msgcore.app.changes import Changes
from msgcore.app.dispatching import Dispatching
from msgcore.app.maintenance import Maintenance
from msgcore.app.receiving import Receiving, build_collecting, build_reader, build_receiver, build_sweeper
from msgcore.app.scheduling import Scheduling
from msgcore.app.shared import Shared
from msgcore.app.web import AsgiApp, build_services, build_web
from msgcore.config import Settings
from msgcore.core.clock import Clock, SystemClock
from msgcore.inbound.bus import EventBus
from msgcore.inbound.receiver import Receiver
from msgcore.security.keys import open_keyring
from msgcore.security.secrets import load_secrets
from msgcore.security.secrets_file import prepare_data_dir
from msgcore.services.event_streams import EventStreamService
from msgcore.services.health import HealthService, Life, check_encryption_key
from msgcore.services.monitoring import Monitoring
from msgcore.store.database import Database
from msgcore.store.lock import serving_alone
from msgcore.store.migrate import require_current, upgrade
from msgcore.store.partitions import ensure_partitions

LOCK_SECONDS = 5.0
"""How often it is checked that no other process dispatches; a lock outlives anything but its connection."""

FAREWELL_SECONDS = 2.0
"""For telling those who follow events that the process stops; the HTTP server cuts them off without a word."""


class Gateway:
    """A running MsgCore: the API, the dispatch core, or both, over one database."""

    def __init__(
        self,
        shared: Shared,
        *,
        life: Life,
        scheduling: Scheduling,
        receiving: Receiving,
        dispatching: Dispatching | None,
        event_streams: EventStreamService | None,
        health: HealthService,
        monitoring: Monitoring,
        asgi: AsgiApp | None,
        resources: AsyncExitStack,
    ) -> None:
        """Use `open`."""
        self.settings = shared.settings
        self.database = shared.database
        self.asgi = asgi
        self.life = life
        self._scheduling = scheduling
        self._receiving = receiving
        self._dispatching = dispatching
        self._event_streams = event_streams
        self._health = health
        self._monitoring = monitoring
        self._resources = resources
        self._maintenance = Maintenance(shared.database, shared.clock, shared.settings)

    @classmethod
    async def open(
        cls, settings: Settings, *, api: bool = True, worker: bool = True, clock: Clock | None = None
    ) -> Gateway:
        """Open the database and build every part; `clock` is the machine's unless one is given.

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
            if api:
                await resources.enter_async_context(serving_alone(database))
            await (upgrade if api and worker else require_current)(database)
            keyring = open_keyring(settings, secrets)
            await check_encryption_key(database, keyring)
            shared = Shared.build(settings, database, keyring, clock or SystemClock(), secrets.jwt_secret)
            await ensure_partitions(database, shared.clock.now())
            return await cls._build(shared, resources, secrets.jwt_secret, api=api, worker=worker)

    @classmethod
    async def _build(
        cls, shared: Shared, resources: AsyncExitStack, jwt_secret: str, *, api: bool, worker: bool
    ) -> Gateway:
        """Each part after those that it uses. What has to be closed is closed in the reverse order."""
        scheduling = await Scheduling.open(shared, resources, worker=worker)
        bus = EventBus(scheduling.redis)
        reader = build_reader(shared, bus)
        receiver = build_receiver(shared, reader) if api else None
        adapters = await Adapters.open(shared, resources, on_stored=reader.wake)
        dispatching, collecting, leads = None, None, _never
        if worker:
            dispatching = await Dispatching.open(
                shared, scheduling, adapters.by_platform, resources, follow=not api, on_told=bus.announce_soon
            )
            leads = dispatching.leads
            collecting = build_collecting(shared, scheduling, adapters, bus, reader, leads)
        life = Life()
        event_streams = _build_event_streams(shared, bus) if api else None
        monitoring = _build_monitoring(shared, scheduling, dispatching, leads, receiver, event_streams)
        health = HealthService(shared.database, shared.clock, monitoring, life)
        asgi = None
        if receiver is not None and event_streams is not None:
            connections = None if collecting is None else collecting.connections
            services = build_services(
                shared,
                scheduling,
                adapters,
                Changes(shared, scheduling, adapters.by_platform, connections),
                bus=bus,
                receiver=receiver,
                event_streams=event_streams,
                health=health,
                monitoring=monitoring,
                jwt_secret=jwt_secret,
            )
            asgi = build_web(shared, services, resources, redis=scheduling.redis)
        return cls(
            shared,
            life=life,
            scheduling=scheduling,
            receiving=Receiving(
                bus=bus,
                reader=reader,
                sweeper=build_sweeper(shared, leads),
                receiver=receiver,
                collecting=collecting,
            ),
            dispatching=dispatching,
            event_streams=event_streams,
            health=health,
            monitoring=monitoring,
            asgi=asgi,
            resources=resources.pop_all(),
        )

    async def start(self) -> None:
        """Begin to dispatch. The API answers as soon as a server runs `asgi`."""
        # What sends begins before what makes something to be sent, and only then is this process called ready.
        if self._dispatching is not None:
            await self._dispatching.start()
        self._receiving.start()
        self._maintenance.start()
        self.life.phase = "ready"

    async def watch(self) -> None:
        """Runs for as long as all is well. Raises StartupError when another process took over dispatching."""
        while True:
            await asyncio.sleep(LOCK_SECONDS)
            if self._dispatching is not None:
                await self._dispatching.check_lock()

    async def begin_stop(self) -> None:
        """Say that it stops, to load balancers and to those who follow events; everything else goes on."""
        self.life.phase = "stopping"
        if self._event_streams is not None:
            await self._event_streams.end(FAREWELL_SECONDS)

    async def stop(self) -> None:
        """Commit what was accepted, finish what is being sent (bounded), close everything."""
        await self.begin_stop()
        await self._maintenance.stop()
        # The webhook feed commits through the accept log, which therefore has everything only after it.
        await self._receiving.stop_collecting()
        # What is committed is handed to the scheduler, so both ways into that end after it, ...
        await self._scheduling.accept_log.drain()
        await self._receiving.stop()
        if self._dispatching is not None:
            await self._dispatching.stop_feeding()
        await self._scheduling.stop()
        # ... and the processor when nothing more is brought to it. It records to the last moment, which needs the
        # scheduler and the database: those are closed at the end, the database after all that uses it.
        if self._dispatching is not None:
            await self._dispatching.stop()
        await self._resources.aclose()

    def monitoring_api(self) -> AsgiApp:
        """Metrics and health alone, for a port of their own."""
        settings = self.settings
        api = create_monitoring_api(self._health, self._monitoring, settings)
        return WholeBodies(SecuredAnswers(api, settings), seconds=settings.body_seconds)

    def before_close(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call it when nothing is sent any more and before what was opened is closed."""
        self._resources.push_async_callback(callback)


def _build_event_streams(shared: Shared, bus: EventBus) -> EventStreamService:
    return EventStreamService(
        database=shared.database,
        bus=bus,
        links=shared.links,
        # Those who stay for long leave half of all connections to requests.
        most=shared.settings.max_connections // 2,
        most_of_project=shared.settings.project_streams,
    )


def _build_monitoring(
    shared: Shared,
    scheduling: Scheduling,
    dispatching: Dispatching | None,
    leads: Callable[[], bool],
    receiver: Receiver | None,
    event_streams: EventStreamService | None,
) -> Monitoring:
    return Monitoring(
        database=shared.database,
        clock=shared.clock,
        metrics=shared.metrics,
        dispatching=lambda: "off" if dispatching is None else dispatching.state,
        leading=leads,
        breakers=scheduling.breakers,
        ping_redis=None if scheduling.redis is None else scheduling.ping_redis,
        spool_bytes=lambda: 0 if receiver is None else receiver.spool_bytes,
        streams=lambda: {} if event_streams is None else event_streams.open,
    )


def _never() -> bool:
    """Whether a process leads that dispatches nothing."""
    return False

"""The API: all services, and the ASGI application around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from msgcore.api.app import create_api
from msgcore.api.body import LARGE
from msgcore.api.client_address import behind_trusted_proxies
from msgcore.api.fast_receive import FastReceive
from msgcore.api.fast_send import FastSend
from msgcore.api.metrics import CountedRequests
from msgcore.api.rate_limit import RateGate
from msgcore.api.secured import SecuredAnswers
from msgcore.api.whole_bodies import WholeBodies
from msgcore.app.adapters import Adapters
from msgcore.app.changes import Changes
from msgcore.app.scheduling import Scheduling
from msgcore.app.shared import Shared
from msgcore.dispatch.redis import RedisConnection
from msgcore.inbound.body_room import FREE
from msgcore.inbound.bus import EventBus
from msgcore.inbound.receiver import Receiver
from msgcore.services.actions import ActionService
from msgcore.services.addressing import AddressBook
from msgcore.services.container import Services
from msgcore.services.dead_letters import DeadLetterService
from msgcore.services.event_streams import EventStreamService
from msgcore.services.health import HealthService
from msgcore.services.jobs import JobService
from msgcore.services.monitoring import Monitoring
from msgcore.services.request_limits import RequestLimits
from msgcore.services.request_usage import RequestUsage
from msgcore.services.schedules import ScheduleService
from msgcore.services.send import SendService
from msgcore.services.shared_spending import SharedSpending
from msgcore.store.ledger.quota import QueueQuota

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application: scope, receive and send."""


def build_services(
    shared: Shared,
    scheduling: Scheduling,
    adapters: Adapters,
    changes: Changes,
    *,
    bus: EventBus,
    receiver: Receiver,
    event_streams: EventStreamService,
    health: HealthService,
    monitoring: Monitoring,
    jwt_secret: str,
) -> Services:
    """What the API calls; `jwt_secret` signs logins."""
    database, registry, clock = shared.database, shared.registry, shared.clock
    sending = SendService(
        accounts=shared.accounts,
        registry=registry,
        accept_log=scheduling.accept_log,
        quota=QueueQuota(database, clock, shared.settings.queue_quota),
        messages=shared.messages,
        addresses=AddressBook(database, registry),
        long_texts=adapters.services.long_texts,
        clock=clock,
    )
    dead_letters = DeadLetterService(database=database, scheduler=scheduling.scheduler, registry=registry, clock=clock)
    return Services.build(
        database=database,
        keyring=shared.keyring,
        registry=registry,
        settings=shared.settings,
        clock=clock,
        jwt_secret=jwt_secret,
        on_platform_change=changes.account_changed,
        on_webhook_change=changes.webhook_changed,
        on_opt_out=shared.opt_outs.noted,
        adapters=adapters.by_platform,
        accept_log=scheduling.accept_log,
        health=health,
        monitoring=monitoring,
        sending=sending,
        actions=ActionService(
            database=database, accounts=shared.accounts, registry=registry, sending=sending, clock=clock
        ),
        jobs=JobService(database=database, dead_letters=dead_letters, clock=clock),
        schedules=ScheduleService(
            database=database, scheduler=scheduling.scheduler, registry=registry, clock=clock, on_told=bus.announce
        ),
        dead_letters=dead_letters,
        receiver=receiver,
        event_streams=event_streams,
        blobs=shared.blobs,
        links=shared.links,
        http=adapters.services.http,
    )


def build_limits(shared: Shared, redis: RedisConnection | None, resources: AsyncExitStack) -> RequestLimits:
    """How often the API may be asked, here or, with Redis, of all processes together."""
    settings, clock, note = shared.settings, shared.clock, None
    if redis is not None:
        spending = SharedSpending(redis, clock, shards=settings.redis_shards)
        resources.push_async_callback(spending.close)
        note = spending.note
    return RequestLimits(settings, clock, on_refused=shared.metrics.refused, note=note)


def build_web(
    shared: Shared, services: Services, resources: AsyncExitStack, *, redis: RedisConnection | None
) -> AsgiApp:
    """The application that an HTTP server runs."""
    services.authenticator.start()
    resources.push_async_callback(services.authenticator.close)
    usage = RequestUsage(shared.database, shared.clock)
    resources.push_async_callback(usage.close)
    largest = shared.settings.max_body_bytes
    limits = build_limits(shared, redis, resources)
    api, gate = create_api(services, shared.settings, limits), RateGate(limits)
    fast_send = FastSend(api, services.authenticator, services.sending, gate, largest=min(largest, LARGE))
    fast_receive = FastReceive(fast_send, services.receiver, gate, largest=min(largest, FREE))
    secured = SecuredAnswers(fast_receive, shared.settings)
    answering = CountedRequests(WholeBodies(secured, seconds=shared.settings.body_seconds), shared.metrics, usage)
    return behind_trusted_proxies(answering, shared.settings)

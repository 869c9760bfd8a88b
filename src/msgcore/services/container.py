"""All services of a process, built from its parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from msgcore.config import Settings
from msgcore.core.clock import Clock
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.egress import EgressGuard
from msgcore.security.keyring import Keyring
from msgcore.security.passwords import Passwords
from msgcore.security.tokens import Tokens
from msgcore.services.accounts import AccountService
from msgcore.services.actions import ActionService
from msgcore.services.api_keys import ApiKeyService
from msgcore.services.attachments import AttachmentService
from msgcore.services.audit import AuditService
from msgcore.services.authenticator import Authenticator
from msgcore.services.batches import BatchService
from msgcore.services.chats import ChatService
from msgcore.services.event_streams import EventStreamService
from msgcore.services.health import HealthService
from msgcore.services.identities import IdentityService
from msgcore.services.invites import InviteService
from msgcore.services.members import MemberService
from msgcore.services.monitoring import Monitoring
from msgcore.services.oidc_issuer import OidcIssuer
from msgcore.services.oidc_users import OidcUsers
from msgcore.services.opt_outs import OptOutService
from msgcore.services.pausing import PauseService
from msgcore.services.platform_logs import PlatformLogService
from msgcore.services.platforms import PlatformService
from msgcore.services.previews import PreviewService
from msgcore.services.projects import ProjectService
from msgcore.services.received import ReceivedService
from msgcore.services.sessions import SessionService
from msgcore.services.sign_in_guard import Rule, SignInGuard
from msgcore.services.usage import UsageService
from msgcore.services.webhook_deliveries import WebhookDeliveryService
from msgcore.services.webhooks import WebhookService
from msgcore.store.database import Database

if TYPE_CHECKING:
    from msgcore.blobs.store import BlobStore
    from msgcore.inbound.receiver import Receiver
    from msgcore.outbound.transport import Transport
    from msgcore.platforms.base import PlatformAdapter
    from msgcore.security.links import AttachmentLinks
    from msgcore.services.dead_letters import DeadLetterService
    from msgcore.services.jobs import JobService
    from msgcore.services.schedules import ScheduleService
    from msgcore.services.send import SendService
    from msgcore.store.ledger.accept import AcceptLog


@dataclass(frozen=True, slots=True)
class Services:
    """What the API (and later MCP and the dashboard) calls; each field is injected by its name."""

    authenticator: Authenticator
    accounts: AccountService
    sessions: SessionService
    members: MemberService
    invites: InviteService
    projects: ProjectService
    api_keys: ApiKeyService
    platforms: PlatformService
    pausing: PauseService
    platform_logs: PlatformLogService
    webhooks: WebhookService
    webhook_deliveries: WebhookDeliveryService
    opt_outs: OptOutService
    identities: IdentityService
    health: HealthService
    monitoring: Monitoring
    sending: SendService
    actions: ActionService
    batches: BatchService
    previews: PreviewService
    jobs: JobService
    schedules: ScheduleService
    dead_letters: DeadLetterService
    receiver: Receiver
    event_streams: EventStreamService
    received: ReceivedService
    attachments: AttachmentService
    chats: ChatService
    audit: AuditService
    usage: UsageService

    @classmethod
    def build(
        cls,
        *,
        database: Database,
        keyring: Keyring,
        registry: PlatformRegistry,
        settings: Settings,
        clock: Clock,
        jwt_secret: str,
        on_platform_change: Callable[[str], Awaitable[None]],
        on_webhook_change: Callable[[str], Awaitable[None]],
        adapters: Mapping[str, PlatformAdapter],
        on_opt_out: Callable[[str], None],
        accept_log: AcceptLog,
        health: HealthService,
        monitoring: Monitoring,
        sending: SendService,
        actions: ActionService,
        jobs: JobService,
        schedules: ScheduleService,
        dead_letters: DeadLetterService,
        receiver: Receiver,
        event_streams: EventStreamService,
        blobs: BlobStore,
        links: AttachmentLinks,
        http: Transport,
        passwords: Passwords | None = None,
    ) -> Services:
        """Build the services, around those of dispatch.

        `on_platform_change` is called with a platform's id after it was made, changed or deleted, `on_opt_out` when
        somebody opted out on it, and `on_webhook_change` with a webhook's.
        """
        tokens = Tokens(jwt_secret, clock)
        authenticator = Authenticator(database, tokens, clock, _oidc_users(database, settings, clock, http))
        passwords = passwords or Passwords()
        window = timedelta(seconds=settings.rate_limit_ttl)
        guard = SignInGuard(database, clock, Rule(free=settings.rate_limit_max, first=window, memory=window))
        accounts = AccountService(database=database, passwords=passwords, tokens=tokens, guard=guard, clock=clock)
        members = MemberService(database=database, clock=clock)
        return cls(
            authenticator=authenticator,
            accounts=accounts,
            sessions=SessionService(
                database=database, accounts=accounts, authenticator=authenticator, secret=jwt_secret, clock=clock
            ),
            members=members,
            invites=InviteService(
                database=database,
                accounts=accounts,
                members=members,
                passwords=passwords,
                guard=guard,
                clock=clock,
                base_url=settings.frontend_url or settings.api_url,
            ),
            projects=ProjectService(
                database=database,
                authenticator=authenticator,
                clock=clock,
                on_platform_change=on_platform_change,
                creators=settings.project_creation,
            ),
            api_keys=ApiKeyService(database=database, authenticator=authenticator, clock=clock),
            platforms=PlatformService(
                database=database,
                registry=registry,
                adapters=adapters,
                keyring=keyring,
                clock=clock,
                api_url=settings.api_url,
                on_change=on_platform_change,
            ),
            pausing=PauseService(database=database, clock=clock, on_platform_change=on_platform_change),
            platform_logs=PlatformLogService(database),
            webhooks=WebhookService(
                database=database,
                keyring=keyring,
                egress=EgressGuard(settings.egress_allow),
                clock=clock,
                on_change=on_webhook_change,
            ),
            webhook_deliveries=WebhookDeliveryService(database=database, accept_log=accept_log, clock=clock),
            opt_outs=OptOutService(database=database, registry=registry, clock=clock, on_opt_out=on_opt_out),
            identities=IdentityService(database=database, registry=registry, clock=clock),
            health=health,
            monitoring=monitoring,
            sending=sending,
            actions=actions,
            previews=PreviewService(sending=sending, registry=registry),
            batches=BatchService(database=database, sending=sending, clock=clock),
            jobs=jobs,
            schedules=schedules,
            dead_letters=dead_letters,
            receiver=receiver,
            event_streams=event_streams,
            received=ReceivedService(database=database, authenticator=authenticator, links=links, clock=clock),
            attachments=AttachmentService(database=database, blobs=blobs, links=links, clock=clock),
            chats=ChatService(database=database, links=links, clock=clock),
            audit=AuditService(database),
            usage=UsageService(database=database, clock=clock),
        )


def _oidc_users(database: Database, settings: Settings, clock: Clock, http: Transport) -> OidcUsers | None:
    """Who finds people that sign in at the issuer of the settings."""
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    issuer = OidcIssuer(http, clock, settings.oidc_issuer, settings.oidc_algorithms)
    return OidcUsers(database, issuer, audience=settings.oidc_audience, clock=clock)

"""What all parts of a process share. Nothing of it runs by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgcore.blobs.store import BlobStore
from msgcore.config import Settings
from msgcore.core.clock import Clock
from msgcore.core.limits import RateLimits
from msgcore.dispatch.accounts import AccountDirectory
from msgcore.dispatch.messages import MessageCache
from msgcore.dispatch.opt_outs import OptOutDirectory
from msgcore.dispatch.webhook_accounts import WebhookDirectory
from msgcore.inbound.files import FilePolicy
from msgcore.observability.metrics import Metrics
from msgcore.platforms.event_webhook import EventWebhookAdapter
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.keyring import Keyring
from msgcore.security.links import AttachmentLinks
from msgcore.store.database import Database
from msgcore.store.ledger.work import WorkLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One of each for a process. `accounts` are configured platforms, and `webhooks` those that events go to."""

    settings: Settings
    database: Database
    keyring: Keyring
    clock: Clock
    blobs: BlobStore
    links: AttachmentLinks
    file_policy: FilePolicy
    registry: PlatformRegistry
    metrics: Metrics
    limits: Mapping[str, RateLimits]
    work: WorkLog
    messages: MessageCache
    accounts: AccountDirectory
    webhooks: WebhookDirectory
    opt_outs: OptOutDirectory

    @classmethod
    def build(cls, settings: Settings, database: Database, keyring: Keyring, clock: Clock, secret: str) -> Shared:
        """`secret` is what addresses of files are signed with a key of. Raises StartupError."""
        registry = PlatformRegistry()
        declarations = (*registry.declarations(), EventWebhookAdapter.declaration)
        work = WorkLog(database)
        return cls(
            settings=settings,
            database=database,
            keyring=keyring,
            clock=clock,
            blobs=BlobStore.open(settings),
            links=AttachmentLinks(
                secret, base_url=settings.api_url, seconds=settings.attachment_url_seconds, clock=clock
            ),
            file_policy=FilePolicy(
                settings.max_inbound_attachment_bytes, settings.attachment_types, settings.blocked_attachment_types
            ),
            registry=registry,
            metrics=Metrics(declaration.name for declaration in registry.declarations()),
            limits={declaration.name: declaration.limits for declaration in declarations},
            work=work,
            messages=MessageCache(work),
            accounts=AccountDirectory(database, keyring, api_url=settings.api_url),
            webhooks=WebhookDirectory(database, keyring),
            opt_outs=OptOutDirectory(database, registry.user_key),
        )

    def forget(self, account_id: str) -> None:
        """Read an account anew next time, whichever kind it is of."""
        self.accounts.forget(account_id)
        self.webhooks.forget(account_id)

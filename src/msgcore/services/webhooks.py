"""Customers' webhooks: where the events of a project are posted, and what signs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import FieldError, InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal
from msgcore.security.egress import EgressGuard
from msgcore.security.keyring import DecryptionError, Keyring
from msgcore.security.webhook_secrets import make_secret
from msgcore.services.platforms import MASK
from msgcore.services.webhook_rules import broken_rules
from msgcore.store import webhooks as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.webhook_deliveries import PURGED_AT_ONCE, forget_webhook, purge_webhook

MOST_WEBHOOKS = 100
"""Of one project; each event is looked up in all of them."""

Look: TypeAlias = Callable[[AsyncConnection, str, str], Awaitable[Any]]
"""Finds a webhook by its project and id."""


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """What a webhook is made from; without a secret, one is made."""

    name: str
    url: str
    events: list[str]
    secret: str | None = field(default=None, repr=False)
    is_ordered: bool = False


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook as it is shown. `secret` is masked, unless it was made or given just now.

    `previous_secret_until` is None once the secret before this one has ended.
    """

    row: Any
    previous_secret_until: datetime | None
    secret: str = field(default=MASK, repr=False)


@dataclass(frozen=True, slots=True)
class WebhookStats:
    """How many deliveries of a webhook there are of each status, counted up to a limit from the newest."""

    successful: int
    failed: int
    pending: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.successful + self.failed + self.pending


class WebhookService:
    """Makes, shows, changes and deletes webhooks."""

    def __init__(
        self,
        *,
        database: Database,
        keyring: Keyring,
        egress: EgressGuard,
        clock: Clock,
        on_change: Callable[[str], Awaitable[None]],
    ) -> None:
        """`on_change` is called with a webhook's id after it was changed or deleted."""
        self._database = database
        self._keyring = keyring
        self._egress = egress
        self._clock = clock
        self._on_change = on_change

    async def create(self, principal: Principal, project_id: str, new: NewWebhook) -> WebhookView:
        """Make a webhook; the view has its secret, this once.

        Raises InvalidInputError for a broken rule, and when the project has `MOST_WEBHOOKS` already.
        """
        self._check(url=new.url, events=new.events, secret=new.secret)
        webhook_id, now = new_id(), self._clock.now()
        secret = new.secret or make_secret()
        told = {"name": new.name, "url": new.url, "events": new.events, "is_ordered": new.is_ordered}
        row = {
            "id": webhook_id,
            "project_id": project_id,
            "secret_encrypted": self._seal(webhook_id, secret),
            "is_active": True,
            "created_at": now,
            "updated_at": now,
        }
        async with self._database.write() as connection:
            number = await store.lock_and_count(connection, project_id)
            if number is None:
                raise NotFoundError(f"Project '{project_id}' not found")
            if number >= MOST_WEBHOOKS:
                raise InvalidInputError(f"A project has at most {MOST_WEBHOOKS} webhooks: delete one that is not used")
            await store.insert_webhook(connection, row | told)
            await store.to_the_end(connection, project_id, webhook_id)
            await self._record(connection, principal, "webhook.created", webhook_id, project_id, after=_safe(told))
            made = await self._find(connection, project_id, webhook_id)
        return self._view(made, secret)

    async def list(self, project_id: str) -> list[WebhookView]:
        """The webhooks of a project, newest first."""
        async with self._database.read() as connection:
            rows = await store.list_webhooks(connection, project_id, limit=MOST_WEBHOOKS)
        return [self._view(row) for row in rows]

    async def get(self, project_id: str, webhook_id: str) -> tuple[WebhookView, WebhookStats]:
        """One webhook, and how its deliveries went. Raises NotFoundError."""
        async with self._database.read() as connection:
            row = await self._find(connection, project_id, webhook_id)
            counts = await store.count_deliveries(connection, row.id)
        stats = WebhookStats(counts.get("success", 0), counts.get("failed", 0), counts.get("pending", 0))
        return self._view(row), stats

    async def update(
        self, principal: Principal, project_id: str, webhook_id: str, changes: dict[str, Any]
    ) -> WebhookView:
        """Change columns; switching it on also forgets that it failed, and why it was switched off.

        It then gets what happens from now on. Raises NotFoundError and InvalidInputError.
        """
        self._check(url=changes.get("url"), events=changes.get("events"))
        values = changes | {"updated_at": self._clock.now()}
        if changes.get("is_active"):
            values |= {"failing_since": None, "disabled_reason": None}
        async with self._database.write() as connection:
            row = await self._find(connection, project_id, webhook_id, store.lock_webhook)
            changed = await store.update_webhook(connection, row.id, values)
            if changed.is_active and not row.is_active:
                await store.to_the_end(connection, project_id, row.id)
            before = {name: getattr(row, name) for name in changes}
            await self._record(
                connection, principal, "webhook.updated", row.id, project_id, before=_safe(before), after=_safe(changes)
            )
        await self._on_change(row.id)
        return self._view(changed)

    async def rotate_secret(
        self, principal: Principal, project_id: str, webhook_id: str, *, secret: str | None, overlap: timedelta
    ) -> WebhookView:
        """Give it a new secret; the view has it, this once. The one before signs as well until `overlap` is over.

        One that was rotated away earlier ends now. Raises NotFoundError and InvalidInputError.
        """
        self._check(secret=secret)
        now = self._clock.now()
        async with self._database.write() as connection:
            row = await self._find(connection, project_id, webhook_id, store.lock_webhook)
            present = self._open(row)
            if present is not None and present == secret:
                raise InvalidInputError.of([FieldError("/secret", "secret must differ from the one that it replaces")])
            until = now + overlap if overlap and present is not None else None
            new_secret = secret or make_secret()
            values = {
                "secret_encrypted": self._seal(row.id, new_secret),
                "previous_secret_encrypted": None if until is None else row.secret_encrypted,
                "previous_secret_until": until,
                "updated_at": now,
            }
            changed = await store.update_webhook(connection, row.id, values)
            told = {"previous_secret_until": until}
            await self._record(connection, principal, "webhook.secret_rotated", row.id, project_id, after=told)
        await self._on_change(row.id)
        return self._view(changed, new_secret)

    async def delete(self, principal: Principal, project_id: str, webhook_id: str) -> str:
        """Remove a webhook with its deliveries; returns its id. Raises NotFoundError."""
        async with self._database.read() as connection:
            row = await self._find(connection, project_id, webhook_id)
        while await purge_webhook(self._database, row.id) == PURGED_AT_ONCE:
            continue  # most of it a few rows at a time, so that nobody waits for long
        async with self._database.write() as connection:
            row = await self._find(connection, project_id, webhook_id, store.lock_webhook)
            await forget_webhook(connection, row.id)
            await store.delete_webhook(connection, row.id)
            told = _safe({"name": row.name, "url": row.url})
            await self._record(connection, principal, "webhook.deleted", row.id, project_id, before=told)
        await self._on_change(row.id)
        return row.id

    def _check(self, *, url: str | None = None, events: list[str] | None = None, secret: str | None = None) -> None:
        errors = broken_rules(self._egress, url=url, events=events, secret=secret)
        if errors:
            raise InvalidInputError.of(errors)

    def _view(self, row: Any, secret: str = MASK) -> WebhookView:
        until = row.previous_secret_until
        return WebhookView(row, until if until is not None and until > self._clock.now() else None, secret)

    async def _find(
        self, connection: AsyncConnection, project_id: str, webhook_id: str, look: Look = store.find_webhook
    ) -> Any:
        canonical = canonical_id(webhook_id)
        row = None if canonical is None else await look(connection, project_id, canonical)
        if row is None:
            raise NotFoundError(f"Webhook with id '{webhook_id[:64]}' not found")
        return row

    async def _record(
        self,
        connection: AsyncConnection,
        principal: Principal,
        action: str,
        webhook_id: str,
        project_id: str,
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        await record_audit(
            connection,
            principal,
            action,
            webhook_id,
            project_id=project_id,
            now=self._clock.now(),
            before=before,
            after=after,
        )

    # --- secrets

    def _seal(self, webhook_id: str, secret: str) -> str:
        return self._keyring.encrypt(secret.encode(), context=webhook_id)

    def _open(self, row: Any) -> str | None:
        """The present secret, or None where it cannot be read any more, which a new one mends."""
        try:
            return self._keyring.decrypt(row.secret_encrypted, context=row.id).decode()
        except DecryptionError:
            return None


def _safe(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit log keeps: of an address no path and no query, where receivers like to put tokens."""
    kept, url = dict(told), told.get("url")
    if isinstance(url, str):
        parts = urlsplit(url)
        kept["url"] = f"{parts.scheme}://{parts.netloc}"
    return kept

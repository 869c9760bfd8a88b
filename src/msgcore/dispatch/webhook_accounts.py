"""Customers' webhooks as dispatch needs them. Apart from the accounts: nobody can send to one by its id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from msgcore.core.events import EVENT_WEBHOOK
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.platforms.base import Account
from msgcore.security.keyring import DecryptionError
from msgcore.store.tables import webhooks


@dataclass(frozen=True, slots=True)
class WebhookRecord(AccountRecord):
    """One webhook: where it is, and what signs until when."""

    url: str
    previous_secret_encrypted: str | None
    previous_secret_until: datetime | None


class WebhookDirectory(AccountDirectory):
    """Looks webhooks up by id, as accounts are. A pause of their project does not hold them: they tell of it."""

    def platform_of(self, account_id: str) -> str | None:
        """That of all of them, for one that was read of late."""
        return EVENT_WEBHOOK if self.cached(account_id) is not None else None

    def open(self, record: AccountRecord) -> Account:
        """With its secrets in the clear, each with the moment until when it is valid; none that cannot be read."""
        if not isinstance(record, WebhookRecord):
            raise TypeError("a webhook's record comes from its own directory")
        stored: list[tuple[str, datetime | None]] = [(record.credentials_encrypted, None)]
        if record.previous_secret_encrypted is not None:
            stored.append((record.previous_secret_encrypted, record.previous_secret_until))
        secrets: list[tuple[str, datetime | None]] = []
        for encrypted, until in stored:
            try:
                secrets.append((self._keyring.decrypt(encrypted, context=record.id).decode(), until))
            except DecryptionError:
                continue  # the adapter tells the user, whose deliveries wait for another secret meanwhile
        return Account(
            id=record.id,
            project_id=record.project_id,
            platform=record.platform,
            credentials={"url": record.url, "secrets": secrets},
            version=record.updated_at.isoformat(),
        )

    async def _load(self, account_id: str) -> AccountRecord | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(webhooks).where(webhooks.c.id == account_id))).one_or_none()
        if row is None:
            return None
        return WebhookRecord(
            id=row.id,
            project_id=row.project_id,
            platform=EVENT_WEBHOOK,
            name=row.name,
            is_active=row.is_active,
            paused_reason=None,
            project_paused=False,
            credentials_encrypted=row.secret_encrypted,
            updated_at=row.updated_at,
            webhook_token="",  # nobody posts to us for it
            url=row.url,
            previous_secret_encrypted=row.previous_secret_encrypted,
            previous_secret_until=row.previous_secret_until,
        )

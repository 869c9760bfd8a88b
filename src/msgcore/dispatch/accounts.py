"""The accounts (configured platforms) as dispatch needs them: decrypted, cached, by id."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from cachetools import LRUCache, TTLCache
from sqlalchemy import select

from msgcore.platforms.base import Account
from msgcore.platforms.receiving import webhook_url
from msgcore.security.keyring import Keyring
from msgcore.store.database import Database
from msgcore.store.tables import project_platforms
from msgcore.store.tables.platforms import IS_OF_PAUSED_PROJECT

KEPT = 10_000
CACHED_SECONDS = 5.0
"""How long another process may still use an account as it was before a change."""


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """One configured platform: whose it is, and whether it may send."""

    id: str
    project_id: str
    platform: str
    name: str
    is_active: bool
    paused_reason: str | None
    project_paused: bool
    credentials_encrypted: str
    updated_at: datetime
    webhook_token: str = field(repr=False)

    @classmethod
    def of(cls, row: Any) -> AccountRecord:
        """From a row of `project_platforms` that says as `project_paused` whether its project is paused."""
        return cls(
            id=row.id,
            project_id=row.project_id,
            platform=row.platform,
            name=row.name,
            is_active=row.is_active,
            paused_reason=None if row.paused_at is None else row.paused_reason or "paused",
            project_paused=bool(row.project_paused),
            credentials_encrypted=row.credentials_encrypted,
            updated_at=row.updated_at,
            webhook_token=row.webhook_token,
        )

    @property
    def is_held(self) -> bool:
        """Whether its deliveries must wait."""
        return not self.is_active or self.paused_reason is not None or self.project_paused


class AccountDirectory:
    """Looks accounts up by id. What does not exist is remembered too. `api_url` is where their platforms reach us."""

    def __init__(self, database: Database, keyring: Keyring, *, api_url: str = "") -> None:
        self._database = database
        self._keyring = keyring
        self._api_url = api_url
        self._records = TTLCache[str, AccountRecord | None](KEPT, CACHED_SECONDS)
        self._platforms = LRUCache[str, str](KEPT)
        self._opened = LRUCache[str, tuple[datetime, Account]](KEPT)
        self._loading = asyncio.Lock()
        self._changes = 0

    def decrypt(self, record: AccountRecord) -> Account:
        """The account with its credentials in the clear, which are not kept. Raises DecryptionError."""
        plain = self._keyring.decrypt(record.credentials_encrypted, context=record.id)
        credentials: dict[str, Any] = msgspec.json.decode(plain)
        return Account(
            id=record.id,
            project_id=record.project_id,
            platform=record.platform,
            credentials=credentials,
            version=record.updated_at.isoformat(),
            webhook_url=webhook_url(self._api_url, record.platform, record.webhook_token),
        )

    def cached(self, account_id: str) -> AccountRecord | None:
        """The record if it is known just now; None says nothing about whether it exists."""
        return self._records.get(account_id)

    def platform_of(self, account_id: str) -> str | None:
        """The name of the account's platform, which never changes; None if it was not read of late."""
        return self._platforms.get(account_id)

    async def get(self, account_id: str) -> AccountRecord | None:
        """The record, or None if there is no such account (`account_id` in canonical form)."""
        try:
            return self._records[account_id]
        except KeyError:
            pass
        async with self._loading:
            if account_id in self._records:
                return self._records[account_id]
            before = self._changes
            record = await self._load(account_id)
            # What was read before a change must not be kept after it.
            if self._changes == before:
                self._records[account_id] = record
            return record

    def open(self, record: AccountRecord) -> Account:
        """The account with its credentials in the clear. Raises DecryptionError."""
        known = self._opened.get(record.id)
        if known is not None and known[0] == record.updated_at:
            return known[1]
        account = self.decrypt(record)
        self._opened[record.id] = (record.updated_at, account)
        return account

    def forget(self, account_id: str) -> None:
        """Read it anew next time."""
        self._changes += 1
        self._records.pop(account_id, None)
        self._opened.pop(account_id, None)

    async def _load(self, account_id: str) -> AccountRecord | None:
        project_paused = IS_OF_PAUSED_PROJECT.label("project_paused")
        query = select(project_platforms, project_paused).where(project_platforms.c.id == account_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        self._platforms[row.id] = row.platform
        return AccountRecord.of(row)

"""Accounts that were changed through this process's API are used as they are now."""

from __future__ import annotations

from collections.abc import Mapping

from msgcore.app.scheduling import Scheduling
from msgcore.app.shared import Shared
from msgcore.inbound.connections import ConnectionManager
from msgcore.platforms.base import PlatformAdapter


class Changes:
    """Tells every part that keeps something of an account."""

    def __init__(
        self,
        shared: Shared,
        scheduling: Scheduling,
        adapters: Mapping[str, PlatformAdapter],
        connections: ConnectionManager | None,
    ) -> None:
        self._accounts = shared.accounts
        self._webhooks = shared.webhooks
        self._scheduling = scheduling
        self._adapters = adapters
        self._connections = connections

    async def account_changed(self, account_id: str) -> None:
        """A platform was made, changed, switched or deleted."""
        self._accounts.forget(account_id)
        for adapter in self._adapters.values():
            await adapter.forget(account_id)
        if self._connections is not None:
            self._connections.hurry()
        await self._scheduling.hold_or_resume(account_id, self._accounts)

    async def webhook_changed(self, webhook_id: str) -> None:
        """A webhook was changed, switched or deleted."""
        self._webhooks.forget(webhook_id)
        await self._scheduling.hold_or_resume(webhook_id, self._webhooks)

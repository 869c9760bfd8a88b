"""Letting go of what is kept for a time only, a few rows a transaction."""

from __future__ import annotations

from datetime import datetime

from msgcore.store import events, inbound, webhook_deliveries
from msgcore.store.database import Database


async def forget_old(database: Database, before: datetime) -> None:
    """Delete events from before a moment, what was posted of them, and what platforms sent."""
    for purge in (events.purge, inbound.purge_seen, inbound.purge_set_aside, webhook_deliveries.purge_deliveries):
        while await purge(database, before):
            continue

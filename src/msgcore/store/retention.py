"""Letting go of what is kept for a time only, a few rows a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from msgcore.store import audit, events, inbound, key_usage, platform_logs, webhook_deliveries
from msgcore.store.database import Database


@dataclass(frozen=True, slots=True)
class Kept:
    """From which moment on what is kept; `events` is also for what was posted of them, what platforms sent, logs."""

    events: datetime
    audit: datetime
    usage: datetime


async def forget_old(database: Database, kept: Kept) -> None:
    """Delete what is older."""
    of_events = (
        events.purge,
        inbound.purge_seen,
        inbound.purge_set_aside,
        webhook_deliveries.purge_deliveries,
        platform_logs.purge,
    )
    purges = [(purge, kept.events) for purge in of_events]
    for purge, before in (*purges, (audit.purge, kept.audit), (key_usage.purge, kept.usage)):
        while await purge(database, before):
            continue

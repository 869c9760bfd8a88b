"""How the ledger is doing, in numbers over all tenants, for metrics and health. Cheap at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.deliveries import DeliveryState
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.store.database import Database
from msgcore.store.tables import deliveries, delivery_counts, inbound_requests, project_platforms
from msgcore.store.tables.base import UtcDateTime
from msgcore.store.tables.inbound import IS_WAITING as IS_UNREAD
from msgcore.store.tables.messages import IS_OPEN, IS_SCHEDULED
from msgcore.store.tables.platforms import IS_HELD, IS_OF_PAUSED_PROJECT

ENOUGH = 1000
"""The oldest is looked for among so many that wait; ids come in the order in which deliveries were accepted."""

FARTHEST = 100_000
"""How many older deliveries that must wait (held, or scheduled for later) are passed over on the way to them."""

WAITING = (DeliveryState.QUEUED, DeliveryState.RETRYING)


@dataclass(frozen=True, slots=True)
class LedgerVitals:
    """Deliveries and accounts by platform and state; accounts are `active`, `paused` or `off`.

    `oldest_accepted_at`: of what was neither sent nor given up, when the oldest was first due.
    `oldest_due_at`: when the one that is due longest became due. Both leave held accounts out, and customers'
    webhooks, which may be away for days; they are None where nothing waits. `oldest_unread_at`: when the oldest
    request of a platform came that nobody has read yet.
    """

    deliveries: dict[tuple[str, str], int]
    accounts: dict[tuple[str, str], int]
    oldest_accepted_at: datetime | None
    oldest_due_at: datetime | None
    oldest_unread_at: datetime | None = None


# By its number and not by the least time, which would read all that wait.
_OLDEST_UNREAD = select(inbound_requests.c.received_at).where(IS_UNREAD).order_by(inbound_requests.c.number).limit(1)


async def read_vitals(database: Database, now: datetime) -> LedgerVitals:
    """The ledger's numbers; raises what the database raises."""
    async with database.read() as connection:
        counts = await _deliveries(connection)
        accounts = await _accounts(connection)
        waits = any(number for (_, state), number in counts.items() if state in WAITING)
        accepted_at, due_at = await _oldest(connection) if waits else (None, None)
        scheduled_at = await _oldest_scheduled(connection, now)
        unread_at: datetime | None = await connection.scalar(_OLDEST_UNREAD)
    due = [moment for moment in (due_at, scheduled_at) if moment is not None and moment <= now]
    return LedgerVitals(counts, accounts, accepted_at, min(due, default=None), unread_at)


async def platforms_of(database: Database, account_ids: Sequence[str]) -> dict[str, str]:
    """The platform names of accounts, by id; those that do not exist are left out."""
    query = select(project_platforms.c.id, project_platforms.c.platform)
    found: dict[str, str] = {}
    async with database.read() as connection:
        for start in range(0, len(account_ids), ENOUGH):
            page = project_platforms.c.id.in_(account_ids[start : start + ENOUGH])
            found.update({row.id: row.platform for row in await connection.execute(query.where(page))})
    return found


async def _deliveries(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    columns = delivery_counts.c.platform, delivery_counts.c.state
    rows = await connection.execute(select(*columns, func.sum(delivery_counts.c.count)).group_by(*columns))
    return {(platform, state): int(number) for platform, state, number in rows}


async def _accounts(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    account = project_platforms.c
    is_paused = or_(account.paused_at.is_not(None), IS_OF_PAUSED_PROJECT)
    state = case((account.is_active.is_(False), "off"), (is_paused, "paused"), else_="active")
    query = select(account.platform, state.label("state"), func.count()).group_by(account.platform, "state")
    return {(platform, name): number for platform, name, number in await connection.execute(query)}


_HELD = select(project_platforms.c.id).where(or_(IS_HELD, IS_OF_PAUSED_PROJECT))


async def _oldest(connection: AsyncConnection) -> tuple[datetime | None, datetime | None]:
    """The earliest first and present due time of the oldest that wait. Stops at `ENOUGH` of them."""
    row = deliveries.c
    open_ones = (
        select(row.platform_id, row.platform, row.state, row.first_due_at, row.due_at)
        .where(IS_OPEN)
        .order_by(row.id)
        .limit(FARTHEST)
        .subquery()
    )
    waiting = (
        select(open_ones.c.first_due_at, open_ones.c.due_at)
        .where(
            open_ones.c.state.in_(WAITING),
            open_ones.c.platform_id.not_in(_HELD),
            open_ones.c.platform != EVENT_WEBHOOK,
        )
        .limit(ENOUGH)
        .subquery()
    )
    query = select(func.min(waiting.c.first_due_at, type_=UtcDateTime), func.min(waiting.c.due_at, type_=UtcDateTime))
    first_due_at, due_at = (await connection.execute(query)).one()
    return first_due_at, due_at


async def _oldest_scheduled(connection: AsyncConnection, now: datetime) -> datetime | None:
    """The earliest time that was scheduled, has come, and is not of a held account."""
    row = deliveries.c
    due = select(row.platform_id, row.due_at).where(IS_SCHEDULED, row.due_at <= now).order_by(row.due_at)
    due_ones = due.limit(FARTHEST).subquery()
    query = select(due_ones.c.due_at).where(due_ones.c.platform_id.not_in(_HELD)).limit(1)
    found: datetime | None = await connection.scalar(query)
    return found

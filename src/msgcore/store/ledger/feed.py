"""Reading the work that is left, for a scheduler that does not know it yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, TextClause, case, delete, func, select

from msgcore.core.deliveries import TRIED_STATES, DeliveryState
from msgcore.core.events import EVENT_WEBHOOK, posting_tenant
from msgcore.store.database import Database
from msgcore.store.ledger.ending import expire_overdue
from msgcore.store.tables import deliveries, delivery_counts, idempotency_keys, project_platforms, webhooks
from msgcore.store.tables.events import IS_OFF
from msgcore.store.tables.messages import IS_OPEN, IS_RESCHEDULED, IS_SCHEDULED
from msgcore.store.tables.platforms import IS_HELD, IS_OF_PAUSED_PROJECT

PAGE = 1000
_DUE_STATES = frozenset({DeliveryState.QUEUED, DeliveryState.SENDING})
NIL = "00000000-0000-0000-0000-000000000000"


class OpenDelivery(msgspec.Struct, frozen=True):
    """A delivery that is not final, as far as a scheduler needs to know it.

    `is_due`: it need not wait, whatever the clocks of this process and of the one that accepted it say. `tenant` is
    that of tickets.
    """

    id: str
    platform_id: str
    platform: str
    lane: str | None
    rank: int
    due_at: datetime
    tried: bool
    is_due: bool = False
    tenant: str = ""

    @classmethod
    def of_project(cls, row: Any, due_at: datetime, *, is_due: bool = False) -> OpenDelivery:
        """A project's delivery, by its row, that nobody tried since it was put in, or put back."""
        return cls(
            id=row.id,
            platform_id=row.platform_id,
            platform=row.platform,
            lane=row.lane,
            rank=row.rank,
            due_at=due_at,
            tried=False,
            is_due=is_due,
            tenant=row.project_id,
        )


_POSTED_OF = select(webhooks.c.project_id).where(webhooks.c.id == deliveries.c.platform_id).scalar_subquery()
_COLUMNS = (
    deliveries.c.id,
    deliveries.c.project_id,
    case((deliveries.c.platform == EVENT_WEBHOOK, _POSTED_OF)).label("posted_of"),
    deliveries.c.platform_id,
    deliveries.c.platform,
    deliveries.c.lane,
    deliveries.c.rank,
    deliveries.c.due_at,
    deliveries.c.state,
)


class Feed:
    """Pages through deliveries that are not final, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def after(self, last_id: str, until: datetime) -> list[OpenDelivery]:
        """The next page after `last_id` (start with `NIL`), without what is scheduled after `until`.

        A delivery that was tried before comes however late it is due: it holds its lane.
        """
        is_near = (deliveries.c.due_at <= until) | (deliveries.c.state != DeliveryState.SCHEDULED)
        return await self._page(IS_OPEN, deliveries.c.id > last_id, is_near, order=(deliveries.c.id,))

    async def falling_due(self, since: datetime, last_id: str, until: datetime) -> list[OpenDelivery]:
        """The next page of scheduled deliveries due after (`since`, `last_id`) and up to `until`."""
        due_at, is_same = deliveries.c.due_at, deliveries.c.due_at == since
        return await self._page(
            IS_SCHEDULED,
            (due_at > since) | (is_same & (deliveries.c.id > last_id)),
            due_at <= until,
            order=(due_at, deliveries.c.id),
        )

    async def held_accounts(self) -> set[str]:
        """Accounts whose deliveries must wait: off, paused, or in a paused project; and webhooks that are off."""
        account = select(project_platforms.c.id)
        # Queries each with its small index; a condition with OR would scan the table.
        off = select(webhooks.c.id).where(IS_OFF)
        query = account.where(IS_HELD).union(account.where(IS_OF_PAUSED_PROJECT), off)
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def any_sending(self) -> bool:
        """Whether somebody may be working on a delivery just now."""
        number = select(func.sum(delivery_counts.c.count)).where(delivery_counts.c.state == DeliveryState.SENDING)
        async with self._database.read() as connection:
            return bool(await connection.scalar(number))

    async def expire_overdue(self, now: datetime) -> list[str]:
        """End some of the deliveries that wait although their `expiresAt` has passed; returns their ids."""
        return await expire_overdue(self._database, now)

    async def rescheduled_after(self, since: datetime, last_id: str) -> list[tuple[datetime, OpenDelivery]]:
        """The next page of deliveries that wait with a time given to them after (`since`, `last_id`), and when it was.

        Start with `NIL`; a page shorter than `PAGE` is the last.
        """
        when = deliveries.c.rescheduled_at
        is_later = (when > since) | ((when == since) & (deliveries.c.id > last_id))
        query = select(*_COLUMNS, when).where(IS_RESCHEDULED, is_later).order_by(when, deliveries.c.id).limit(PAGE)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [(row.rescheduled_at, _open_delivery(row)) for row in rows]

    async def drop_expired_keys(self, now: datetime) -> None:
        """Delete idempotency keys whose window is over."""
        async with self._database.write() as connection:
            await connection.execute(delete(idempotency_keys).where(idempotency_keys.c.expires_at < now))

    async def _page(
        self, *conditions: ColumnElement[bool] | TextClause, order: tuple[ColumnElement[Any], ...]
    ) -> list[OpenDelivery]:
        query = select(*_COLUMNS).where(*conditions).order_by(*order).limit(PAGE)
        async with self._database.read() as connection:
            rows: Sequence[Any] = (await connection.execute(query)).all()
        return [_open_delivery(row) for row in rows]


def _open_delivery(row: Any) -> OpenDelivery:
    return OpenDelivery(
        id=row.id,
        platform_id=row.platform_id,
        platform=row.platform,
        lane=row.lane,
        rank=row.rank,
        due_at=row.due_at,
        tried=row.state in TRIED_STATES,
        is_due=row.state in _DUE_STATES,
        tenant=row.project_id if row.posted_of is None else posting_tenant(row.posted_of),
    )

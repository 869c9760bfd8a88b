"""What the scheduler is told of a delivery that the ledger holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from msgcore.core.deliveries import Rank, Ticket
from msgcore.core.limits import UNLIMITED, RateLimits
from msgcore.store.ledger.feed import OpenDelivery

HORIZON = timedelta(hours=1)
"""How far ahead of its time a scheduled delivery is given to the scheduler."""

RANKS = tuple(Rank)
"""By number; calling the enum costs several times more."""


def ticket_of(delivery: OpenDelivery, limits: RateLimits, now: datetime) -> Ticket:
    """A delivery as a ticket; `limits` are its platform's."""
    return Ticket(
        delivery_id=delivery.id,
        account_id=delivery.platform_id,
        lane=delivery.lane,
        rank=RANKS[delivery.rank],
        delay=0.0 if delivery.is_due else max(0.0, (delivery.due_at - now).total_seconds()),
        limits=limits.of_lane(delivery.lane),
        keeps_place=delivery.tried,
        tenant=delivery.tenant,
    )


def tickets_of(page: Iterable[OpenDelivery], limits: Mapping[str, RateLimits], now: datetime) -> list[Ticket]:
    """A page of deliveries as tickets; `limits` by platform name."""
    return [ticket_of(delivery, limits.get(delivery.platform, UNLIMITED), now) for delivery in page]

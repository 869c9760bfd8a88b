"""What was posted to customers' webhooks, and posting it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock, to_iso
from msgcore.core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from msgcore.core.events import EventType
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal
from msgcore.inbound.event_documents import EventEntry
from msgcore.inbound.webhook_messages import Posting, compose, postings_of
from msgcore.store import events, webhook_feed
from msgcore.store import webhook_deliveries as store
from msgcore.store.audit import AuditEntry, write_audit
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog, NewMessage
from msgcore.store.webhook_deliveries import WebhookDeliveryFilter
from msgcore.store.webhooks import find_webhook

MOST_REPLAYED = 1000
"""Events that one request looks at."""

_PAGE = 200


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries, newest first, how many there are (counted up to a limit), and whether more follow."""

    rows: Sequence[Any]
    total: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many deliveries a replay made, up to which place of the log it came, and whether that is its end."""

    queued: int
    next: int
    done: bool


class WebhookDeliveryService:
    """Lists deliveries and makes new ones: a test, one once more, or a part of the event log once more."""

    def __init__(self, *, database: Database, accept_log: AcceptLog, clock: Clock) -> None:
        self._database = database
        self._accept_log = accept_log
        self._clock = clock

    async def list(
        self,
        project_id: str,
        webhook_id: str,
        *,
        event: str | None,
        status: str | None,
        before: str | None,
        limit: int,
        offset: int,
    ) -> DeliveryPage:
        """A page. Raises NotFoundError for a webhook that is not the project's, InvalidInputError for `before`."""
        if before is not None and (before := canonical_id(before)) is None:
            raise InvalidInputError.of([FieldError("/query/before", "before must be the id of a delivery")])
        async with self._database.read() as connection:
            webhook = await _find(connection, project_id, webhook_id)
            chosen = WebhookDeliveryFilter(webhook.id, event, status, before)
            rows = await store.list_deliveries(connection, chosen, limit=limit + 1, offset=offset)
            total = await store.count_deliveries(connection, chosen)
        return DeliveryPage(rows[:limit], total, has_more=len(rows) > limit)

    async def test(self, project_id: str, webhook_id: str) -> Any:
        """Post an event of a test, which no other webhook gets; its delivery.

        Raises NotFoundError, and ConflictError for a webhook that is switched off.
        """
        webhook, now = await self._active(project_id, webhook_id), self._clock.now()
        data = {"webhook_id": webhook.id, "name": webhook.name}
        document = EventEntry(
            id=0, event=EventType.WEBHOOK_TEST, timestamp=to_iso(now), project_id=project_id, data=data
        )
        return await self._post(webhook.id, compose(webhook, new_id(), EventType.WEBHOOK_TEST, document, now))

    async def redeliver(self, actor: Principal, project_id: str, webhook_id: str, delivery_id: str) -> Any:
        """Post once more what a delivery posted, as the same event; the new delivery. Raises as `test` does."""
        webhook = await self._active(project_id, webhook_id)
        known_id = canonical_id(delivery_id)
        async with self._database.read() as connection:
            row = None if known_id is None else await store.find_delivery(connection, webhook.id, known_id)
        if row is None:
            raise NotFoundError(f"Delivery with id '{delivery_id[:64]}' not found")
        now = self._clock.now()
        again = compose(webhook, row.event_id or row.id, row.event, row.payload, now)
        told = {"delivery_id": row.id}
        audit = AuditEntry(actor, "webhook.redelivered", webhook.id, project_id, now, after=told)
        return await self._post(webhook.id, again, audit)

    async def replay(
        self, actor: Principal, project_id: str, webhook_id: str, *, after: int, until: int | None
    ) -> Replayed:
        """Post the events after one place of the log up to another (its end) that the webhook wants.

        Looks at `MOST_REPLAYED` events at most: call again after `next` until it is done. Raises as `test`
        does, and InvalidInputError for places that are none.
        """
        webhook = await self._active(project_id, webhook_id)
        newest = (await events.bounds(self._database, project_id)).newest
        end = newest if until is None else until
        if end > newest or after > end:
            name = "until" if end > newest else "after"
            at_most = min(end, newest)
            raise InvalidInputError.of([FieldError(f"/{name}", f"{name} must be a place of the log up to {at_most}")])
        audit = AuditEntry(actor, "webhook.replayed", webhook.id, project_id, self._clock.now())
        queued, place = 0, after
        for _ in range(0, MOST_REPLAYED, _PAGE):
            page = _ReplayPage(webhook, place, end, self._clock, audit)
            queued += await self._accept_log.accept_read(page.read)
            place = page.last
            if place == end:
                break
        return Replayed(queued, place, done=place == end)

    async def _active(self, project_id: str, webhook_id: str) -> Any:
        async with self._database.read() as connection:
            webhook = await _find(connection, project_id, webhook_id)
        if not webhook.is_active:
            raise ConflictError("The webhook is switched off: set isActive to true first")
        return webhook

    async def _post(self, webhook_id: str, posting: Posting, audit: AuditEntry | None = None) -> Any:
        def read(connection: Connection) -> Sequence[NewMessage]:
            webhook_feed.add_deliveries(connection, [posting.row])
            if audit is not None:
                write_audit(connection, audit)
            return [posting.message]

        await self._accept_log.accept_read(read)
        async with self._database.read() as connection:
            row = await store.find_delivery(connection, webhook_id, posting.row["id"])
        if row is None:  # deleted since
            raise NotFoundError(f"Webhook with id '{webhook_id}' not found")
        return row


class _ReplayPage:
    """Some events once more; the transaction's function. `last` is how far it came, `audit` what it writes of that."""

    def __init__(self, webhook: Any, after: int, end: int, clock: Clock, audit: AuditEntry) -> None:
        self._webhook = webhook
        self._after = after
        self._end = end
        self._clock = clock
        self._audit = audit
        self.last = after

    def read(self, connection: Connection) -> Sequence[NewMessage]:
        found = events.next_events(connection, self._webhook.project_id, self._after, _PAGE)
        wanted = [event for event in found if event.sequence <= self._end]
        cut = len(wanted) == len(found) and events.is_full(found, _PAGE)
        self.last = wanted[-1].sequence if cut else self._end
        now = self._clock.now()
        made = [posting for event in wanted for posting in postings_of([self._webhook], event, now)]
        webhook_feed.add_deliveries(connection, [posting.row for posting in made])
        if made:
            write_audit(connection, self._audit, after=self._after, until=self.last, count=len(made))
        return [posting.message for posting in made]


async def _find(connection: AsyncConnection, project_id: str, webhook_id: str) -> Any:
    known_id = canonical_id(webhook_id)
    row = None if known_id is None else await find_webhook(connection, project_id, known_id)
    if row is None:
        raise NotFoundError(f"Webhook with id '{webhook_id[:64]}' not found")
    return row

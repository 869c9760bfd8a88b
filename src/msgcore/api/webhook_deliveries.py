"""What was posted to a project's webhooks, and posting it again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, QueryParameter

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Pagination, Timestamp
from msgcore.api.parameters import Offset, PageSize
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.events import EventType
from msgcore.core.scopes import ApiScope, Principal
from msgcore.services.webhook_deliveries import WebhookDeliveryService

OfEvent = Annotated[EventType | None, QueryParameter(description="Only of this event")]
OfStatus = Annotated[
    Literal["pending", "success", "failed"] | None, QueryParameter(description="Only those that went this way")
]
Before = Annotated[
    str | None, QueryParameter(max_length=64, description="Only those older than the delivery with this id")
]
Place = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class ReplayRequest(Wire):
    """Which part of the event log: after the event with one `id`, up to that with another (else to the newest)."""

    after: Place
    until: Place | None = None


class WebhookDeliveryAnswer(Answer):
    """One event for one webhook. `payload` is the body; `eventId` is what its `webhook-id` header says.

    The `data` of `payload`, which holds messages, and `responseBody`, which may repeat them, are null for keys without
    `messages:read`.

    `responseCode`, `responseBody` (its first 4,096 characters), `error` and `durationMs` are of the last attempt.
    """

    id: str
    event_id: str
    event: str
    status: str
    response_code: int | None
    response_body: str | None
    error: str | None
    attempts: int
    duration_ms: int | None
    next_attempt_at: Timestamp | None
    delivered_at: Timestamp | None
    created_at: Timestamp
    payload: Any


class WebhookDeliveriesAnswer(Answer):
    """A page, newest first. `pagination.total` stops counting at 10,000; `hasMore` is always right."""

    deliveries: list[WebhookDeliveryAnswer]
    pagination: Pagination


class ReplayAnswer(Answer):
    """How many deliveries were made, and up to which event it came: while `done` is false, ask again after `next`."""

    queued: int
    next: int
    done: bool


class WebhookDeliveriesController(Controller):
    """What was posted to webhooks."""

    path = "/api/v1/projects/{project:str}/webhooks/{webhook_id:str}"
    tags = ("Webhooks",)

    @get("/deliveries", opt=requires(ApiScope.WEBHOOKS_READ), summary="List the deliveries of a webhook")
    async def list_all(
        self,
        request: ApiRequest,
        project: FromPath[str],
        webhook_id: FromPath[str],
        webhook_deliveries: Injected[WebhookDeliveryService],
        event: OfEvent = None,
        status: OfStatus = None,
        before: Before = None,
        limit: PageSize = 50,
        offset: Offset = 0,
    ) -> WebhookDeliveriesAnswer:
        """Newest first. Of many, page with `before`: it costs the same on every page."""
        page = await webhook_deliveries.list(
            project, webhook_id, event=event, status=status, before=before, limit=limit, offset=offset
        )
        return WebhookDeliveriesAnswer(
            deliveries=[_answer(row, request.user) for row in page.rows],
            pagination=Pagination(total=page.total, limit=limit, offset=offset, has_more=page.has_more),
        )

    @post("/test", opt=requires(ApiScope.WEBHOOKS_WRITE), summary="Test a webhook")
    async def test(
        self,
        request: ApiRequest,
        project: FromPath[str],
        webhook_id: FromPath[str],
        webhook_deliveries: Injected[WebhookDeliveryService],
    ) -> WebhookDeliveryAnswer:
        """Posts a `webhook.test` event to this webhook alone, whatever it subscribed to."""
        return _answer(await webhook_deliveries.test(project, webhook_id), request.user)

    @post(
        "/deliveries/{delivery_id:str}/redeliver",
        opt=requires(ApiScope.WEBHOOKS_WRITE),
        summary="Post a delivery once more",
    )
    async def redeliver(
        self,
        request: ApiRequest,
        project: FromPath[str],
        webhook_id: FromPath[str],
        delivery_id: FromPath[str],
        webhook_deliveries: Injected[WebhookDeliveryService],
    ) -> WebhookDeliveryAnswer:
        """A new delivery of the same event, with the same body and `webhook-id`."""
        made = await webhook_deliveries.redeliver(request.user, project, webhook_id, delivery_id)
        return _answer(made, request.user)

    @post("/replay", opt=requires(ApiScope.WEBHOOKS_WRITE), summary="Post past events once more")
    async def replay(
        self,
        request: ApiRequest,
        project: FromPath[str],
        webhook_id: FromPath[str],
        data: JsonBody[ReplayRequest],
        webhook_deliveries: Injected[WebhookDeliveryService],
    ) -> ReplayAnswer:
        """Those of the log that the webhook subscribed to, in order. Looks at a thousand events at most."""
        made = await webhook_deliveries.replay(request.user, project, webhook_id, after=data.after, until=data.until)
        return ReplayAnswer(queued=made.queued, next=made.next, done=made.done)


def _answer(row: Any, reader: Principal) -> WebhookDeliveryAnswer:
    may_read = reader.reads_messages
    return WebhookDeliveryAnswer(
        id=row.id,
        event_id=row.event_id or row.id,
        event=row.event,
        status=row.status,
        response_code=row.response_code,
        response_body=row.response_body if may_read else None,
        error=row.error,
        attempts=row.attempts,
        duration_ms=row.duration_ms,
        next_attempt_at=row.next_attempt_at and to_iso(row.next_attempt_at),
        delivered_at=row.delivered_at and to_iso(row.delivered_at),
        created_at=to_iso(row.created_at),
        payload=row.payload if may_read else row.payload | {"data": None},
    )

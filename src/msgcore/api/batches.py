"""Batches: many personalised messages in one request."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, get, post
from litestar.params import FromPath, QueryParameter

from msgcore.api.access import ApiRequest, Injected, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.api.batch_body import BatchOperation, read_batch
from msgcore.api.departed import watching
from msgcore.api.messages import DeliverySummary, IdempotencyKey
from msgcore.api.parameters import Limit
from msgcore.api.rate_limit import RateGate
from msgcore.api.schedules import CancelAnswer, cancel_answer
from msgcore.core.clock import to_iso
from msgcore.core.deliveries import DeliveryState
from msgcore.core.scopes import ApiScope
from msgcore.services.batches import AcceptedBatch, Batch, BatchMessage, BatchService
from msgcore.services.jobs import compatible_status
from msgcore.services.schedules import ScheduleService


class BatchAnswer(Answer):
    """The whole batch is durable and queued; `jobIds` are those of its messages, in their order.

    `replayed`: an earlier request with the same Idempotency-Key made it, and nothing was sent again.
    """

    success: bool
    batch_id: str
    job_ids: list[str]
    messages: int
    deliveries: int
    status: str
    timestamp: Timestamp
    message: str
    replayed: bool


class BatchCounts(Answer):
    """How many deliveries are in each state; `standby` are fallbacks that may still be needed."""

    queued: int
    scheduled: int
    standby: int
    sending: int
    retrying: int
    sent: int
    delivered: int
    read: int
    failed: int
    cancelled: int
    expired: int


class BatchProgress(Answer):
    """Where a batch stands. `status` is active or completed, `progress` the percent that are final.

    `counts` are of deliveries; dead letters that were purged are in none of them.
    """

    batch_id: str
    status: str
    progress: int
    messages: int
    deliveries: int
    open: int
    counts: BatchCounts
    created_at: Timestamp


class BatchMessageAnswer(Answer):
    """One message of a batch; `messages/status/:jobId` tells more about it."""

    job_id: str
    tracking_id: str | None
    summary: DeliverySummary
    created_at: Timestamp


class BatchMessages(Answer):
    """In the order of the request; `next` is the `after` of the next page, null on the last one."""

    messages: list[BatchMessageAnswer]
    next: str | None


class BatchesController(Controller):
    """Many messages at once."""

    path = "/api/v1/projects/{project:str}/messages"
    tags = ("Batches",)

    @post(
        "/batch",
        opt=requires(ApiScope.MESSAGES_WRITE),
        summary="Send up to 10,000 messages at once",
        operation_class=BatchOperation,
    )
    async def send(
        self,
        request: ApiRequest,
        project: FromPath[str],
        batches: Injected[BatchService],
        rate_gate: Injected[RateGate],
        idempotency_key: IdempotencyKey = None,
    ) -> BatchAnswer:
        """Accept up to 10,000 messages, each like one of `messages/send`, with 10,000 targets in all.

        They are accepted in one transaction, or refused as a whole: then `errors` lists what is wrong with
        each (the first 100 errors; `detail` says how many more messages have some). Pointers start with
        `/messages/<number>`, counted from 0, whatever the form of the body: a JSON list,
        `{"messages": [...]}`, or NDJSON.
        """
        rate_gate.open_batch(request.scope, project)
        draft = await read_batch(request)
        async with watching(request) as is_gone:
            accepted = await batches.send(
                request.user, project, draft, idempotency_key=idempotency_key, is_gone=is_gone
            )
        if not accepted.replayed:
            rate_gate.count_batch(project, len(accepted.message_ids))
        return _batch_answer(accepted)

    @get("/batches/{batch_id:str}", opt=requires(ApiScope.MESSAGES_READ), summary="Progress of a batch")
    async def progress(
        self, project: FromPath[str], batch_id: FromPath[str], batches: Injected[BatchService]
    ) -> BatchProgress:
        """How many of its deliveries are in which state."""
        return _progress(await batches.get(project, batch_id))

    @get("/batches/{batch_id:str}/messages", opt=requires(ApiScope.MESSAGES_READ), summary="Messages of a batch")
    async def messages(
        self,
        project: FromPath[str],
        batch_id: FromPath[str],
        batches: Injected[BatchService],
        after: Annotated[UUID | None, QueryParameter(description="`next` of the page before")] = None,
        limit: Limit = 100,
    ) -> BatchMessages:
        """A page of a batch's messages in the order of the request, each with what became of it."""
        found = await batches.messages(project, batch_id, limit=limit, after=None if after is None else str(after))
        return BatchMessages(
            messages=[_message(message) for message in found], next=found[-1].row.id if len(found) == limit else None
        )

    @post(
        "/batches/{batch_id:str}/cancel",
        status_code=200,
        opt=requires(ApiScope.MESSAGES_WRITE),
        summary="Cancel a batch",
    )
    async def cancel(
        self, project: FromPath[str], batch_id: FromPath[str], schedules: Injected[ScheduleService]
    ) -> CancelAnswer:
        """Cancel what waits; for what was sent, or is being sent just now, it is too late."""
        return cancel_answer(await schedules.cancel_batch(project, batch_id))


def _batch_answer(accepted: AcceptedBatch) -> BatchAnswer:
    return BatchAnswer(
        success=True,
        batch_id=accepted.id,
        job_ids=accepted.message_ids,
        messages=len(accepted.message_ids),
        deliveries=accepted.deliveries,
        status="queued",
        timestamp=to_iso(accepted.created_at),
        message="Batch queued for delivery",
        replayed=accepted.replayed,
    )


def _progress(batch: Batch) -> BatchProgress:
    return BatchProgress(
        batch_id=batch.row.id,
        status="active" if batch.open else "completed",
        progress=batch.progress,
        messages=batch.row.messages,
        deliveries=batch.row.deliveries,
        open=batch.open,
        counts=BatchCounts(**{state.value: batch.counts.get(state, 0) for state in DeliveryState}),
        created_at=to_iso(batch.row.created_at),
    )


def _message(message: BatchMessage) -> BatchMessageAnswer:
    metadata: dict[str, Any] = message.row.metadata or {}
    sums = {"pending": 0, "sent": 0, "failed": 0}
    for state, number in message.counts.items():
        sums[compatible_status(state)] += number
    return BatchMessageAnswer(
        job_id=message.row.id,
        tracking_id=metadata.get("trackingId"),
        summary=DeliverySummary(
            total_targets=sum(sums.values()),
            successful=sums["sent"],
            failed=sums["failed"],
            pending=sums["pending"],
        ),
        created_at=to_iso(message.row.created_at),
    )

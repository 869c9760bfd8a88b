"""Messages: send, ask what became of them, retry."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, HeaderParameter, QueryParameter

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Pagination, Timestamp
from msgcore.api.parameters import Offset, PageSize
from msgcore.core.clock import to_iso
from msgcore.core.content import SendRequest, Target
from msgcore.core.deliveries import SENT_STATES, FallbackCode
from msgcore.core.scopes import ApiScope
from msgcore.services.jobs import Job, JobService, compatible_status
from msgcore.services.send import SendService
from msgcore.store.ledger.accept import Accepted
from msgcore.store.ledger.reads import Record

IdempotencyKey: TypeAlias = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", description="Repeating a request with the same key sends once (24 hours)"),
]


SEND_SUFFIX = "/messages/send"
"""How the path of the most used endpoint ends."""


class SendAnswer(Answer):
    """The message is durable and queued; `jobId` asks for its status.

    `replayed`: an earlier request with the same Idempotency-Key made it, and nothing was sent again.
    """

    success: bool
    job_id: str
    status: str
    targets: list[Target]
    platform_ids: list[str]
    timestamp: Timestamp
    message: str
    replayed: bool


class DeliveryAnswer(Answer):
    """One target's delivery. `status` is pending, sent or failed; `state` is the exact one.

    `action` is what it does to a message that is there already, such as `react`; null for a message. `deliveredAt`
    and `readAt` are what the platform told since, where it tells such things. `fallbackRank`, of messages with
    `options.fallback` only: 0 for the target itself, then its fallbacks in order.
    """

    id: str
    platform: str
    platform_id: str
    target_type: str
    target_chat_id: str
    target_user_id: str | None
    action: str | None
    status: str
    state: str
    attempts: int
    error_code: str | None
    error_message: str | None
    provider_message_id: str | None
    due_at: Timestamp
    sent_at: Timestamp | None
    delivered_at: Timestamp | None
    read_at: Timestamp | None
    created_at: Timestamp
    fallback_rank: int | None


class DeliverySummary(Answer):
    """How many targets are where; fallbacks that were not needed are left out."""

    total_targets: int
    successful: int
    failed: int
    pending: int


class DeliveryFailure(Answer):
    """Why a target failed."""

    platform: str
    target: str
    error: str


class DeliveryReport(Answer):
    """Every target of a job."""

    overall_status: str
    summary: DeliverySummary
    results: list[DeliveryAnswer]
    errors: list[DeliveryFailure]


class JobMessage(Answer):
    """The message as it was accepted."""

    targets: list[Target]
    content: Any
    options: Any = None
    metadata: Any = None


class JobData(Answer):
    """What the job is about."""

    project_id: str
    message: JobMessage


class JobAnswer(Answer):
    """A job: `state` in the words of existing clients, `status` in ours; times in milliseconds."""

    id: str
    job_id: str
    state: str
    status: str
    progress: int
    attempts_made: int
    created_at: Timestamp
    updated_at: Timestamp
    processed_on: int | None
    finished_on: int | None
    failed_reason: str | None
    data: JobData
    delivery: DeliveryReport


class RetryAnswer(Answer):
    """How many deliveries were queued again."""

    success: bool
    job_id: str
    message: str
    requeued: int


class TargetIdentity(Answer):
    """Who a target is, where it is known."""

    id: str
    display_name: str | None
    email: str | None


class SentMessage(DeliveryAnswer):
    """A delivery with what it says."""

    job_id: str
    message_text: str | None
    message_content: Any
    target_identity: TargetIdentity | None = None


class SentMessages(Answer):
    """A page of deliveries, newest first."""

    messages: list[SentMessage]
    pagination: Pagination


class QueueAnswer(Answer):
    """A project's deliveries by where they are; `total` counts those that are not final."""

    waiting: int
    active: int
    completed: int
    failed: int
    delayed: int
    paused: int
    expired: int
    cancelled: int
    total: int


class MessagesController(Controller):
    """What a project sends."""

    path = "/api/v1/projects/{project:str}/messages"
    tags = ("Messages",)

    @post("/send", opt=requires(ApiScope.MESSAGES_WRITE), summary="Send a message to one or many targets")
    async def send(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[SendRequest],
        sending: Injected[SendService],
        idempotency_key: IdempotencyKey = None,
    ) -> SendAnswer:
        """Accept a message for delivery. It is durable and queued when the answer comes."""
        return send_answer(await sending.send(request.user, project, data, idempotency_key=idempotency_key), data)

    @get("/status/{job_id:str}", opt=requires(ApiScope.MESSAGES_READ), summary="What became of a message")
    async def status(self, project: FromPath[str], job_id: FromPath[str], jobs: Injected[JobService]) -> JobAnswer:
        """A job with its progress and each target's delivery."""
        return _job_answer(await jobs.get(project, job_id))

    @post("/retry/{job_id:str}", opt=requires(ApiScope.MESSAGES_WRITE), summary="Retry failed deliveries")
    async def retry(
        self, request: ApiRequest, project: FromPath[str], job_id: FromPath[str], jobs: Injected[JobService]
    ) -> RetryAnswer:
        """Queue the failed deliveries of a job again."""
        requeued = await jobs.retry(request.user, project, job_id)
        noun = "delivery" if requeued == 1 else "deliveries"
        return RetryAnswer(
            success=True, job_id=job_id, message=f"{requeued} failed {noun} queued again", requeued=requeued
        )

    @get("/sent", opt=requires(ApiScope.MESSAGES_READ), summary="List what was sent")
    async def sent(
        self,
        project: FromPath[str],
        jobs: Injected[JobService],
        platform: Annotated[str | None, QueryParameter(description="Only this platform")] = None,
        status: Annotated[str | None, QueryParameter(description="pending, sent, failed, or an exact state")] = None,
        limit: PageSize = 50,
        offset: Offset = 0,
    ) -> SentMessages:
        """Deliveries, newest first. `status`: pending, sent, failed, or an exact state."""
        rows, total = await jobs.sent(project, platform=platform, status=status, limit=limit, offset=offset)
        return SentMessages(
            messages=[_sent_message(row) for row in rows],
            pagination=Pagination(total=total, limit=limit, offset=offset, has_more=offset + len(rows) < total),
        )

    @get("/queue/metrics", opt=requires(ApiScope.MESSAGES_READ), summary="Counts of the queue")
    async def queue_metrics(self, project: FromPath[str], jobs: Injected[JobService]) -> QueueAnswer:
        """A project's deliveries by where they are."""
        metrics = await jobs.metrics(project)
        return QueueAnswer(**msgspec.structs.asdict(metrics))


def send_answer(accepted: Accepted, request: SendRequest) -> SendAnswer:
    """The answer to a message that was accepted."""
    return SendAnswer(
        success=True,
        job_id=accepted.message_id,
        status="queued",
        targets=request.targets,
        platform_ids=[target.platform_id for target in request.targets if target.platform_id],
        timestamp=to_iso(accepted.created_at),
        message="Message queued for delivery",
        replayed=accepted.replayed,
    )


STATE_WORDS = {"queued": "waiting"}
"""Existing clients know the queue's word for `queued`; the other statuses have the same word."""


def _job_answer(job: Job) -> JobAnswer:
    rows, message = job.deliveries, job.message
    finished = [row.finished_at for row in rows]
    started = [row.started_at for row in rows if row.started_at is not None]
    failures = [
        row for row in rows if compatible_status(row.state) == "failed" and row.error_code != FallbackCode.NOT_NEEDED
    ]
    primaries = [row for row in rows if not row.fallback_rank]
    updated = max([message.created_at, *started, *(moment for moment in finished if moment is not None)])
    return JobAnswer(
        id=message.id,
        job_id=message.id,
        state=STATE_WORDS.get(job.status, job.status),
        status=job.status,
        progress=job.progress,
        attempts_made=max((row.attempts for row in rows), default=0),
        created_at=to_iso(message.created_at),
        updated_at=to_iso(updated),
        processed_on=_milliseconds(min(started)) if started else None,
        finished_on=_milliseconds(max(m for m in finished if m)) if all(finished) and finished else None,
        failed_reason=failures[0].error_message if job.status == "failed" else None,
        data=JobData(
            project_id=message.project_id,
            message=JobMessage(
                targets=[Target(platform_id=r.platform_id, type=r.target_type, id=r.target_id) for r in primaries],
                content=message.content,
                options=message.options,
                metadata=message.metadata,
            ),
        ),
        delivery=_report(job, failures),
    )


def _report(job: Job, failures: list[Record]) -> DeliveryReport:
    total, counts = sum(job.counts.values()), job.counts
    if job.reached or counts["sent"] == total:
        overall = "completed"
    elif counts["pending"]:
        overall = "pending"
    else:
        overall = "failed" if counts["failed"] == total else "partial"
    return DeliveryReport(
        overall_status=overall,
        summary=DeliverySummary(
            total_targets=total, successful=counts["sent"], failed=counts["failed"], pending=counts["pending"]
        ),
        results=[DeliveryAnswer(**_delivery(row)) for row in job.deliveries],
        errors=[
            DeliveryFailure(
                platform=row.platform, target=f"{row.target_type}:{row.target_id}", error=row.error_message or row.state
            )
            for row in failures
        ],
    )


def _delivery(row: Record) -> dict[str, Any]:
    return {
        "id": row.id,
        "platform": row.platform,
        "platform_id": row.platform_id,
        "target_type": row.target_type,
        "target_chat_id": row.target_id,
        "target_user_id": row.target_id if row.target_type == "user" else None,
        "action": row.action,
        "status": compatible_status(row.state),
        "state": row.state,
        "attempts": row.attempts,
        "error_code": row.error_code,
        "error_message": row.error_message if row.state not in SENT_STATES else None,
        "provider_message_id": row.provider_message_id,
        "due_at": to_iso(row.due_at),
        "sent_at": _iso(row.sent_at),
        "delivered_at": _iso(row.delivered_at),
        "read_at": _iso(row.read_at),
        "created_at": to_iso(row.created_at),
        "fallback_rank": row.fallback_rank,
    }


def _sent_message(row: Record) -> SentMessage:
    content = row.content
    return SentMessage(
        **_delivery(row),
        job_id=row.message_id,
        message_text=content.get("text") or content.get("markdown") or content.get("subject"),
        message_content=content,
    )


def _iso(moment: Any) -> str | None:
    return None if moment is None else to_iso(moment)


def _milliseconds(moment: Any) -> int:
    return int(moment.timestamp() * 1000)

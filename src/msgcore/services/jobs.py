"""Jobs: what became of an accepted message, retrying it, and the lists and counts of what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from msgcore.core.clock import Clock
from msgcore.core.deliveries import OPEN_STATES, PENDING_STATES, SENT_STATES, DeliveryState, FallbackCode
from msgcore.core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id
from msgcore.core.scopes import Principal
from msgcore.services.dead_letters import DeadLetterService
from msgcore.store.database import Database
from msgcore.store.ledger import reads
from msgcore.store.ledger.counts import QueueCount, count_queue
from msgcore.store.ledger.dead import DeadLetterFilter
from msgcore.store.ledger.fallbacks import is_won

CompatibleStatus = Literal["pending", "sent", "failed"]
JobStatus = Literal["queued", "active", "completed", "failed", "delayed"]

COMPATIBLE_STATES: dict[CompatibleStatus, frozenset[DeliveryState]] = {
    "pending": PENDING_STATES,
    "sent": SENT_STATES,
    "failed": frozenset({DeliveryState.FAILED, DeliveryState.EXPIRED, DeliveryState.CANCELLED}),
}
"""The three statuses of the compatible API, and the states that each stands for."""

_STATES = frozenset(DeliveryState)

STATE_WORDS: dict[DeliveryState, str] = {
    DeliveryState.QUEUED: "waiting",
    DeliveryState.SENDING: "active",
    DeliveryState.SCHEDULED: "delayed",
    DeliveryState.STANDBY: "delayed",
    DeliveryState.RETRYING: "delayed",
    DeliveryState.SENT: "completed",
    DeliveryState.DELIVERED: "completed",
    DeliveryState.READ: "completed",
    DeliveryState.FAILED: "failed",
    DeliveryState.EXPIRED: "expired",
    DeliveryState.CANCELLED: "cancelled",
}
"""Where the queue metrics count a delivery; what waits for a held account is `paused` instead."""

QUEUE_WORDS = ("waiting", "active", "completed", "failed", "delayed", "paused", "expired", "cancelled")
OPEN_WORDS = ("waiting", "active", "delayed", "paused")

SOON = timedelta(seconds=1)


def compatible_status(state: str) -> CompatibleStatus:
    """The status that existing clients know for a state."""
    return next(status for status, states in COMPATIBLE_STATES.items() if state in states)


async def find_job(database: Database, project_id: str, job_id: str) -> reads.Record:
    """The message that a job id names. Raises NotFoundError."""
    known_id = canonical_id(job_id)
    message = None if known_id is None else await reads.find_message(database, project_id, known_id)
    if message is None:
        raise NotFoundError(f"Job {job_id[:64]!r} not found: it is the jobId that an answer to send gave")
    return message


class Job(msgspec.Struct, frozen=True):
    """A message with its deliveries, and what follows from them.

    `counts` leaves out fallbacks that were not needed. `reached`: the message has fallbacks, and one of its targets
    was sent, which completes it whatever became of the others.
    """

    message: reads.Record
    deliveries: Sequence[reads.Record]
    status: JobStatus
    progress: int
    counts: Counter[CompatibleStatus]
    reached: bool


class QueueMetrics(msgspec.Struct, frozen=True):
    """Deliveries by where they are; `total` is what is not final."""

    waiting: int
    active: int
    completed: int
    failed: int
    delayed: int
    paused: int
    expired: int
    cancelled: int
    total: int


class JobService:
    """Answers about accepted messages."""

    def __init__(self, *, database: Database, dead_letters: DeadLetterService, clock: Clock) -> None:
        self._database = database
        self._dead_letters = dead_letters
        self._clock = clock

    async def get(self, project_id: str, job_id: str) -> Job:
        """A job with each target's delivery. Raises NotFoundError."""
        message = await find_job(self._database, project_id, job_id)
        rows = await reads.deliveries_of(self._database, message.id)
        counts: Counter[CompatibleStatus] = Counter(
            compatible_status(row.state) for row in rows if row.error_code != FallbackCode.NOT_NEEDED
        )
        reached = any(row.fallback_rank is not None and is_won(row) for row in rows)
        return Job(
            message=message,
            deliveries=rows,
            status="completed" if reached else _job_status(rows, counts, self._clock.now()),
            progress=100 if reached or not rows else 100 * (len(rows) - counts["pending"]) // len(rows),
            counts=counts,
            reached=reached,
        )

    async def retry(self, actor: Principal, project_id: str, job_id: str) -> int:
        """Queue the failed deliveries of a job again; returns how many.

        Raises NotFoundError, and ConflictError when none of them failed, or another target was sent in their place.
        """
        job = await self.get(project_id, job_id)
        if job.reached:
            raise ConflictError(f"Job {job_id} has nothing to retry: it was sent to one of its targets")
        chosen = DeadLetterFilter(project_id, message_id=job.message.id)
        requeued = await self._dead_letters.requeue(actor, chosen)
        if not requeued:
            raise ConflictError(f"Job {job_id} has no failed delivery to retry (it is {job.status})")
        return requeued

    async def sent(
        self, project_id: str, *, platform: str | None, status: str | None, limit: int, offset: int
    ) -> tuple[Sequence[reads.Record], int]:
        """A page of a project's deliveries, newest first, and how many there are."""
        return await reads.list_deliveries(
            self._database, project_id, platform=platform, states=_states(status), limit=limit, offset=offset
        )

    async def metrics(self, project_id: str) -> QueueMetrics:
        """A project's deliveries by where they are; the cost does not depend on how many there are."""
        numbers: Counter[str] = Counter()
        for count in await count_queue(self._database, project_id):
            numbers[_queue_word(count)] += count.number
        return QueueMetrics(
            **{word: numbers[word] for word in QUEUE_WORDS},
            total=sum(numbers[word] for word in OPEN_WORDS),
        )


def _queue_word(count: QueueCount) -> str:
    if count.held and count.state in OPEN_STATES - {DeliveryState.SENDING}:
        return "paused"
    return STATE_WORDS[count.state]


def _job_status(rows: Sequence[Any], counts: Counter[CompatibleStatus], now: datetime) -> JobStatus:
    open_rows = [row for row in rows if row.state in OPEN_STATES]
    if not counts["pending"]:
        return "failed" if counts["failed"] and not counts["sent"] else "completed"
    is_begun = any(row.state == DeliveryState.SENDING for row in open_rows) or counts["pending"] < len(rows)
    if is_begun or not open_rows:
        return "active"
    return "delayed" if all(row.due_at > now + SOON for row in open_rows) else "queued"


def _states(status: str | None) -> frozenset[DeliveryState] | None:
    if status is None:
        return None
    for known, states in COMPATIBLE_STATES.items():
        if status == known:
            return states
    if status in _STATES:
        return frozenset({DeliveryState(status)})
    allowed = ", ".join(sorted({*COMPATIBLE_STATES, *DeliveryState}))
    raise InvalidInputError.of([FieldError("/query/status", f"status must be one of {allowed}")])

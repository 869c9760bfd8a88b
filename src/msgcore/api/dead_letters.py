"""Dead letters: deliveries that failed for good."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias
from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, QueryParameter

from msgcore.api.access import Injected, JsonBody, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.errors import FieldError, InvalidInputError
from msgcore.core.scopes import ApiScope
from msgcore.services.dead_letters import DeadLetterService
from msgcore.store.ledger.dead import DeadLetterFilter
from msgcore.store.ledger.reads import Record

PageSize: TypeAlias = Annotated[int, QueryParameter(ge=1, le=100, description="Entries of a page")]
Ids: TypeAlias = Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=1000)]


class Selection(Wire):
    """Which dead letters: by `ids`, or by any of the other fields; all of them with `all: true`."""

    ids: Ids | None = None
    job_id: UUID | None = None
    platform_id: UUID | None = None
    platform: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    error_code: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    all: bool = False


class AttemptAnswer(Answer):
    """One entry of a timeline. `number` is 0 where it does not count as an attempt.

    `reached` tells whether the platform may have taken the message: no, maybe or yes.
    """

    number: int
    outcome: str
    error_code: str | None
    error_message: str | None
    reached: str | None
    retry_at: Timestamp | None
    started_at: Timestamp
    finished_at: Timestamp


class DeadLetterAnswer(Answer):
    """A delivery that failed for good."""

    id: str
    job_id: str
    platform: str
    platform_id: str
    target_type: str
    target_id: str
    attempts: int
    error_code: str | None
    error_message: str | None
    failed_at: Timestamp | None
    created_at: Timestamp


class DeadLetterDetail(DeadLetterAnswer):
    """With its whole timeline, oldest entry first."""

    timeline: list[AttemptAnswer]


class DeadLetterPage(Answer):
    """Newest first; `next` is the `before` of the next page, null on the last one."""

    dead_letters: list[DeadLetterAnswer]
    next: str | None


class ChangedAnswer(Answer):
    """How many dead letters it was."""

    count: int
    message: str


class DeadLettersController(Controller):
    """Look at what failed, and queue it again or delete it."""

    path = "/api/v1/projects/{project:str}/dead-letters"
    tags = ("Dead letters",)

    @get("/", opt=requires(ApiScope.MESSAGES_READ), summary="List dead letters")
    async def list_all(
        self,
        project: FromPath[str],
        dead_letters: Injected[DeadLetterService],
        platform: Annotated[str | None, QueryParameter(description="Only this platform")] = None,
        platform_id: Annotated[UUID | None, QueryParameter(name="platformId")] = None,
        error_code: Annotated[str | None, QueryParameter(name="errorCode")] = None,
        before: Annotated[UUID | None, QueryParameter(description="`next` of the page before")] = None,
        limit: PageSize = 50,
    ) -> DeadLetterPage:
        """A page of dead letters, newest first."""
        chosen = DeadLetterFilter(project, platform=platform, platform_id=_text(platform_id), error_code=error_code)
        rows = await dead_letters.list(chosen, limit=limit, before=_text(before))
        return DeadLetterPage(
            dead_letters=[DeadLetterAnswer(**_fields(row)) for row in rows],
            next=rows[-1].id if len(rows) == limit else None,
        )

    @get("/{delivery_id:uuid}", opt=requires(ApiScope.MESSAGES_READ), summary="One dead letter with its timeline")
    async def detail(
        self, project: FromPath[str], delivery_id: FromPath[UUID], dead_letters: Injected[DeadLetterService]
    ) -> DeadLetterDetail:
        """What was tried, when, and what the platform answered."""
        found = await dead_letters.get(project, str(delivery_id))
        timeline = [
            AttemptAnswer(
                number=row.number,
                outcome=row.outcome,
                error_code=row.error_code,
                error_message=row.error_message,
                reached=row.reached,
                retry_at=None if row.retry_at is None else to_iso(row.retry_at),
                started_at=to_iso(row.started_at),
                finished_at=to_iso(row.finished_at),
            )
            for row in found.attempts
        ]
        return DeadLetterDetail(**_fields(found.delivery), timeline=timeline)

    @post("/requeue", status_code=200, opt=requires(ApiScope.MESSAGES_WRITE), summary="Queue dead letters again")
    async def requeue(
        self, project: FromPath[str], data: JsonBody[Selection], dead_letters: Injected[DeadLetterService]
    ) -> ChangedAnswer:
        """Queue them again with their attempts forgiven; their timelines stay."""
        count = await dead_letters.requeue(_filter(project, data))
        return ChangedAnswer(count=count, message=f"{count} queued again")

    @post("/purge", status_code=200, opt=requires(ApiScope.MESSAGES_WRITE), summary="Delete dead letters")
    async def purge(
        self, project: FromPath[str], data: JsonBody[Selection], dead_letters: Injected[DeadLetterService]
    ) -> ChangedAnswer:
        """Delete them with their timelines."""
        count = await dead_letters.purge(_filter(project, data))
        return ChangedAnswer(count=count, message=f"{count} deleted")


def _filter(project: str, chosen: Selection) -> DeadLetterFilter:
    narrowed = chosen.ids or chosen.job_id or chosen.platform_id or chosen.platform or chosen.error_code
    if not narrowed and not chosen.all:
        raise InvalidInputError.of(
            [FieldError("", "say which dead letters: ids, jobId, platformId, platform or errorCode, or all: true")]
        )
    return DeadLetterFilter(
        project,
        ids=None if chosen.ids is None else tuple(str(i) for i in chosen.ids),
        message_id=_text(chosen.job_id),
        platform_id=_text(chosen.platform_id),
        platform=chosen.platform,
        error_code=chosen.error_code,
    )


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _fields(row: Record) -> dict[str, Any]:
    return {
        "id": row.id,
        "job_id": row.message_id,
        "platform": row.platform,
        "platform_id": row.platform_id,
        "target_type": row.target_type,
        "target_id": row.target_id,
        "attempts": row.attempts,
        "error_code": row.error_code,
        "error_message": row.error_message,
        "failed_at": None if row.finished_at is None else to_iso(row.finished_at),
        "created_at": to_iso(row.created_at),
    }

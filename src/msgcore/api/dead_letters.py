"""Dead letters: deliveries that failed for good."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias
from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, QueryParameter

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.api.parameters import Before, OfAccount, PageSize, read_moment
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.errors import FieldError, InvalidInputError
from msgcore.core.scopes import ApiScope
from msgcore.services.dead_letters import DeadLetter, DeadLetterService
from msgcore.store.ledger.dead import DeadLetterFilter
from msgcore.store.ledger.reads import Record

MomentText: TypeAlias = Annotated[
    str, msgspec.Meta(max_length=64, description="an ISO 8601 time; UTC where it names no offset")
]
MOST_AT_ONCE = 10_000
"""Dead letters that one request deals with: a few seconds' work."""

Ids: TypeAlias = Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=1000)]


class Selection(Wire):
    """Which dead letters: by `ids`, or by any of the other fields; all of them with `all: true`.

    `since` and `until` are when they failed. At most `limit` are dealt with, oldest first; `remaining` in the
    answer says how many are left for the same request again.
    """

    ids: Ids | None = None
    job_id: UUID | None = None
    platform_id: UUID | None = None
    platform: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    error_code: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    since: MomentText | None = None
    until: MomentText | None = None
    all: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_AT_ONCE)] = MOST_AT_ONCE


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
    """How many dead letters it was, and how many are left that match and failed up to `until`.

    To deal with those, repeat the request with this `until`: without it, one that was queued again and has
    failed again would be meant too.
    """

    count: int
    remaining: int
    until: Timestamp
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
        platform_id: OfAccount = None,
        error_code: Annotated[str | None, QueryParameter(name="errorCode")] = None,
        job_id: Annotated[UUID | None, QueryParameter(name="jobId", description="Only of this message")] = None,
        since: Annotated[str | None, QueryParameter(description="Failed at this ISO 8601 time or later")] = None,
        until: Annotated[str | None, QueryParameter(description="Failed at this ISO 8601 time or before")] = None,
        before: Before = None,
        limit: PageSize = 50,
    ) -> DeadLetterPage:
        """A page of dead letters, newest first."""
        chosen = DeadLetterFilter(
            project,
            message_id=_text(job_id),
            platform=platform,
            platform_id=_text(platform_id),
            error_code=error_code,
            since=read_moment("since", "/query/since", since),
            until=read_moment("until", "/query/until", until),
        )
        rows = await dead_letters.list(chosen, limit=limit + 1, before=_text(before))
        page = rows[:limit]
        return DeadLetterPage(
            dead_letters=[dead_letter(row) for row in page], next=page[-1].id if len(rows) > limit else None
        )

    @get("/{delivery_id:uuid}", opt=requires(ApiScope.MESSAGES_READ), summary="One dead letter with its timeline")
    async def detail(
        self, project: FromPath[str], delivery_id: FromPath[UUID], dead_letters: Injected[DeadLetterService]
    ) -> DeadLetterDetail:
        """What was tried, when, and what the platform answered."""
        return dead_letter_detail(await dead_letters.get(project, str(delivery_id)))

    @post("/requeue", status_code=200, opt=requires(ApiScope.MESSAGES_WRITE), summary="Queue dead letters again")
    async def requeue(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[Selection],
        dead_letters: Injected[DeadLetterService],
    ) -> ChangedAnswer:
        """Queue them again with their attempts forgiven; their timelines stay."""
        chosen = dead_letters.up_to_now(_filter(project, data))
        count = await dead_letters.requeue(request.user, chosen, limit=data.limit)
        return await _changed(dead_letters, chosen, count, "queued again")

    @post("/purge", status_code=200, opt=requires(ApiScope.MESSAGES_WRITE), summary="Delete dead letters")
    async def purge(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[Selection],
        dead_letters: Injected[DeadLetterService],
    ) -> ChangedAnswer:
        """Delete them with their timelines, and messages of which nothing else is left."""
        chosen = dead_letters.up_to_now(_filter(project, data))
        count = await dead_letters.purge(request.user, chosen, limit=data.limit)
        return await _changed(dead_letters, chosen, count, "deleted")


def dead_letter(row: Record) -> DeadLetterAnswer:
    """A dead letter as it is shown."""
    return DeadLetterAnswer(**_fields(row))


def dead_letter_detail(found: DeadLetter) -> DeadLetterDetail:
    """A dead letter as it is shown, with its timeline."""
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


async def _changed(dead_letters: DeadLetterService, chosen: DeadLetterFilter, count: int, what: str) -> ChangedAnswer:
    remaining = await dead_letters.count(chosen)
    until = "" if chosen.until is None else to_iso(chosen.until)
    more = f"; {remaining} more match: repeat the request with until {until}" if remaining else ""
    return ChangedAnswer(count=count, remaining=remaining, until=until, message=f"{count} {what}{more}")


def _filter(project: str, chosen: Selection) -> DeadLetterFilter:
    narrowed = (chosen.ids, chosen.job_id, chosen.platform_id, chosen.platform, chosen.error_code)
    if not chosen.all and not any(narrowed) and not chosen.since and not chosen.until:
        words = "ids, jobId, platformId, platform, errorCode, since or until"
        raise InvalidInputError.of([FieldError("", f"say which dead letters: {words}, or all: true")])
    return DeadLetterFilter(
        project,
        ids=None if chosen.ids is None else tuple(str(i) for i in chosen.ids),
        message_id=_text(chosen.job_id),
        platform_id=_text(chosen.platform_id),
        platform=chosen.platform,
        error_code=chosen.error_code,
        since=read_moment("since", "/since", chosen.since),
        until=read_moment("until", "/until", chosen.until),
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

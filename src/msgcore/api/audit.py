"""The audit log: who changed what, when, and from where."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.di import Provide
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from msgcore.api.access import ADMINISTRATORS, Injected, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.api.attachments import disposition
from msgcore.api.documented import answered
from msgcore.api.parameters import Before, PageSize, read_moment
from msgcore.api.stalled import letting_go
from msgcore.core.clock import to_iso
from msgcore.core.scopes import ApiScope
from msgcore.services.audit import AuditService
from msgcore.store.audit import AuditFilter, as_told

_ADMINS = requires(ApiScope.KEYS_READ, ApiScope.MEMBERS_READ)
"""Keys with both scopes; of people, admins and the owner, since `keys:read` is theirs."""

Format: TypeAlias = Annotated[
    Literal["ndjson", "csv"], QueryParameter(description="An entry a line, as JSON or as CSV with a heading")
]
_MEDIA_TYPES: Final[Mapping[str, str]] = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
_EXPORTED: Final = answered(str, "application/x-ndjson")

_FORMULAS: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")
"""With one of these, or its wide form, a cell begins that spreadsheets would calculate (OWASP, "CSV Injection")."""


class ActorAnswer(Answer):
    """Who did it: `kind` is api-key, user, operator (on the command line), or anonymous (nobody who signed in).

    `name` is the key's name or the user's e-mail address, while there is such a one.
    """

    kind: str
    id: str | None
    name: str | None


class SubjectAnswer(Answer):
    """What it was done to."""

    type: str
    id: str | None


class OriginAnswer(Answer):
    """From where: the client's address, what it calls itself, and the request that the log of the server names."""

    address: str | None
    user_agent: str | None
    request_id: str | None


class AuditAnswer(Answer):
    """An entry. `before` and `after` have what changed, with the names of the API, and no secret."""

    id: str
    created_at: Timestamp
    project_id: str | None
    action: str
    actor: ActorAnswer
    subject: SubjectAnswer
    origin: OriginAnswer
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPage(Answer):
    """Newest first; `next` is the `before` of the next page, null on the last one."""

    entries: list[AuditAnswer]
    next: str | None


async def _chosen(
    action: Annotated[
        str | None, QueryParameter(max_length=64, description="Only this, such as api_key.created")
    ] = None,
    actor_id: Annotated[UUID | None, QueryParameter(name="actorId", description="Only by this user or key")] = None,
    subject_id: Annotated[
        str | None, QueryParameter(name="subjectId", max_length=64, description="Only what was done to this")
    ] = None,
    since: Annotated[str | None, QueryParameter(description="At this ISO 8601 time or later")] = None,
    until: Annotated[str | None, QueryParameter(description="At this ISO 8601 time or before")] = None,
) -> AuditFilter:
    """What the query asks for."""
    return AuditFilter(
        action=action,
        actor_id=None if actor_id is None else str(actor_id),
        subject_id=subject_id,
        since=read_moment("since", "/query/since", since),
        until=read_moment("until", "/query/until", until),
    )


_DEPENDENCIES: Final = {"chosen": Provide(_chosen)}


class AuditController(Controller):
    """The audit log of a project."""

    path = "/api/v1/projects/{project:str}/audit"
    tags = ("Audit log",)
    dependencies = _DEPENDENCIES

    @get("/", opt=_ADMINS, summary="Read a project's audit log")
    async def list_all(
        self,
        project: FromPath[str],
        audit: Injected[AuditService],
        chosen: Injected[AuditFilter],
        before: Before = None,
        limit: PageSize = 50,
    ) -> AuditPage:
        """Newest first. Keys need `keys:read` and `members:read`, people to be admin or owner."""
        return await _page(audit, await audit.of_project(chosen, project), before, limit)

    @get("/export", opt=_ADMINS, middleware=[letting_go], summary="Export a project's audit log", responses=_EXPORTED)
    async def export(
        self,
        project: FromPath[str],
        audit: Injected[AuditService],
        chosen: Injected[AuditFilter],
        format: Format = "ndjson",  # noqa: A002 - the parameter's name
    ) -> Stream:
        """All that matches, newest first. In CSV, cells that spreadsheets would calculate begin with an apostrophe."""
        return _stream(audit, await audit.of_project(chosen, project), format, project)


OfProject: TypeAlias = Annotated[
    str | None, QueryParameter(name="projectId", max_length=64, description="Only of this project")
]


class WholeAuditController(Controller):
    """The audit log of the installation: all projects, deleted ones too, and who signed in."""

    path = "/api/v1/audit"
    tags = ("Audit log",)
    dependencies = _DEPENDENCIES

    @get("/", opt=ADMINISTRATORS, summary="Read the audit log of the installation")
    async def list_all(
        self,
        audit: Injected[AuditService],
        chosen: Injected[AuditFilter],
        project_id: OfProject = None,
        before: Before = None,
        limit: PageSize = 50,
    ) -> AuditPage:
        """For administrators. Newest first."""
        return await _page(audit, replace(chosen, project_id=project_id), before, limit)

    @get(
        "/export",
        opt=ADMINISTRATORS,
        middleware=[letting_go],
        summary="Export the audit log of the installation",
        responses=_EXPORTED,
    )
    async def export(
        self,
        audit: Injected[AuditService],
        chosen: Injected[AuditFilter],
        project_id: OfProject = None,
        format: Format = "ndjson",  # noqa: A002 - the parameter's name
    ) -> Stream:
        """As of a project."""
        return _stream(audit, replace(chosen, project_id=project_id), format, project_id or "all")


async def _page(audit: AuditService, chosen: AuditFilter, before: UUID | None, limit: int) -> AuditPage:
    rows = await audit.list(chosen, limit=limit + 1, before=None if before is None else str(before))
    page = rows[:limit]
    return AuditPage(entries=[_answer(row) for row in page], next=page[-1].id if len(rows) > limit else None)


def _answer(row: Any) -> AuditAnswer:
    kind = "user" if row.actor_kind == "jwt" else row.actor_kind
    return AuditAnswer(
        id=row.id,
        created_at=to_iso(row.created_at),
        project_id=row.project_id,
        action=row.action,
        actor=ActorAnswer(kind=kind, id=row.actor_id, name=row.actor_name),
        subject=SubjectAnswer(type=row.subject_type, id=row.subject_id),
        origin=OriginAnswer(address=row.ip_address, user_agent=row.user_agent, request_id=row.request_id),
        before=as_told(row.before),
        after=as_told(row.after),
    )


# --- export


def _stream(audit: AuditService, chosen: AuditFilter, form: str, name: str) -> Stream:
    headers = {"Content-Disposition": disposition(f"audit-{name}.{form}"), "Cache-Control": "no-store"}
    pages = _csv(audit, chosen) if form == "csv" else _ndjson(audit, chosen)
    return Stream(pages, media_type=_MEDIA_TYPES[form], headers=headers)


async def _ndjson(audit: AuditService, chosen: AuditFilter) -> AsyncGenerator[bytes]:
    async with aclosing(audit.export(chosen)) as pages:
        async for page in pages:
            yield b"".join(msgspec.json.encode(_answer(row)) + b"\n" for row in page)


async def _csv(audit: AuditService, chosen: AuditFilter) -> AsyncGenerator[bytes]:
    heading = (
        *("id", "createdAt", "projectId", "action", "actorKind", "actorId", "actorName", "subjectType", "subjectId"),
        *("address", "userAgent", "requestId", "before", "after"),
    )
    yield _lines([heading])
    async with aclosing(audit.export(chosen)) as pages:
        async for page in pages:
            yield _lines([_cells(_answer(row)) for row in page])


def _cells(entry: AuditAnswer) -> Sequence[str]:
    documents = ("" if each is None else msgspec.json.encode(each).decode() for each in (entry.before, entry.after))
    texts = (
        *(entry.id, entry.created_at, entry.project_id, entry.action),
        *(entry.actor.kind, entry.actor.id, entry.actor.name, entry.subject.type, entry.subject.id),
        *(entry.origin.address, entry.origin.user_agent, entry.origin.request_id),
        *documents,
    )
    return [_harmless(text or "") for text in texts]


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()

"""What `msgcore dead-letters` does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import typer
from rich.table import Table

from msgcore.api.dead_letters import DeadLetterDetail, dead_letter, dead_letter_detail
from msgcore.cli.operators import (
    confirm,
    counting,
    operator_database,
    plain,
    print_json,
    print_table,
    read_id,
    read_moment,
    require_project,
)
from msgcore.config import Settings
from msgcore.core.clock import SystemClock, to_iso
from msgcore.core.errors import NotFoundError
from msgcore.platforms.registry import PlatformRegistry
from msgcore.services.dead_letters import DeadLetterService, Progress
from msgcore.store.database import Database
from msgcore.store.ledger.dead import DeadLetterFilter, projects_with_dead
from msgcore.store.ledger.reads import Record

PAGE = 1000
MOST_IDS = 1000

Work = Callable[[DeadLetterFilter, int | None, Progress], Awaitable[int]]
"""Deals with the dead letters of a filter, at most so many, tells progress, and gives how many it was."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which dead letters a command is about; of all projects unless it names one."""

    ids: tuple[str, ...] | None
    project: str | None
    platform: str | None
    platform_id: str | None
    error_code: str | None
    since: datetime | None
    until: datetime | None
    message_id: str | None

    @classmethod
    def read(
        cls,
        ids: Sequence[str] | None,
        project: str | None,
        platform: str | None,
        error: str | None,
        since: str | None,
        until: str | None,
        message: str | None,
    ) -> Asked:
        """From the command line. Raises BadParameter that says what is wrong."""
        if ids and len(ids) > MOST_IDS:
            raise typer.BadParameter(f"at most {MOST_IDS} ids; use the filters")
        name, platform_id = _platform(platform)
        return cls(
            ids=tuple(dict.fromkeys(map(read_id, ids))) if ids else None,
            project=project,
            platform=name,
            platform_id=platform_id,
            error_code=error,
            since=None if since is None else read_moment(since),
            until=None if until is None else read_moment(until),
            message_id=None if message is None else read_id(message),
        )

    def require_narrow(self, *, everything: bool) -> None:
        """Raise BadParameter unless it is said which ones: doing it to all by accident is too easy."""
        filters = (self.project, self.platform, self.platform_id, self.error_code, self.message_id)
        if not everything and not self.ids and not any(filters) and self.since is None and self.until is None:
            raise typer.BadParameter("say which dead letters: ids, a filter such as --project or --since, or --all")

    def of(self, project: str) -> DeadLetterFilter:
        """The same for one project."""
        return DeadLetterFilter(
            project,
            ids=self.ids,
            message_id=self.message_id,
            platform_id=self.platform_id,
            platform=self.platform,
            error_code=self.error_code,
            since=self.since,
            until=self.until,
        )


async def list_dead_letters(settings: Settings, asked: Asked, *, limit: int, as_json: bool) -> None:
    """Print them, newest first: a table, or JSON as it is read."""
    table = Table("Id", "Project", "Failed", "Platform", "Target", "Tries", "Error")
    table.columns[0].no_wrap = True
    async with operator_database(settings) as database:
        service = _service(database)
        async for row in _newest(service, await _filters(database, asked), limit):
            if as_json:
                print_json({"projectId": row.project_id} | msgspec.to_builtins(dead_letter(row)))
            else:
                failed = "" if row.finished_at is None else to_iso(row.finished_at)
                target = f"{row.target_type}:{row.target_id}"
                error = f"{row.error_code}: {row.error_message}"
                cells = (row.id, row.project_id, failed, row.platform, target, row.attempts, error)
                table.add_row(*map(plain, cells))
    if not as_json:
        print_table(table)


async def show_dead_letter(settings: Settings, letter_id: str, *, as_json: bool) -> None:
    """Print one with its timeline. Raises NotFoundError."""
    asked = Asked.read([letter_id], None, None, None, None, None, None)
    async with operator_database(settings) as database:
        service = _service(database)
        (row,) = await _require_all(service, await _filters(database, asked), asked.ids or ())
        detail = dead_letter_detail(await service.get(row.project_id, row.id))
    if as_json:
        print_json({"projectId": row.project_id} | msgspec.to_builtins(detail))
    else:
        _print_detail(row.project_id, detail)


async def requeue_dead_letters(
    settings: Settings, asked: Asked, *, limit: int | None, yes: bool, as_json: bool
) -> None:
    """Queue them again, after asking, and print how many it was."""
    async with operator_database(settings) as database:
        service = _service(database)

        async def work(chosen: DeadLetterFilter, most: int | None, progress: Progress) -> int:
            return await service.requeue(None, chosen, limit=most, progress=progress)

        job = _Job("Queue {} again?", "Queueing again", "{} queued again", work)
        await _deal_with(database, service, job, asked, limit=limit, yes=yes, as_json=as_json)


async def purge_dead_letters(settings: Settings, asked: Asked, *, limit: int | None, yes: bool, as_json: bool) -> None:
    """Delete them, after asking, and print how many it was."""
    async with operator_database(settings) as database:
        service = _service(database)

        async def work(chosen: DeadLetterFilter, most: int | None, progress: Progress) -> int:
            return await service.purge(None, chosen, limit=most, progress=progress)

        job = _Job("Delete {}? This cannot be undone.", "Deleting", "{} deleted", work)
        await _deal_with(database, service, job, asked, limit=limit, yes=yes, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done to dead letters, and the words for it."""

    question: str
    label: str
    report: str
    work: Work


async def _deal_with(
    database: Database,
    service: DeadLetterService,
    job: _Job,
    asked: Asked,
    *,
    limit: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    filters = [service.up_to_now(chosen) for chosen in await _filters(database, asked)]
    if asked.ids is not None:
        await _require_all(service, filters, asked.ids)
    found = sum([await service.count(chosen) for chosen in filters])
    total = found if limit is None else min(found, limit)
    done = 0
    if total:
        confirm(job.question.format(_letters(total, found)), yes=yes)
        with counting(job.label, total) as tell:
            for chosen in filters:
                before = done
                done += await job.work(chosen, total - done, lambda number, before=before: tell(before + number))
    if as_json:
        print_json({"count": done, "remaining": found - done})
    else:
        print(job.report.format(_letters(done, done)) if found else "no dead letter matches")


async def _filters(database: Database, asked: Asked) -> list[DeadLetterFilter]:
    """What was asked for, project by project. Raises NotFoundError for a project that is none."""
    if asked.project is not None:
        await require_project(database, asked.project)
        return [asked.of(asked.project)]
    return [asked.of(project) for project in await projects_with_dead(database)]


async def _require_all(
    service: DeadLetterService, filters: Sequence[DeadLetterFilter], ids: Sequence[str]
) -> list[Record]:
    """The dead letters with these ids. Raises NotFoundError that names those which are none."""
    rows = [row for chosen in filters for row in await service.list(chosen, limit=len(ids), before=None)]
    missing = sorted(set(ids) - {row.id for row in rows})
    if missing:
        raise NotFoundError(f"no dead letter{'s' if len(missing) > 1 else ''} {', '.join(missing)} to be found")
    return rows


async def _newest(service: DeadLetterService, filters: Sequence[DeadLetterFilter], limit: int) -> AsyncIterator[Record]:
    """The newest of all projects, page by page: each page is as much of each project as can be among them."""
    before: str | None = None
    while limit > 0 and filters:
        size = min(PAGE, limit)
        rows: list[Record] = []
        for chosen in filters:
            rows.extend(await service.list(chosen, limit=size, before=before))
        newest = sorted(rows, key=lambda row: row.id, reverse=True)[:size]
        for row in newest:
            yield row
        if len(newest) < size:
            return
        limit, before = limit - size, newest[-1].id


def _print_detail(project: str, detail: DeadLetterDetail) -> None:
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("id", detail.id),
        ("project", project),
        ("message", detail.job_id),
        ("platform", f"{detail.platform} {detail.platform_id}"),
        ("target", f"{detail.target_type}:{detail.target_id}"),
        ("accepted", detail.created_at),
        ("failed", detail.failed_at),
        ("attempts", detail.attempts),
        ("error", f"{detail.error_code}: {detail.error_message}"),
    ):
        facts.add_row(name, plain(value))
    print_table(facts)
    timeline = Table("Try", "Started", "Ended", "Outcome", "Reached", "Next", "Error")
    for entry in detail.timeline:
        error = "" if entry.error_code is None else f"{entry.error_code}: {entry.error_message}"
        number = entry.number or "-"
        cells = (number, entry.started_at, entry.finished_at, entry.outcome, entry.reached, entry.retry_at, error)
        timeline.add_row(*map(plain, cells))
    print_table(timeline)


def _letters(number: int, found: int) -> str:
    of = f" of {found:,}" if number < found else ""
    return f"{number:,}{of} dead letter{'' if (number if not of else found) == 1 else 's'}"


def _platform(text: str | None) -> tuple[str | None, str | None]:
    """A platform's name and an account's id: one of the two."""
    names = [declaration.name for declaration in PlatformRegistry().declarations()]
    if text is None or text in names:
        return text, None
    try:
        return None, read_id(text)
    except typer.BadParameter:
        raise typer.BadParameter(
            f"--platform {text!r} is neither a platform ({', '.join(names)}) nor an account's id"
        ) from None


def _service(database: Database) -> DeadLetterService:
    """Without a scheduler: a gateway that runs finds in the ledger what was queued."""
    return DeadLetterService(database=database, scheduler=None, registry=PlatformRegistry(), clock=SystemClock())

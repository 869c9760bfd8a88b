"""What the commands of operators share: the database, also of a running gateway, and talking on a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from msgcore.cli.database import open_database
from msgcore.config import Settings
from msgcore.core.errors import InvalidInputError, NotFoundError, StartupError
from msgcore.core.ids import canonical_id
from msgcore.store.database import Database, database_url
from msgcore.store.migrate import require_current
from msgcore.store.projects import find_project

PIPED_WIDTH = 200
"""Columns where there is no terminal to ask: a row stays one line."""

LONG_WORK = 1000
"""From how many things on progress is shown."""

_AGE = re.compile(r"([1-9][0-9]{0,5})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@asynccontextmanager
async def operator_database(settings: Settings) -> AsyncGenerator[Database]:
    """The database of these settings, which is there and up to date; never made.

    Raises StartupError when it cannot be used, or cannot be used any more.
    """
    _require_file(settings)
    async with open_database(settings) as database:
        await require_current(database)
        try:
            yield database
        except (OSError, SQLAlchemyError) as error:
            raise database.unusable(error) from None


def _require_file(settings: Settings) -> None:
    """Raise StartupError for a SQLite file that is not there: connecting would make it."""
    url = database_url(settings.resolved_database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise StartupError(
            f"there is no database at {url.database}, which MSGCORE_DATABASE_URL or MSGCORE_DATA_DIR names; "
            "give this command the settings of the gateway"
        )


async def require_project(database: Database, project_id: str) -> None:
    """Raise NotFoundError unless there is such a project."""
    async with database.read() as connection:
        if await find_project(connection, project_id) is None:
            raise NotFoundError(f"there is no project {project_id!r}; msgcore projects list shows them")


def read_id(text: str) -> str:
    """An id that was given on the command line, in its canonical form."""
    known = canonical_id(text)
    if known is None:
        raise typer.BadParameter(f"{text!r} is not an id such as 01920000-0000-7000-8000-000000000000")
    return known


def read_moment(text: str) -> datetime:
    """A time that was given on the command line: ISO 8601 (UTC where it names no offset), or an age."""
    age = _AGE.fullmatch(text)
    try:
        if age is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is neither a time such as 2030-01-31 or 2030-01-31T12:00Z nor an age such as 90m, 24h or 7d"
        ) from None


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone. Raises InvalidInputError unless the answer is yes."""
    if yes:
        return
    # Not by Typer, which writes a space to standard output for every question.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)
        raise InvalidInputError("nobody answered, so nothing was done; add --yes to do it without asking")
    if answer.strip().lower() not in {"y", "yes"}:
        raise InvalidInputError("nothing was done")


@contextmanager
def counting(label: str, total: int) -> Generator[Callable[[int], None]]:
    """Show progress on standard error, if there is much to do; gives what is told how many are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=total < LONG_WORK) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


def plain(text: object) -> Text:
    """A text that others wrote, as it is: no markup, and no control characters that would steer the terminal."""
    shown = "" if text is None else str(text)
    return Text("".join(character if character.isprintable() else " " for character in shown))


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal."""
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def print_json(value: Any) -> None:
    """Print one object, on one line."""
    print(msgspec.json.encode(value).decode())

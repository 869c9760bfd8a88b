"""`msgcore dead-letters`: the options; what is done stands in `burial`, which is imported when a command runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from msgcore.cli.environment import examples, read_settings

app = typer.Typer(
    help="Deliveries that failed for good: list, inspect, queue again, delete.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters.", show_default=False)]
Project = Annotated[str | None, typer.Option("--project", help="Only of this project. [dim]Else: of all[/dim]")]
Platform = Annotated[str | None, typer.Option("--platform", help="Only of this platform: its name, or an account's id")]
ErrorCode = Annotated[str | None, typer.Option("--error", help="Only with this error code")]
_TIME = "2030-01-31, 2030-01-31T12:00Z (UTC unless it says otherwise), or an age: 90m, 24h, 7d"
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help=f"Failed then or later: {_TIME}")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Failed then or before")]
Message = Annotated[str | None, typer.Option("--message", metavar="JOB-ID", help="Only of this message")]
Json = Annotated[bool, typer.Option("--json", help="As JSON, one object a line")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]
All = Annotated[bool, typer.Option("--all", help="All of them, where no id and no filter narrows")]
AtMost = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, oldest first")]


@app.command(
    "list",
    epilog=examples(
        "msgcore dead-letters list --project shop --since 24h",
        "msgcore dead-letters list --error recipient_refused --limit 100000 --json > failed.jsonl",
    ),
)
def list_(
    project: Project = None,
    platform: Platform = None,
    error: ErrorCode = None,
    since: Since = None,
    until: Until = None,
    message: Message = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many")] = 50,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first."""
    from msgcore.cli.burial import Asked, list_dead_letters

    asked = Asked.read(None, project, platform, error, since, until, message)
    asyncio.run(list_dead_letters(read_settings(), asked, limit=limit, as_json=as_json))


@app.command(
    epilog=examples(
        "msgcore dead-letters show 01920000-0000-7000-8000-000000000000",
    )
)
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, as the list shows it.")], as_json: Json = False
) -> None:
    """Show one dead letter with the timeline of its attempts."""
    from msgcore.cli.burial import show_dead_letter

    asyncio.run(show_dead_letter(read_settings(), letter_id, as_json=as_json))


@app.command(
    epilog=examples(
        "msgcore dead-letters requeue 01920000-0000-7000-8000-000000000000",
        "msgcore dead-letters requeue --project shop --platform email --since 2h",
        "msgcore dead-letters requeue --all --yes",
    )
)
def requeue(
    ids: Ids = None,
    project: Project = None,
    platform: Platform = None,
    error: ErrorCode = None,
    since: Since = None,
    until: Until = None,
    message: Message = None,
    everything: All = False,
    limit: AtMost = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Queue dead letters again, with their attempts forgiven. A running gateway finds them within seconds."""
    from msgcore.cli.burial import Asked, requeue_dead_letters

    asked = Asked.read(ids, project, platform, error, since, until, message)
    asked.require_narrow(everything=everything)
    asyncio.run(requeue_dead_letters(read_settings(), asked, limit=limit, yes=yes, as_json=as_json))


@app.command(
    epilog=examples(
        "msgcore dead-letters purge --project shop --until 30d",
        "msgcore dead-letters purge --error recipient_refused --limit 1000 --yes",
    )
)
def purge(
    ids: Ids = None,
    project: Project = None,
    platform: Platform = None,
    error: ErrorCode = None,
    since: Since = None,
    until: Until = None,
    message: Message = None,
    everything: All = False,
    limit: AtMost = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete dead letters with their timelines, and messages of which nothing else is left."""
    from msgcore.cli.burial import Asked, purge_dead_letters

    asked = Asked.read(ids, project, platform, error, since, until, message)
    asked.require_narrow(everything=everything)
    asyncio.run(purge_dead_letters(read_settings(), asked, limit=limit, yes=yes, as_json=as_json))

"""`msgcore projects`: the options; what is done stands in `holding`, which is imported when a command runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from msgcore.cli.environment import examples, read_settings

app = typer.Typer(help="Projects: list, pause, resume.", no_args_is_help=True, rich_markup_mode="rich")

ProjectId = Annotated[str, typer.Argument(metavar="ID", help="Its id, as the list shows it.")]


@app.command("list", epilog=examples("msgcore projects list"))
def list_(as_json: Annotated[bool, typer.Option("--json", help="As JSON, one object a line")] = False) -> None:
    """List projects, oldest first."""
    from msgcore.cli.holding import list_projects

    asyncio.run(list_projects(read_settings(), as_json=as_json))


@app.command(epilog=examples("msgcore projects pause shop --reason 'closed until Monday'"))
def pause(
    project: ProjectId,
    reason: Annotated[str | None, typer.Option("--reason", help="Shown where the pause is")] = None,
) -> None:
    """Take messages to all platforms of a project, but send none until it is resumed."""
    from msgcore.cli.holding import pause_project

    asyncio.run(pause_project(read_settings(), project, reason))


@app.command(epilog=examples("msgcore projects resume shop"))
def resume(project: ProjectId) -> None:
    """Send again; platforms that are themselves paused stay so."""
    from msgcore.cli.holding import resume_project

    asyncio.run(resume_project(read_settings(), project))

"""`msgcore platforms`: the options.

What is done to configured platforms stands in `holding`, what is told of supported ones in `platform_facts`; those
are imported when a command runs.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from msgcore.cli.environment import examples, read_settings

app = typer.Typer(
    help="Platforms: what is configured, and what is supported.", no_args_is_help=True, rich_markup_mode="rich"
)

PlatformName = Annotated[str, typer.Argument(metavar="NAME", help="Such as telegram.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, one object a line")]
PlatformId = Annotated[str, typer.Argument(metavar="ID", help="Its id, as the list shows it.")]


@app.command("list", epilog=examples("msgcore platforms list --project shop"))
def list_(
    project: Annotated[
        str | None, typer.Option("--project", help="Only of this project. [dim]Else: of all[/dim]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List configured platforms, oldest first, with what holds them."""
    from msgcore.cli.holding import list_platforms

    asyncio.run(list_platforms(read_settings(), project, as_json=as_json))


@app.command(epilog=examples("msgcore platforms pause 01920000-0000-7000-8000-000000000000 --reason 'moving house'"))
def pause(
    platform_id: PlatformId,
    reason: Annotated[str | None, typer.Option("--reason", help="Shown where the pause is")] = None,
) -> None:
    """Take messages to a platform, but send none until it is resumed. A running gateway follows within seconds."""
    from msgcore.cli.holding import pause_platform

    asyncio.run(pause_platform(read_settings(), platform_id, reason))


@app.command(epilog=examples("msgcore platforms resume 01920000-0000-7000-8000-000000000000"))
def resume(platform_id: PlatformId) -> None:
    """Send again, whether somebody paused it or its credentials were refused."""
    from msgcore.cli.holding import resume_platform

    asyncio.run(resume_platform(read_settings(), platform_id))


@app.command(epilog=examples("msgcore platforms supported --json"))
def supported(as_json: AsJson = False) -> None:
    """List the platforms that can be configured."""
    from msgcore.cli.platform_facts import list_supported

    list_supported(as_json=as_json)


@app.command(epilog=examples("msgcore platforms show telegram"))
def show(name: PlatformName, as_json: AsJson = False) -> None:
    """Show what a platform can do, its credentials, options, limits and errors."""
    from msgcore.cli.platform_facts import show_platform

    show_platform(name, as_json=as_json)


@app.command()
def table() -> None:
    """Print what each platform can do, as the Markdown table of the README."""
    from msgcore.cli.platform_facts import print_capability_table

    print_capability_table()


@app.command()
def docs() -> None:
    """Write the parts of the documentation that platforms declare (in a source checkout; make docs)."""
    from msgcore.cli.platform_facts import write_docs

    write_docs()


@app.command(epilog=examples("msgcore platforms new paper-plane --title 'Paper Plane'"))
def new(
    name: PlatformName,
    title: Annotated[
        str | None, typer.Option("--title", help="Its name for people. [dim]Else: made from NAME[/dim]")
    ] = None,
) -> None:
    """Make the files of a new platform (in a source checkout); their tests fail, and say what comes next."""
    from msgcore.cli.new_platform import make_platform

    make_platform(name, title)

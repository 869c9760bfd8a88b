"""The commands and their options; what they do stands in the modules beside this one.

Those are imported when a command runs, so that `--help` and `config` stay quick.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

import msgcore
from msgcore.cli import dead_letters, keys, platforms, projects, users
from msgcore.cli.environment import read_settings

app = typer.Typer(
    name="msgcore",
    help="MsgCore: one API that sends and receives on messaging platforms.",
    epilog="Settings are environment variables: `msgcore config` lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would show local variables, and with them secrets
    rich_markup_mode="rich",
)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(keys.app, name="keys")
app.add_typer(platforms.app, name="platforms")
app.add_typer(projects.app, name="projects")
app.add_typer(users.app, name="users")


def _show_version(asked: bool) -> None:  # noqa: FBT001 - the shape of an option's callback
    if asked:
        typer.echo(f"msgcore {msgcore.__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options before a command."""


@app.command()
def serve() -> None:
    """Run everything in one process: the API and the sending of messages."""
    _serve(api=True, worker=True)


@app.command()
def api() -> None:
    """Run the API alone."""
    _serve(api=True, worker=False)


@app.command()
def worker() -> None:
    """Run the sending of messages alone, without HTTP."""
    _serve(api=False, worker=True)


@app.command()
def migrate() -> None:
    """Bring the database to this version's schema."""
    from msgcore.cli.database import migrate_database

    asyncio.run(migrate_database(read_settings()))


@app.command()
def config(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table of the documentation.")] = False,
) -> None:
    """Show each setting, its value and where that comes from; secrets are masked."""
    from msgcore.cli.settings_table import print_settings, settings_markdown

    if markdown:
        typer.echo(settings_markdown(), nl=False)
    else:
        print_settings(read_settings(), os.environ)


@app.command()
def doctor() -> None:
    """Check what the server needs, and say how to mend what is missing."""
    from msgcore.cli.doctor import examine

    if not asyncio.run(examine(os.environ)):
        raise typer.Exit(1)


@app.command()
def demo() -> None:
    """Start a throw-away gateway and send one message through the sandbox and one by e-mail."""
    from msgcore.cli.demo import run_demo

    asyncio.run(run_demo())


def _serve(*, api: bool, worker: bool) -> None:
    os.umask(0o077)  # nothing that a server writes is for others
    settings = read_settings()
    from msgcore.cli.serve import run
    from msgcore.observability.logging import configure_logging

    configure_logging(settings)
    run(settings, api=api, worker=worker)

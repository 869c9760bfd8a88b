"""`msgcore users`: the options; what is done stands in `people`, which is imported when a command runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from msgcore.cli.environment import examples, read_settings

app = typer.Typer(help="People who sign in.", no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def group() -> None:
    """People who sign in."""


@app.command(epilog=examples("msgcore users change-address ann@example.com not-ann@example.com"))
def change_address(
    old: Annotated[str, typer.Argument(help="The address that an account has.")],
    new: Annotated[str, typer.Argument(help="The address that it gets.")],
) -> None:
    """Give an account another e-mail address: it keeps all else, and the old address is free."""
    from msgcore.cli.people import change_address as change

    asyncio.run(change(read_settings(), old, new))

"""`msgcore keys`: the options; what is done stands in `key_rotation`, which is imported when a command runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from msgcore.cli.environment import examples, read_settings

app = typer.Typer(
    help="The keys that credentials are encrypted with: what is under which, and changing them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Json = Annotated[bool, typer.Option("--json", help="As JSON, one object a line")]


@app.command(epilog=examples("msgcore keys status"))
def status(as_json: Json = False) -> None:
    """Show how many rows are under which key."""
    from msgcore.cli.key_rotation import show_status

    asyncio.run(show_status(read_settings(), as_json=as_json))


@app.command(
    epilog=examples(
        "msgcore keys rotate --new",
        "msgcore keys rotate",
        "msgcore keys rotate --prune",
    )
)
def rotate(
    new: Annotated[bool, typer.Option("--new", help="First make a new key, where they are in secrets.json")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Then remove retired keys, if nothing is under them")] = False,
    rate: Annotated[int, typer.Option("--rate", min=1, help="At most so many rows a second")] = 5000,
    as_json: Json = False,
) -> None:
    """Encrypt everything anew under the active key. The gateway may run, and the command may be interrupted."""
    from msgcore.cli.key_rotation import Wanted, rotate_keys

    asyncio.run(rotate_keys(read_settings(), Wanted(new=new, prune=prune, rate=rate), as_json=as_json))

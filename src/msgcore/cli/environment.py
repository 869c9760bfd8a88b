"""What every group of commands needs before it runs: its settings, and how its help shows examples."""

from __future__ import annotations

import os

import typer

from msgcore.config import Settings, load_settings
from msgcore.unknown_variables import unknown_variables


def read_settings() -> Settings:
    """The settings; warns of variables that are none. Raises StartupError for a bad value."""
    for warning in unknown_variables(os.environ):
        typer.echo(f"msgcore: warning: {warning}", err=True)
    return load_settings(os.environ)


def examples(*lines: str) -> str:
    """The end of a command's help; Typer makes a line of each paragraph."""
    return "\n\n".join(("[dim]Examples:[/dim]", *lines))

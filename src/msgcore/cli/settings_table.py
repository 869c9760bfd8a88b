"""The settings table, for a terminal and as Markdown for the documentation."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from msgcore.config import Settings, describe

_PIPED_WIDTH = 160
"""Columns where there is no terminal to ask: wide enough for a row to stay findable with grep."""


def print_settings(settings: Settings, environ: Mapping[str, str]) -> None:
    """Print each setting with its value (secrets masked), its source and its meaning."""
    table = Table("Variable", "Value", "Set by", "Meaning", title="MsgCore settings", title_justify="left")
    table.columns[1].overflow = "fold"
    for row in describe(settings, environ):
        names = "\n".join((row.variable, *(f"[dim]or {alias}[/dim]" for alias in row.aliases)))
        shown = row.value or "[dim]unset[/dim]"
        table.add_row(names, shown, row.source, f"{row.meaning}\n[dim]{row.allowed}[/dim]")
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(table)


def settings_markdown() -> str:
    """The table of `docs/configuration.md`."""
    lines = ["| Variable | Default | Allowed | Meaning |", "|---|---|---|---|"]
    for row in describe(Settings(), {}):
        names = ", ".join(f"`{name}`" for name in (row.variable, *row.aliases))
        default = f"`{row.default}`" if row.default else "unset"
        lines.append(f"| {names} | {default} | {row.allowed} | {row.meaning} |")
    return "\n".join(lines) + "\n"

"""What `msgcore platforms supported`, `show`, `table` and `docs` do, from the platforms' declarations."""

from __future__ import annotations

import sys

import msgspec
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from msgcore.api.platform_catalog import supported
from msgcore.cli.operators import plain, print_json, print_table
from msgcore.cli.platform_pages import capability_table, checkout, facts, write_pages
from msgcore.core.errors import NotFoundError
from msgcore.platforms.registry import PlatformRegistry


def list_supported(*, as_json: bool) -> None:
    """Print the platforms that can be configured."""
    table = Table("name", "platform", "receives by", "text", "credentials")
    for sheet in PlatformRegistry().fact_sheets():
        declared = sheet.declaration
        if as_json:
            print_json(msgspec.to_builtins(supported(sheet)))
        needed = ", ".join(field.name for field in declared.credentials if field.required) or "none"
        cells = (declared.name, declared.display_name, ", ".join(sheet.ways), f"{sheet.shows.text:,}", needed)
        table.add_row(*map(plain, cells))
    if not as_json:
        print_table(table)


def show_platform(name: str, *, as_json: bool) -> None:
    """Print all that is known of a platform. Raises NotFoundError."""
    registry = PlatformRegistry()
    if name not in registry.names:
        raise NotFoundError(f"there is no platform {name!r}; there are: {', '.join(registry.names)}")
    sheet = registry.fact_sheet(name)
    if as_json:
        print_json(msgspec.to_builtins(supported(sheet)))
        return
    text = f"# {sheet.declaration.display_name}\n\n{facts(sheet)}"
    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        print(text)


def print_capability_table() -> None:
    """Print what each platform can do, as Markdown."""
    print(capability_table(PlatformRegistry().fact_sheets()))


def write_docs() -> None:
    """Bring the documentation up to date, and say what changed. Raises StartupError outside of a source checkout."""
    root = checkout()
    changed = write_pages(root, PlatformRegistry().fact_sheets())
    for path in changed:
        print(f"wrote {path.relative_to(root)}")
    if not changed:
        print("all pages are up to date")

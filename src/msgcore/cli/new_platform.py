"""`msgcore platforms new`: the files of a new platform, whose contract tests fail and say what comes next."""

from __future__ import annotations

import ast
import importlib
import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from string import Template

from msgcore.cli.platform_pages import checkout, write_pages
from msgcore.core.errors import ConflictError, InvalidInputError
from msgcore.platforms.registry import PlatformRegistry

NEXT = "NEXT:"
"""What a line begins with that the contract tests want to be gone."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 32
_TEMPLATES = Path(__file__).with_name("templates")


def make_platform(name: str, title: str | None) -> None:
    """Make a platform's folder, its tests' data and its page, and say what comes next.

    Raises InvalidInputError for a bad name, ConflictError for one that is taken, and StartupError outside of a source
    checkout.
    """
    root = checkout()
    _check_name(name)
    made = _files(root, name, title or name.replace("-", " ").title())
    taken = [path for path in made if path.exists()]
    if taken:
        raise ConflictError(f"there is {taken[0].relative_to(root)} already; nothing was made")
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    changed = write_pages(root, PlatformRegistry().fact_sheets())
    for path in dict.fromkeys((*made, *changed)):
        print(f"wrote {path.relative_to(root)}")
    print(f"now run: .venv/bin/pytest tests/contract -k {name}")
    print("each failure says what comes next, and docs/adding-a-platform.md how it is done")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or keyword.iskeyword(name):
        raise InvalidInputError(
            f"{name[:64]!r} is no name of a platform: up to {_LONGEST} small letters, digits and single hyphens, "
            "a letter first, such as paper-plane"
        )
    if name in PlatformRegistry().names:
        raise ConflictError(f"there is a platform {name} already")
    if find_spec(f"msgcore.platforms.{name.replace('-', '_')}") is not None:
        raise ConflictError(f"the folder of {name} would hide a module of MsgCore's own: choose another name")


def _files(root: Path, name: str, title: str) -> dict[Path, str]:
    package = name.replace("-", "_")
    source, tests = root / "src" / "msgcore" / "platforms" / package, root / "tests" / "platforms" / package
    prefix = "".join(word.capitalize() for word in name.split("-"))
    values = {"name": name, "package": package, "title": title, "prefix": prefix, "variable": package.upper()}
    templates = {
        source / "__init__.py": "adapter",
        source / "render.py": "render",
        source / "errors.py": "errors",
        source / "inbound.py": "inbound",
        tests / "facts.py": "facts",
        tests / "samples" / "text.json": "sample",
        root / "docs" / "platforms" / f"{name}.md": "page",
    }
    return {path: _filled(template, values) for path, template in templates.items()}


def _filled(template: str, values: dict[str, str]) -> str:
    text = Template((_TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(values)
    return text if template in ("sample", "page") else _with_sorted_imports(text)


def _with_sorted_imports(text: str) -> str:
    """A module whose imports from this package are sorted, wherever the name of the platform is in the alphabet."""
    imports = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("msgcore.")
    ]
    lines = text.splitlines(keepends=True)
    first, last = imports[0].lineno - 1, imports[-1].end_lineno
    ordered = sorted(imports, key=lambda node: node.module or "")
    block = [line for node in ordered for line in lines[node.lineno - 1 : node.end_lineno]]
    return "".join((*lines[:first], *block, *lines[last:]))

"""What the documentation points at is there; what is let pass in the code has a reason beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BASES = (ROOT, ROOT / "src" / "msgcore", ROOT / "docs")

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]*)\)")
_FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|toml|lock|service|yaml))(?:::(\w+))?`")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=[str(each.relative_to(ROOT)) for each in PAGES])
def test_files_and_sections_that_a_page_names_exist(page: Path) -> None:
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    assert [*dead_links(page, text), *missing_files(page, text)] == []


def dead_links(page: Path, text: str) -> Iterator[str]:
    for target in _LINK.findall(text):
        name, _, section = target.partition("#")
        linked = page.parent / name if name else page
        if not linked.exists() or (section and section not in sections(linked)):
            yield target


def sections(page: Path) -> set[str]:
    """Its headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def missing_files(page: Path, text: str) -> Iterator[str]:
    for name, function in _FILE.findall(text):
        found = next((base / name for base in (*BASES, page.parent) if (base / name).exists()), None)
        if found is None or (function and f"def {function}(" not in found.read_text(encoding="utf-8")):
            yield f"{name}::{function}"


def test_every_security_rule_that_is_passed_over_says_why() -> None:
    passed_over = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("src", "supply")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"# noqa: S\d|# nosec", line) and not re.search(r"# noqa: S\d+ - \w", line)
    ]
    assert passed_over == []

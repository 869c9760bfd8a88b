"""Formatted text as a tree of blocks, whatever it was written in and whatever it will be shown in."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Mark(StrEnum):
    """How words are set apart."""

    BOLD = "bold"
    ITALIC = "italic"
    UNDERLINE = "underline"
    STRIKE = "strike"
    CODE = "code"
    SPOILER = "spoiler"


NO_MARKS: frozenset[Mark] = frozenset()


class Run(NamedTuple):
    """Words that look the same; `link` is the address that they lead to. A line ends with a line feed."""

    text: str
    marks: frozenset[Mark] = NO_MARKS
    link: str | None = None


Runs = tuple[Run, ...]


class Paragraph(NamedTuple):
    """Words; a heading where `level` is not 0 (1 is the largest)."""

    runs: Runs
    level: int = 0


class Code(NamedTuple):
    """Lines that are shown as they are."""

    text: str
    language: str = ""


class Quote(NamedTuple):
    """What somebody else said."""

    blocks: tuple[Block, ...]


class Item(NamedTuple):
    """One entry of a list: its number, or None for a bullet."""

    number: int | None
    blocks: tuple[Block, ...]


class Listing(NamedTuple):
    """Entries below one another."""

    items: tuple[Item, ...]


class Table(NamedTuple):
    """Rows of cells; the first row is the head."""

    rows: tuple[tuple[Runs, ...], ...]


class Rule(NamedTuple):
    """A line across."""


Block = Paragraph | Code | Quote | Listing | Table | Rule
Blocks = tuple[Block, ...]


def plain(text: str) -> Blocks:
    """Text as it is, parted into paragraphs at its empty lines."""
    parts = (part.strip("\n").rstrip() for part in text.replace("\r\n", "\n").split("\n\n"))
    return tuple(Paragraph((Run(part),)) for part in parts if part)


def visible(blocks: Blocks) -> str:
    """The words of blocks and nothing else: less than what any dialect writes of them."""
    return "".join(_visible(block) for block in blocks)


def _visible(block: Block) -> str:
    match block:
        case Paragraph(runs):
            return words(runs)
        case Code(text):
            return text
        case Quote(inner):
            return visible(inner)
        case Listing(items):
            return "".join(visible(item.blocks) for item in items)
        case Table(rows):
            return "".join(words(cell) for row in rows for cell in row)
        case Rule():
            return ""


def words(runs: Runs) -> str:
    """What is left of runs without their looks."""
    return "".join(run.text for run in runs)

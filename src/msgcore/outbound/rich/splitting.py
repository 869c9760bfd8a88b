"""Long text in pieces that a platform takes: cut between blocks, else at lines, sentences, words, or characters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import regex

from msgcore.outbound.rich.tree import Block, Blocks, Code, Item, Listing, Paragraph, Quote, Run, Runs, Table, words

Fits = Callable[[Blocks], bool]
"""Whether blocks, written in a platform's dialect, are short enough for one message."""

FIRST_LOOK = 256
"""Characters; doubled until they do not fit any more, so that finding a cut costs what the piece does."""
SHORTEST = 0.4
"""A better place to cut is taken where it leaves at least so much of what would fit."""

_CUTS = (regex.compile(r"\n+"), regex.compile(r"(?<=[.!?\u2026\u3002\uff01\uff1f])\s+"), regex.compile(r"\s+"))
_CLUSTER = regex.compile(r"\X")
"""What a reader takes for one character (grapheme cluster, Unicode UAX #29), so that no emoji falls apart."""

LONGEST_CLUSTER = 64
"""Characters of what a reader takes for one: more is nobody's writing."""

_Row = TypeVar("_Row")
_Cut = Callable[[_Row, Fits], list[Blocks]]


def split(blocks: Blocks, fits: Fits) -> list[Blocks]:
    """Blocks as pieces that fit, in order; none for no blocks.

    A single character that does not fit is a piece of its own all the same.
    """
    pieces: list[Blocks] = []
    rest = blocks
    while rest:
        number = _together(rest, fits)
        if number:
            pieces.append(rest[:number])
            rest = rest[number:]
            continue
        *whole, last = _parts(rest[0], fits)
        pieces += whole
        if whole:
            rest = (*last, *rest[1:])  # what is left of it may stand with what follows
        else:
            pieces.append(last)  # it cannot be cut
            rest = rest[1:]
    return pieces


def _together(blocks: Blocks, fits: Fits) -> int:
    """How many blocks from the first on fit into one piece, found by doubling and halving."""
    low, high = 0, 1
    while high < len(blocks) and fits(blocks[:high]):
        low, high = high, min(2 * high, len(blocks))
    if fits(blocks[:high]):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if fits(blocks[:middle]):
            low = middle
        else:
            high = middle
    return low


def _parts(block: Block, fits: Fits) -> list[Blocks]:
    """One block as pieces that fit, at least one."""
    if fits((block,)):
        return [(block,)]
    match block:
        case Paragraph(runs, level):
            parts = split_runs(runs, lambda some: fits((Paragraph(some, level),)))
            pieces: list[Blocks] = [(Paragraph(part, level),) for part in parts]
        case Code(text, language):
            parts = split_runs((Run(text),), lambda some: fits((Code(words(some), language),)))
            pieces = [(Code(words(part), language),) for part in parts]
        case Quote(inner):
            pieces = [(Quote(part),) for part in split(inner, lambda some: fits((Quote(some),)))]
        case Listing(items):
            pieces = _rows(items, Listing, fits, _item)
        case Table(rows):
            pieces = _rows(rows, Table, fits, _table_row)
        case _:
            pieces = []
    return pieces or [(block,)]


def _rows(rows: Sequence[_Row], made: Callable[[tuple[_Row, ...]], Block], fits: Fits, cut: _Cut[_Row]) -> list[Blocks]:
    """What consists of rows, as many of them together as fit; one that is too long by itself is cut."""
    pieces: list[Blocks] = []
    present: tuple[_Row, ...] = ()
    for row in rows:
        if fits((made((*present, row)),)):
            present = (*present, row)
            continue
        if present:
            pieces.append((made(present),))
        present = (row,)
        if not fits((made(present),)):
            pieces += cut(row, fits)
            present = ()
    return [*pieces, (made(present),)] if present else pieces


def _item(item: Item, fits: Fits) -> list[Blocks]:
    """An item with its mark before the first piece only."""
    first, *rest = split(item.blocks, lambda some: fits((Listing((Item(item.number, some),)),)))
    return [(Listing((Item(item.number, first),)),), *rest]


def _table_row(row: tuple[Runs, ...], fits: Fits) -> list[Blocks]:
    """A row as a paragraph."""
    runs = tuple(run for cell in row for run in (*cell, Run(" | ")))
    return _parts(Paragraph(runs[:-1]), fits)


def split_runs(runs: Runs, fits: Callable[[Runs], bool]) -> list[Runs]:
    """Words as pieces that fit, without the space where they are cut."""
    pieces: list[Runs] = []
    while runs and not fits(runs):
        text = words(runs)
        end = _longest(runs, len(text), fits)
        end, start = _cut(text, end)
        pieces.append(_between(runs, 0, end))
        runs = _between(runs, start, len(text))
    return [*pieces, runs] if runs else pieces


def _longest(runs: Runs, length: int, fits: Callable[[Runs], bool]) -> int:
    """How many characters fit at most; at least one."""
    low, high = 0, min(FIRST_LOOK, length)
    while high < length and fits(_between(runs, 0, high)):
        low, high = high, min(2 * high, length)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(_between(runs, 0, middle)):
            low = middle
        else:
            high = middle
    return max(1, low)


def _cut(text: str, most: int) -> tuple[int, int]:
    """Where the piece ends and where the next one starts, given that `most` characters fit."""
    window = text[: most + 1]  # what is cut away need not fit
    for cut in _CUTS:
        found = deque(cut.finditer(window), maxlen=1)
        if found and found[0].start() >= max(1, SHORTEST * most):
            end = found[0].end()
            while end < len(text) and text[end].isspace():
                end += 1
            return found[0].start(), end
    end = 0
    for cluster in _CLUSTER.finditer(text[: most + LONGEST_CLUSTER]):
        if end and cluster.end() > most:
            break
        end = cluster.end()
    return (most, most) if end > max(most, LONGEST_CLUSTER) else (end, end)


def _between(runs: Runs, start: int, end: int) -> Runs:
    """The runs from one character to another."""
    found: list[Run] = []
    at = 0
    for run in runs:
        low, high = max(start - at, 0), min(end - at, len(run.text))
        if low < high:
            found.append(run._replace(text=run.text[low:high]))
        at += len(run.text)
        if at >= end:
            break
    return tuple(found)

"""Long text in pieces that a platform takes: cut between blocks, else at lines, sentences, words, or characters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import regex

from msgcore.outbound.rich.tree import (
    Block,
    Blocks,
    Code,
    Item,
    Listing,
    Paragraph,
    Quote,
    Rule,
    Run,
    Runs,
    Table,
    words,
)

Size = Callable[[Blocks], int]
"""How long blocks are, written in a platform's dialect."""

FIRST_LOOK = 256
"""Characters that are measured first of a text that may have to be cut."""
GROWTH = 8
"""More than so many times what fits for sure is never measured, so that finding a cut costs what the piece does."""
SHORTEST = 0.4
"""A better place to cut is taken where it leaves at least so much of what would fit."""

_CUTS = (regex.compile(r"\n+"), regex.compile(r"(?<=[.!?\u2026\u3002\uff01\uff1f])\s+"), regex.compile(r"\s+"))
_CLUSTER = regex.compile(r"\X")
"""What a reader takes for one character (grapheme cluster, Unicode UAX #29), so that no emoji falls apart."""

LONGEST_CLUSTER = 64
"""Characters of what a reader takes for one: more is nobody's writing."""

_Row = TypeVar("_Row")
_Cut = Callable[[_Row, Size, int], Iterator[Blocks]]


def split(blocks: Blocks, size: Size, limit: int) -> Iterator[Blocks]:
    """Blocks as pieces of a size within the limit, in order; none for no blocks.

    A single character that does not fit is a piece of its own all the same. Each piece is worked out when it is
    asked for, at a cost that grows with what it holds: whoever needs no more of them stops asking.
    """
    rest = blocks
    while rest:
        number = _most(len(rest), lambda number, rest=rest: size(rest[:number]), limit)
        if number:
            yield rest[:number]
            rest = rest[number:]
            continue
        parts = _parts(rest[0], size, limit)
        last, is_cut = next(parts, rest[:1]), False
        for part in parts:
            yield last
            last, is_cut = part, True
        if is_cut:
            rest = (*last, *rest[1:])  # what is left of it may stand with what follows
        else:
            yield last  # it cannot be cut
            rest = rest[1:]


def _most(length: int, size: Callable[[int], int], limit: int, first: int = 1) -> int:
    """How many of so many stay within the limit, from the first on.

    What was measured tells about how many it will be; every third guess halves what is left, whatever was measured.
    """
    low, high, guess, guesses = 0, length + 1, min(first, length), 0
    while high - low > 1:
        measured, guesses = size(guess), guesses + 1
        likely = guess * limit // max(1, measured)
        if measured <= limit:
            low = guess
        else:
            high = guess
        if high > length:
            likely = min(likely, GROWTH * low)
        elif guesses % 3 == 0:
            likely = (low + high) // 2
        guess = min(max(likely, low + 1), high - 1)
    return low


def _parts(block: Block, size: Size, limit: int) -> Iterator[Blocks]:
    """One block, which does not fit, as pieces that do; none where it cannot be cut."""
    match block:
        case Paragraph(runs, level):
            for part in split_runs(runs, lambda some: size((Paragraph(some, level),)), limit):
                yield (Paragraph(part, level),)
        case Code(text, language):
            for part in split_runs((Run(text),), lambda some: size((Code(words(some), language),)), limit):
                yield (Code(words(part), language),)
        case Quote(inner):
            for piece in split(inner, lambda some: size((Quote(some),)), limit):
                yield (Quote(piece),)
        case Listing(items):
            yield from _rows(items, Listing, size, limit, _item)
        case Table(rows):
            yield from _rows(rows, Table, size, limit, _table_row)
        case Rule():
            pass


def _rows(
    rows: tuple[_Row, ...], made: Callable[[tuple[_Row, ...]], Block], size: Size, limit: int, cut: _Cut[_Row]
) -> Iterator[Blocks]:
    """What consists of rows, as many of them together as fit; one that is too long by itself is cut."""
    at = 0
    while at < len(rows):
        number = _most(len(rows) - at, lambda number, at=at: size((made(rows[at : at + number]),)), limit)
        if number:
            yield (made(rows[at : at + number]),)
        else:
            yield from cut(rows[at], size, limit)
        at += max(1, number)


def _item(item: Item, size: Size, limit: int) -> Iterator[Blocks]:
    """An item with its mark before the first piece only."""
    pieces = split(item.blocks, lambda some: size((Listing((Item(item.number, some),)),)), limit)
    yield (Listing((Item(item.number, next(pieces, ())),)),)
    yield from pieces


def _table_row(row: tuple[Runs, ...], size: Size, limit: int) -> Iterator[Blocks]:
    """A row as a paragraph."""
    runs = tuple(run for cell in row for run in (*cell, Run(" | ")))
    return split((Paragraph(runs[:-1]),), size, limit)


def split_runs(runs: Runs, size: Callable[[Runs], int], limit: int) -> Iterator[Runs]:
    """Words as pieces that fit, without the space where they are cut."""
    text = words(runs)
    while text:
        most = _most(len(text), lambda number, runs=runs: size(_before(runs, number)), limit, FIRST_LOOK)
        if most == len(text):
            yield runs
            return
        end, start = _cut(text, max(1, most))
        yield _before(runs, end)
        runs, text = _after(runs, start), text[start:]


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


def _before(runs: Runs, end: int) -> Runs:
    """The runs up to a character."""
    found: list[Run] = []
    for run in runs:
        if len(run.text) >= end:
            return (*found, run._replace(text=run.text[:end]))
        found.append(run)
        end -= len(run.text)
    return tuple(found)


def _after(runs: Runs, start: int) -> Runs:
    """The runs from a character on."""
    for index, run in enumerate(runs):
        if len(run.text) > start:
            return (run._replace(text=run.text[start:]), *runs[index + 1 :])
        start -= len(run.text)
    return ()

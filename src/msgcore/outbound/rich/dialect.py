"""Dialects: how a platform writes formatted text, as a table of its signs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgcore.outbound.rich.tree import (
    Block,
    Blocks,
    Code,
    Item,
    Listing,
    Mark,
    Paragraph,
    Quote,
    Rule,
    Run,
    Runs,
    Table,
)

Signs = tuple[str, str]
"""What stands before and after."""

NONE: Signs = ("", "")
ORDER = (Mark.SPOILER, Mark.BOLD, Mark.ITALIC, Mark.UNDERLINE, Mark.STRIKE, Mark.CODE)
"""Marks from the outermost to the innermost: code comes last, since nothing within it is read."""
INDENT = 4
"""The most spaces before a line of a list."""

_WRITTEN_LINE = re.compile(r"\n(?=[^\n])")
"""The start of a line on which there is something."""


def as_is(text: str) -> str:
    """Text of a dialect that has no signs."""
    return text


def spelled_out(words_: str, address: str) -> str:
    """A link where links cannot hide behind words."""
    shown = address.removeprefix("mailto:").removeprefix("tel:")
    if not words_.strip():
        return shown
    return words_ if words_.strip() in (shown, address) else f"{words_} ({shown})"


@dataclass(frozen=True, slots=True)
class Dialect:
    """The signs of a dialect.

    `marks` of words (one that is not named is left out), `heading` and `quote` signs around a block (`quote`
    with an empty end stands before each line, and `quote_blank` on an empty one; signs around a quote are not put
    around one within it), `code` around lines (`{language}` is filled in).
    `escape` keeps text from being read as signs, `escape_code` the same within code. `link` writes a link from
    words that are written already and an address. Where signs count only at the edge of a word,
    `joint` (such as a zero-width space) is put between them and letters beside them. Where signs count within
    a line only, `per_line` has them closed at its end and opened again.
    """

    name: str
    marks: Mapping[Mark, Signs] = field(default_factory=dict[Mark, Signs])
    heading: Signs = NONE
    quote: Signs = ("> ", "")
    quote_blank: str = ">"
    code: Signs = NONE
    bullet: str = "- "
    rule: str = "-----"
    joint: str = ""
    per_line: bool = False
    escape: Callable[[str], str] = as_is
    escape_code: Callable[[str], str] = as_is
    link: Callable[[str, str], str] = spelled_out

    def write(self, blocks: Iterable[Block]) -> str:
        """Blocks one below the other, parted by empty lines."""
        return "\n\n".join(filter(None, map(self.block, blocks)))

    def block(self, block: Block) -> str:
        """One block."""
        match block:
            case Paragraph(runs, level):
                return self._paragraph(runs, level)
            case Code(text, language):
                before, after = self.code
                return before.replace("{language}", language) + self.escape_code(text) + after
            case Quote(blocks):
                return self._quote(blocks)
            case Listing(items):
                return "\n".join(filter(None, map(self._item, items)))
            case Table(rows):
                return "\n".join(" | ".join(map(self.inline, row)) for row in rows)
            case Rule():
                return self.rule

    def inline(self, runs: Runs) -> str:
        """Words of a line, each run with its signs; signs of the same kind are not closed in between."""
        written: list[str] = []
        for address, linked in _by_link(runs):
            text = self._marked(linked)
            written.append(text if address is None else self.link(text, address))
        return "".join(written)

    def _paragraph(self, runs: Runs, level: int) -> str:
        if not level:
            return self.inline(runs)
        before, after = self.heading
        if Mark.BOLD in self.marks and before == self.marks[Mark.BOLD][0]:
            return self.inline(tuple(Run(run.text, run.marks | {Mark.BOLD}, run.link) for run in runs))
        return f"{before.replace('{level}', '#' * min(level, 3))}{self.inline(runs)}{after}"

    def _quote(self, blocks: Blocks, around: str = "") -> str:
        """Blocks in a quote, whose lines begin with the signs of the quotes around it: each line is written once."""
        before, after = self.quote
        if after:
            return f"{before}{self.write(_unquoted(blocks))}{after}"
        blank = (around + self.quote_blank).rstrip() if around else self.quote_blank
        before = around + before
        quoted: list[str] = []
        for block in blocks:
            if isinstance(block, Quote):
                quoted.append(self._quote(block.blocks, before))
            elif text := self.block(block):
                lines = (f"{before}{line}".rstrip() if line.strip() else blank for line in text.split("\n"))
                quoted.append("\n".join(lines))
        return f"\n{blank}\n".join(quoted) or blank

    def _item(self, item: Item) -> str:
        mark = self.bullet if item.number is None else f"{item.number}. "
        first, line_feed, rest = "\n".join(filter(None, map(self.block, item.blocks))).partition("\n")
        indent = " " * min(INDENT, len(mark))
        return f"{mark}{first}".rstrip() + _WRITTEN_LINE.sub(rf"\n{indent}", line_feed + rest)

    def _marked(self, runs: Runs) -> str:
        """Runs of one link: marks are opened and closed like brackets, and never around space alone."""
        written = _Written(self)
        for run in self._lines(runs) if self.per_line else runs:
            text = run.text.lstrip()
            lead = run.text[: len(run.text) - len(text)]
            wanted = [mark for mark in ORDER if mark in run.marks and mark in self.marks] if text else []
            written.keep(wanted)
            written.text(lead)
            written.open(wanted)
            if text:
                written.text((self.escape_code if Mark.CODE in wanted else self.escape)(text))
        written.keep([])
        return "".join(written.pieces)

    def _lines(self, runs: Runs) -> Iterable[Run]:
        """Runs with signs end with their lines, and the line feeds between them."""
        for run in runs:
            if run.marks.isdisjoint(self.marks):
                yield run
                continue
            for number, line in enumerate(run.text.split("\n")):
                if number:
                    yield Run("\n")
                if line:
                    yield run._replace(text=line)


class _Written:
    """What is written of a line, with the marks that are open."""

    def __init__(self, dialect: Dialect) -> None:
        self.pieces: list[str] = []
        self._marks = dialect.marks
        self._joint = dialect.joint
        self._open: list[Mark] = []
        self._after_sign = False

    def text(self, text: str) -> None:
        if text:
            if self._after_sign and text[0].isalnum():
                self.pieces.append(self._joint)
            self.pieces.append(text)
            self._after_sign = False

    def open(self, wanted: Sequence[Mark]) -> None:
        """Open what is wanted and not open yet."""
        for mark in wanted[len(self._open) :]:
            if not self._open and (self._after_sign or self._last().isalnum()):
                self.pieces.append(self._joint)
                self._after_sign = False
            self._open.append(mark)
            self.pieces.append(self._marks[mark][0])

    def keep(self, wanted: Sequence[Mark]) -> None:
        """Close what is open and not wanted, from the innermost on; space at the end comes behind the signs."""
        common = 0
        while common < min(len(self._open), len(wanted)) and self._open[common] == wanted[common]:
            common += 1
        if len(self._open) == common:
            return
        bare = self.pieces[-1].rstrip()
        space = self.pieces[-1][len(bare) :]
        self.pieces[-1] = bare
        while len(self._open) > common:
            self.pieces.append(self._marks[self._open.pop()][1])
        self._after_sign = not self._open
        self.text(space)

    def _last(self) -> str:
        return self.pieces[-1][-1:] if self.pieces else ""


def _by_link(runs: Runs) -> Iterable[tuple[str | None, Runs]]:
    """Runs in a row that lead to the same address."""
    row: list[Run] = []
    for run in runs:
        if row and row[-1].link != run.link:
            yield row[-1].link or None, tuple(row)
            row = []
        row.append(run)
    if row:
        yield row[-1].link or None, tuple(row)


def _unquoted(blocks: Blocks) -> Blocks:
    """Blocks without the quotes among them, whose own blocks stand in their place."""
    made: list[Block] = []
    for block in blocks:
        match block:
            case Quote(inner):
                made += _unquoted(inner)
            case Listing(items):
                made.append(Listing(tuple(item._replace(blocks=_unquoted(item.blocks)) for item in items)))
            case _:
                made.append(block)
    return tuple(made)


PLAIN = Dialect("plain", quote=("> ", ""))
"""Text without any signs, for SMS, push messages and the text part of mails."""


def text_of(blocks: Iterable[Block]) -> str:
    """Formatted text as plain text."""
    return PLAIN.write(blocks)

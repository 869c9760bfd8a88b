"""From HTML to a tree of formatted text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from msgcore.outbound.html_tokens import RAW_TEXT, attribute, tokens, unescape
from msgcore.outbound.rich.reading import Inline
from msgcore.outbound.rich.tree import Block, Blocks, Code, Item, Listing, Mark, Paragraph, Quote, Rule, Run, Runs

DEEPEST = 20
"""Quotes and lists within one another; deeper ones are read as if they were plain blocks."""

_SPACE = re.compile(r"[ \t\r\n\f]+")
_FIRST = re.compile(r"[0-9]{1,9}")
_MARKS = {
    **dict.fromkeys(("b", "strong"), Mark.BOLD),
    **dict.fromkeys(("i", "em", "cite", "dfn", "var"), Mark.ITALIC),
    **dict.fromkeys(("u", "ins"), Mark.UNDERLINE),
    **dict.fromkeys(("s", "del", "strike"), Mark.STRIKE),
    **dict.fromkeys(("code", "kbd", "samp", "tt"), Mark.CODE),
}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    (
        *("address", "article", "aside", "body", "center", "dd", "div", "dl", "dt", "fieldset", "figure", "footer"),
        *("form", "header", "main", "nav", "p", "section", "table", "tbody", "thead", "tr"),
    )
)
_APART = frozenset((*_HEADINGS, "dl", "figure", "p", "table"))
"""Blocks with an empty line around them; of others each begins a new line only."""

_ADDRESSES = ("http://", "https://", "mailto:", "tel:")


def read_html(html: str) -> Blocks:
    """The tree of an HTML document or fragment. Scripts, styles and comments are left out.

    Takes time that grows with the length of the HTML, whatever is in it.
    """
    reader, texts = _Reader(), list[str]()
    for tag, rest in tokens(html):
        if tag is None:
            texts.append(rest)
            continue
        if texts:
            reader.data(unescape("".join(texts)))
            texts.clear()
        if tag.startswith("/"):
            reader.end(tag[1:])
        else:
            reader.start(tag, rest)
    reader.data(unescape("".join(texts)))
    return reader.blocks()


@dataclass(slots=True)
class _Frame:
    """Something that holds blocks and is not closed yet; `number` is that of a list's next item."""

    tag: str
    items: list[Item] = field(default_factory=list[Item])
    number: int | None = None
    _blocks: list[Block] = field(default_factory=list[Block])
    _lines: list[Run] = field(default_factory=list[Run])
    """The last paragraph: lines are added to it one by one, and there may be very many."""

    def add(self, *blocks: Block) -> None:
        """Blocks below what is there."""
        self._end_lines()
        self._blocks += blocks

    def add_line(self, runs: Runs, *, apart: bool) -> None:
        """A line below what is there; of the same paragraph if that is what stands above, unless it stands `apart`."""
        if apart:
            self._end_lines()
        if self._lines:
            self._lines.append(Run("\n"))
        self._lines += runs

    def blocks(self) -> Blocks:
        """All that is in it."""
        self._end_lines()
        return tuple(self._blocks)

    def _end_lines(self) -> None:
        if self._lines:
            self._blocks.append(Paragraph(tuple(self._lines)))
            self._lines = []


class _Reader:
    def __init__(self) -> None:
        self._frames = [_Frame("")]
        self._inline = Inline()
        self._level = 0
        self._apart = False
        self._unseen = ""
        self._pre: list[str] | None = None
        self._ends: dict[str, Callable[[], None]] = {
            "a": self._end_link,
            "td": self._end_cell,
            "th": self._end_cell,
            "pre": self._end_pre,
        }

    def blocks(self) -> Blocks:
        """What was read; whatever is still open ends here."""
        self._end_pre()
        self._break()
        while len(self._frames) > 1:
            self._close(self._frames[-1].tag)
        return self._frames[0].blocks()

    def data(self, text: str) -> None:
        if self._unseen:
            return
        if self._pre is not None:
            self._pre.append(text)
        else:
            words = _SPACE.sub(" ", text)
            self._inline.write(words.lstrip() if self._inline.is_empty else words)

    def start(self, tag: str, attributes: str) -> None:
        if tag in RAW_TEXT:
            self._unseen = self._unseen or tag
        elif tag in _MARKS:
            self._inline.open(_MARKS[tag])
        elif tag in _HEADINGS or tag in _BLOCKS:
            self._break_at(tag)
            self._level = _HEADINGS.get(tag, 0)
        else:
            self._start_other(tag, attributes)

    def end(self, tag: str) -> None:
        if tag == self._unseen:
            self._unseen = ""
        elif tag in _MARKS:
            self._inline.close(_MARKS[tag])
        elif tag in _HEADINGS or tag in _BLOCKS:
            self._break_at(tag)
        elif tag in ("blockquote", "ul", "ol", "li"):
            self._close(tag)
        elif tag in self._ends:
            self._ends[tag]()

    def _start_other(self, tag: str, attributes: str) -> None:
        match tag:
            case "br":
                self.data("\n") if self._pre is not None else self._inline.write("\n")
            case "hr":
                self._add(Rule())
            case "pre":
                self._break()
                self._pre = []
            case "blockquote" | "ul":
                self._open(tag, None)
            case "ol":
                first = attribute(attributes, "start") or "1"
                self._open(tag, int(first) if _FIRST.fullmatch(first) else 1)
            case "li":
                if self._frames[-1].tag == "li":  # its end may be left out
                    self._close("li")
                self._open(tag, None)
            case "a":
                self._inline.open_link(_address(attribute(attributes, "href")))
            case "img":
                self._inline.image(attribute(attributes, "alt"), _address(attribute(attributes, "src")))
            case _:
                pass

    def _open(self, tag: str, number: int | None) -> None:
        self._break()
        if len(self._frames) < DEEPEST:
            self._frames.append(_Frame(tag, number=number))

    def _close(self, tag: str) -> None:
        """End the innermost frame of this name, and what was left open within it."""
        self._break()
        if all(frame.tag != tag for frame in self._frames[1:]):
            return
        closed = ""
        while closed != tag:
            frame = self._frames.pop()
            closed = frame.tag
            self._put(frame)

    def _put(self, frame: _Frame) -> None:
        """A frame that has ended becomes part of the one around it."""
        around = self._frames[-1]
        if frame.tag == "li":
            if around.tag in ("ul", "ol"):
                around.items.append(Item(around.number, frame.blocks()))
                around.number = None if around.number is None else around.number + 1
            else:  # an item without a list
                around.add(Listing((Item(None, frame.blocks()),)))
        elif frame.tag == "blockquote":
            around.add(Quote(frame.blocks()))
        else:
            # What is in a list and in none of its items comes first.
            around.add(*frame.blocks(), Listing(tuple(frame.items)))

    def _end_link(self) -> None:
        self._inline.close_link()

    def _end_cell(self) -> None:
        self._inline.write("  ")

    def _end_pre(self) -> None:
        if self._pre is not None:
            lines, self._pre = "".join(self._pre), None
            self._add(Code(lines.strip("\n")))

    def _break_at(self, tag: str) -> None:
        self._break()
        self._apart = self._apart or tag in _APART

    def _break(self) -> None:
        """End the paragraph, or the line."""
        runs = self._inline.runs()
        self._inline.restart()
        if runs:
            if self._level:
                self._frames[-1].add(Paragraph(runs, self._level))
            else:
                self._frames[-1].add_line(runs, apart=self._apart)
            self._apart = False
        self._level = 0

    def _add(self, block: Block) -> None:
        self._break()
        self._frames[-1].add(block)


def _address(given: str) -> str:
    """An address that may be led to; an empty one for a place in the document, or for what would run something."""
    return given if given.lower().startswith(_ADDRESSES) else ""

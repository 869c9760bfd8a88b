"""From markdown and HTML to a tree of formatted text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgcore.outbound.markdown import MARKDOWN
from msgcore.outbound.rich.tree import (
    NO_MARKS,
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

if TYPE_CHECKING:
    from markdown_it.token import Token

_MARKS = {"strong": Mark.BOLD, "em": Mark.ITALIC, "s": Mark.STRIKE}


def read_markdown(markdown: str) -> Blocks:
    """The tree of a markdown text (CommonMark with tables and strikethrough; HTML in it is shown as text)."""
    return _Reader(MARKDOWN.parse(markdown)).blocks()


@dataclass(slots=True)
class _Reader:
    """Walks over the parser's flat list of tokens."""

    tokens: Sequence[Token]
    at: int = 0

    def blocks(self, until: str = "") -> Blocks:
        """The blocks up to the token that closes the present one."""
        found: list[Block] = []
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            self.at += 1
            if token.type == until:
                break
            block = self._block(token)
            if block is not None:
                found.append(block)
        return tuple(found)

    def _block(self, token: Token) -> Block | None:
        block: Block | None = None
        match token.type:
            case "paragraph_open" | "heading_open":
                runs = read_inline(self.tokens[self.at].children or ())
                self.at += 2
                block = Paragraph(runs, int(token.tag[1]) if token.tag.startswith("h") else 0)
            case "fence" | "code_block":
                block = Code(token.content.rstrip("\n"), token.info.split()[0] if token.info.strip() else "")
            case "blockquote_open":
                block = Quote(self.blocks("blockquote_close"))
            case "bullet_list_open":
                block = self._list("bullet_list_close", None)
            case "ordered_list_open":
                block = self._list("ordered_list_close", int(token.attrGet("start") or 1))
            case "table_open":
                block = self._table()
            case "hr":
                block = Rule()
            case _:
                pass
        return block

    def _list(self, until: str, number: int | None) -> Listing:
        items: list[Item] = []
        while self.tokens[self.at].type != until:
            self.at += 1  # list_item_open
            items.append(Item(number, self.blocks("list_item_close")))
            number = None if number is None else number + 1
        self.at += 1
        return Listing(tuple(items))

    def _table(self) -> Table:
        rows: list[tuple[Runs, ...]] = []
        cells: list[Runs] = []
        while (token := self.tokens[self.at]).type != "table_close":
            self.at += 1
            if token.type == "tr_open":
                cells = []
            elif token.type == "inline":
                cells.append(read_inline(token.children or ()))
            elif token.type == "tr_close":
                rows.append(tuple(cells))
        self.at += 1
        return Table(tuple(rows))


def read_inline(tokens: Iterable[Token]) -> Runs:
    """The runs of one line of markdown's tokens."""
    writer = Inline()
    for token in tokens:
        name = token.tag
        match token.type:
            case "text" | "text_special":
                writer.write(token.content)
            case "softbreak" | "hardbreak":
                writer.write("\n")
            case "code_inline":
                writer.write(token.content, Mark.CODE)
            case "image":
                writer.image(token.content, str(token.attrGet("src") or ""))
            case "link_open":
                writer.open_link(str(token.attrGet("href") or ""))
            case "link_close":
                writer.close_link()
            case _ if name in _MARKS:
                (writer.open if token.nesting > 0 else writer.close)(_MARKS[name])
            case _:
                pass
    return writer.runs()


Look = tuple[frozenset[Mark], str | None]


@dataclass(slots=True)
class Inline:
    """Collects runs, with the marks and the link that are open; each piece of text is touched a few times only."""

    _pieces: list[tuple[Look, list[str]]] = field(default_factory=list[tuple[Look, list[str]]])
    _open: Counter[Mark] = field(default_factory=Counter[Mark])
    _marks: frozenset[Mark] = NO_MARKS
    _links: list[str] = field(default_factory=list[str])
    is_empty: bool = True
    """Whether nothing but space was written."""

    def write(self, text: str, *more: Mark) -> None:
        """Text with the marks that are open, and these."""
        if not text:
            return
        look = (self._marks.union(more), self._links[-1] if self._links else None)
        if self._pieces and self._pieces[-1][0] == look:
            self._pieces[-1][1].append(text)
        else:
            self._pieces.append((look, [text]))
        self.is_empty = self.is_empty and text.isspace()

    def image(self, alt: str, source: str) -> None:
        """An image in the middle of a text: its words, leading to it."""
        shown = source if source and not source.startswith(("cid:", "data:")) else None
        if shown is None or self._links:
            self.write(alt)
            return
        self._links.append(shown)
        self.write(alt or shown)
        self._links.pop()

    def open(self, mark: Mark) -> None:
        """From here on."""
        self._open[mark] += 1
        self._marks |= {mark}

    def close(self, mark: Mark) -> None:
        """Up to here; a mark that is not open is none."""
        self._open[mark] = max(0, self._open[mark] - 1)
        if not self._open[mark]:
            self._marks -= {mark}

    def open_link(self, address: str) -> None:
        """From here on, what is written leads there."""
        self._links.append(address)

    def close_link(self) -> None:
        """Up to here."""
        if self._links:
            self._links.pop()

    def runs(self) -> Runs:
        """What was written, without space at both ends."""
        if self.is_empty:
            return ()
        runs = [Run("".join(texts), *look) for look, texts in self._pieces]
        start = next(index for index, run in enumerate(runs) if not run.text.isspace())
        end = next(index for index in range(len(runs) - 1, -1, -1) if not runs[index].text.isspace())
        runs = runs[start : end + 1]
        runs[0] = runs[0]._replace(text=runs[0].text.lstrip())
        runs[-1] = runs[-1]._replace(text=runs[-1].text.rstrip())
        return tuple(runs)

    def restart(self) -> None:
        """Begin a new paragraph; marks and links that are open stay open."""
        self._pieces.clear()
        self.is_empty = True

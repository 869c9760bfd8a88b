"""Formatted text as `org.matrix.custom.html`, and the plain text that stands beside it.

Source: https://spec.matrix.org/v1.18/client-server-api/#mroommessage-msgtypes (the tags and attributes that clients
show, and the schemes of links).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape as escape_html

import msgspec

from msgcore.outbound.html_tokens import unescape
from msgcore.outbound.rich.dialect import Dialect, spelled_out, text_of
from msgcore.outbound.rich.html import read_html
from msgcore.outbound.rich.tree import Block, Code, Listing, Mark, Paragraph, Quote, Rule, Table

LONGEST = 29_000
"""Bytes of a text as JSON. A whole event has 65,536 (#size-limits): the text twice, and what the server adds."""

_SCHEMES = ("https://", "http://", "ftp://", "mailto:", "magnet:")
_NO_LANGUAGE = re.compile(r"[^A-Za-z0-9_+#.-]")
_BREAKS = re.compile(r"(<br>)|(</p><p>)|</?p>")


class MatrixHtml(Dialect):
    """The dialect. Its blocks are elements, where other dialects put lines."""

    def write(self, blocks: Iterable[Block]) -> str:
        """Blocks one below the other; a paragraph that is alone stands without a tag."""
        made = list(blocks)
        match made:
            case [Paragraph(runs, 0)]:
                return self.inline(runs)
            case _:
                return "".join(map(self.block, made))

    def block(self, block: Block) -> str:
        """One block as an element."""
        match block:
            case Paragraph(runs, level):
                inner = self.inline(runs)
                tag = f"h{min(level, 6)}" if level else "p"
                return f"<{tag}>{inner}</{tag}>" if inner else ""
            case Code(code, language):
                kind = _NO_LANGUAGE.sub("", language)
                named = f' class="language-{kind}"' if kind else ""
                return f"<pre><code{named}>{self.escape_code(code)}</code></pre>"
            case Quote(blocks):
                return f"<blockquote>{self.write(blocks)}</blockquote>"
            case Listing():
                return self._list(block)
            case Table(rows):
                cells = ("".join(f"<td>{self.inline(cell)}</td>" for cell in row) for row in rows)
                return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
            case Rule():
                return "<hr>"

    def _list(self, listing: Listing) -> str:
        first = listing.items[0].number if listing.items else None
        items = "".join(f"<li>{self.write(item.blocks)}</li>" for item in listing.items)
        if first is None:
            return f"<ul>{items}</ul>" if items else ""
        return f"<ol>{items}</ol>" if first == 1 else f'<ol start="{first}">{items}</ol>'


def _text(written: str) -> str:
    return _code(written).replace("\n", "<br>")


def _code(written: str) -> str:
    return escape_html(written, quote=False)


def _link(words: str, address: str) -> str:
    if not address.lower().startswith(_SCHEMES):
        return spelled_out(words, _text(address))
    return f'<a href="{escape_html(address)}">{words or _text(address)}</a>'


DIALECT = MatrixHtml(
    "Matrix HTML",
    marks={
        Mark.BOLD: ("<strong>", "</strong>"),
        Mark.ITALIC: ("<em>", "</em>"),
        Mark.UNDERLINE: ("<u>", "</u>"),
        Mark.STRIKE: ("<del>", "</del>"),
        Mark.CODE: ("<code>", "</code>"),
        Mark.SPOILER: ("<span data-mx-spoiler>", "</span>"),
    },
    escape=_text,
    escape_code=_code,
    link=_link,
)


def size(html: str) -> int:
    """Bytes of a text as events have it."""
    return len(msgspec.json.encode(html)) - len(b'""')


def body_of(html: str) -> dict[str, str]:
    """The fields of an event that have a text; plain text has no second form."""
    bare = _BREAKS.sub(lambda found: "\n" if found[1] else "\n\n" if found[2] else "", html)
    if "<" not in bare:
        return {"body": unescape(bare)}
    return {
        "body": cut(text_of(read_html(html)), LONGEST),
        "format": "org.matrix.custom.html",
        "formatted_body": html,
    }


def cut(body: str, longest: int) -> str:
    """So much of a plain text as fits; only what stands beside its HTML is cut."""
    while size(body) > longest:
        body = body[: len(body) * longest // size(body) - 1]
    return body

"""HTML to plain text, in time that grows with the length of the HTML whatever is in it.

The standard library's HTMLParser needs minutes for some 400 kB inputs (unclosed comments), which is
too long for texts that anybody may send; hence a tokenizer of our own, which reads each character
a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

DEEPEST_INDENT = 8

_TAG_NAME = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_TAG_REST = re.compile(r"""(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
_ATTRIBUTE = re.compile(r"""([A-Za-z-]++)\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'>]++)""")
_SPACE = re.compile(r"[ \t\r\n\f]+")
_EMPTY_LINES = re.compile(r"\n{3,}")

_RAW_TEXT = frozenset(("script", "style", "template", "title", "textarea", "noscript"))
_PARAGRAPHS = frozenset(("blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"))
_BLOCKS = _PARAGRAPHS | frozenset(
    (
        *("address", "article", "aside", "body", "center", "dd", "div", "dt", "fieldset", "figure", "footer"),
        *("form", "header", "li", "main", "nav", "section", "tbody", "thead", "tr"),
    )
)


def html_to_text(html: str) -> str:
    """What a reader sees of an HTML document or fragment, as plain text.

    Paragraphs are parted by empty lines, list items marked, links and images written as
    `words (address)`. Scripts, styles and comments are left out.
    """
    writer = _Writer()
    for tag, rest in _tokens(html):
        if tag is None:
            writer.data(unescape(rest))
        elif tag.startswith("/"):
            writer.end(tag[1:])
        else:
            writer.start(tag, rest)
    return writer.text()


def _tokens(html: str) -> Iterator[tuple[str | None, str]]:
    """Texts as (None, text), tags as (name, attributes) or (/name, "").

    Whatever is opened and never closed swallows the rest, as in a browser.
    """
    position = 0
    quotes_match = True
    while position < len(html):
        start = html.find("<", position)
        if start < 0:
            yield None, html[position:]
            return
        if start > position:
            yield None, html[position:start]
        if html.startswith(("<!", "<?"), start):
            comment = html.startswith("<!--", start)
            end = html.find("-->" if comment else ">", start + 2)
            if end < 0:
                return
            position = end + (3 if comment else 1)
            continue
        name = _TAG_NAME.match(html, start)
        if name is None:
            yield None, "<"
            position = start + 1
            continue
        closed = _TAG_REST.match(html, name.end()) if quotes_match else None
        quotes_match = closed is not None
        end = closed.end() if closed is not None else html.find(">", name.end()) + 1
        if end == 0:
            return
        tag = name[2].lower()
        yield name[1] + tag, html[name.end() : end - 1]
        position = end
        if tag in _RAW_TEXT and not name[1]:
            closing = re.compile(f"</{tag}", re.IGNORECASE).search(html, end)
            if closing is None:
                return
            position = closing.start()


class _Writer:
    """Collects the visible text."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._preformatted = 0
        self._lists: list[int | None] = []  # the next number of each open list; None where it has none
        self._link: tuple[str, int] | None = None
        self._after_mark = 0  # how many parts there were when the last item's mark was written

    def text(self) -> str:
        lines = (line.rstrip() for line in "".join(self._parts).split("\n"))
        return _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n")

    def data(self, text: str) -> None:
        if self._preformatted:
            self._write(text)
            return
        words = _SPACE.sub(" ", text)
        if words.startswith(" ") and (not self._parts or self._parts[-1].endswith((" ", "\n"))):
            words = words[1:]
        self._write(words)

    def start(self, tag: str, attributes: str) -> None:
        if tag in _BLOCKS:
            self._break(tag)
        match tag:
            case "br":
                self._write("\n")
            case "hr":
                self._break("p")
                self._write("-----\n\n")
            case "pre":
                self._preformatted += 1
            case "ol":
                first = _attribute(attributes, "start") or "1"
                self._lists.append(int(first) if re.fullmatch(r"[0-9]{1,9}", first) else 1)
            case "ul":
                self._lists.append(None)
            case "li":
                self._item()
            case "a":
                self._link = (_attribute(attributes, "href"), len(self._parts))
            case "img":
                self._image(_attribute(attributes, "alt"), _attribute(attributes, "src"))
            case _:
                pass

    def end(self, tag: str) -> None:
        match tag:
            case "ol" | "ul" if self._lists:
                self._lists.pop()
            case "pre":
                self._preformatted = max(0, self._preformatted - 1)
            case "a" if self._link is not None:
                address, start = self._link
                self._link = None
                if address and not address.startswith("#") and address != "".join(self._parts[start:]).strip():
                    self._write(f" ({address.removeprefix('mailto:')})")
            case "td" | "th":
                self._write("  ")
            case _:
                pass
        if tag in _BLOCKS:
            self._break(tag)

    def _item(self) -> None:
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        indent = "  " * min(DEEPEST_INDENT, max(0, len(self._lists) - 1))
        self._write(indent + ("- " if number is None else f"{number}. "))
        self._after_mark = len(self._parts)

    def _image(self, alt: str, source: str) -> None:
        shown = f"({source})" if source and not source.startswith(("cid:", "data:")) else ""
        self._write(" ".join(part for part in (alt, shown) if part))

    def _break(self, tag: str) -> None:
        """End the line, and the paragraph; but an item's text stays on the line of its mark."""
        if not self._parts or len(self._parts) == self._after_mark:
            return
        paragraph = tag in _PARAGRAPHS and not self._lists
        last = self._parts[-1]
        if not last.endswith("\n\n" if paragraph else "\n"):
            self._write("\n\n" if paragraph and not last.endswith("\n") else "\n")

    def _write(self, text: str) -> None:
        if text:
            self._parts.append(text)


def _attribute(attributes: str, name: str) -> str:
    for match in _ATTRIBUTE.finditer(attributes):
        if match[1].lower() == name:
            return unescape(match[2].strip("\"'")).strip()
    return ""

"""HTML as tags and texts, in time that grows with the length of the HTML whatever is in it.

The standard library's HTMLParser needs minutes for some 400 kB inputs (unclosed comments), which is
too long for texts that anybody may send; hence a tokenizer of our own, which reads each character
a bounded number of times.
"""

from __future__ import annotations

import html as standard
import re
from collections.abc import Iterator

_TAG_NAME = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_TAG_REST = re.compile(r"""(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
# A name begins where no other letter stands before it, or a long one would be looked through from each of its letters.
_ATTRIBUTE = re.compile(r"""(?<![A-Za-z-])([A-Za-z-]++)\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'>]++)""")
RAW_TEXT = frozenset(("script", "style", "template", "title", "textarea", "noscript"))
"""Elements whose content is no HTML, or is never seen."""

_LONG_NUMBER = re.compile(r"&#([0-9]{8,}+)")


def tokens(html: str) -> Iterator[tuple[str | None, str]]:
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
        if tag in RAW_TEXT and not name[1]:
            closing = re.compile(f"</{tag}", re.IGNORECASE).search(html, end)
            if closing is None:
                return
            position = closing.start()


def attribute(attributes: str, name: str) -> str:
    """The value of an attribute, out of what stands in a tag behind its name; empty where it has none."""
    for match in _ATTRIBUTE.finditer(attributes):
        if match[1].lower() == name:
            return unescape(match[2].strip("\"'")).strip()
    return ""


def unescape(text: str) -> str:
    """Text with its entities as the characters that they stand for, however long their numbers are.

    The standard library raises ValueError for a number with thousands of digits; what is beyond Unicode is U+FFFD.
    """
    return standard.unescape(_LONG_NUMBER.sub(lambda found: "&#" + (found[1].lstrip("0")[:8] or "0"), text))

"""HTML to plain text."""

from __future__ import annotations

from msgcore.outbound.rich.dialect import PLAIN
from msgcore.outbound.rich.html import read_html


def html_to_text(html: str) -> str:
    """What a reader sees of an HTML document or fragment, as plain text.

    Paragraphs are parted by empty lines, list items marked, links and images written as
    `words (address)`. Scripts, styles and comments are left out. Takes time that grows with the length
    of the HTML, whatever is in it.
    """
    return PLAIN.write(read_html(html))

"""Markdown to HTML that is safe to send."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

# "js-default" is CommonMark with tables and strikethrough; raw HTML is shown as text, and links to
# javascript:, vbscript:, file: and data: are left as text.
MARKDOWN = MarkdownIt("js-default", {"html": False, "linkify": False, "typographer": False})

LONGEST = 100_000
"""Characters. The parser's time grows with the square of hostile input; this much takes seconds at worst."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&])")


def to_html(markdown: str) -> str:
    """Safe HTML (a fragment, no `<html>`) of a markdown text."""
    return MARKDOWN.render(markdown)


def escape(text: str) -> str:
    """Markdown that shows a text as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))

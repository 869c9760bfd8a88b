"""Markdown to HTML that is safe to send; and the parser, in time that grows with the length of a text whatever it is.

The parser reads lines again for each quote and list around them, text again for each bracket, and makes up cells
that rows of a table lack: all three have limits here, beyond which signs are read as text.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.rules_block import paragraph

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock

LONGEST = 100_000
"""Characters: what takes about a second to be read at worst."""
DEEPEST = 12
"""Quotes, lists and items within one another (a list with its item is two)."""
SHALLOWEST = 4
"""The same where lines are many."""
_LINES = 24_000
"""Lines times depth; what is deeper than it allows is read as text."""
_NESTED_SIGNS = 20
"""Brackets within one another."""
_MISSING_CELLS = 500
"""Cells that rows of one table may lack."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&])")


def _deepest(state: StateBlock, start: int, end: int, silent: bool) -> bool:  # noqa: FBT001 - as the parser calls it
    """A paragraph, where nothing may be nested any deeper."""
    deepest = max(SHALLOWEST, min(DEEPEST, _LINES // len(state.bMarks)))
    return state.level >= deepest and paragraph(state, start, end, silent)


def _parser() -> MarkdownIt:
    # "js-default" is CommonMark with tables and strikethrough; raw HTML is shown as text, and links to
    # javascript:, vbscript:, file: and data: are left as text.
    options = {"html": False, "linkify": False, "typographer": False, "maxNesting": _NESTED_SIGNS}
    parser = MarkdownIt("js-default", options)
    parser.disable(["html_block", "html_inline", "linkify"])  # asked at each line and sign, to say no
    parser.block.ruler.before("table", "deepest", _deepest)
    vars(import_module("markdown_it.rules_block.table"))["MAX_AUTOCOMPLETED_CELLS"] = _MISSING_CELLS
    return parser


MARKDOWN = _parser()


def to_html(markdown: str) -> str:
    """Safe HTML (a fragment, no `<html>`) of a markdown text."""
    return MARKDOWN.render(markdown)


def escape(text: str) -> str:
    """Markdown that shows a text as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))

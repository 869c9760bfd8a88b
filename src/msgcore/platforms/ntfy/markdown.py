"""Markdown as ntfy's apps read it: CommonMark, without strikethrough and tables.

Source: https://docs.ntfy.sh/publish/#markdown-formatting. The web app and the one for Android show it; others show the
signs, so a message that is plain text goes out as such.
"""

from __future__ import annotations

import re

from msgcore.outbound.rich.dialect import Dialect
from msgcore.outbound.rich.tree import Block, Code, Mark, Table

ZERO_WIDTH = "\u200b"

# Signs within a line, and those that count only where a line begins: headings (of both kinds), lists.
_SIGN = re.compile(r"([\\`*_\[\]<>&~|])|^([ \t]*)([#+=-])|^([ \t]*\d{1,9})([.)])", re.MULTILINE)
_BESIDE_BACKTICK = re.compile(r"`(?=`)")
_ENDS_ADDRESS = str.maketrans({"<": "%3C", ">": "%3E", "\\": "%5C", " ": "%20", "\n": ""})


def escape(text: str) -> str:
    """Text that shows its signs, and its lines as lines."""
    return _SIGN.sub(_escaped, text).replace("\n", "\\\n")


def _escaped(found: re.Match[str]) -> str:
    sign, indent, block, number, dot = found.groups()
    if sign is not None:
        return f"\\{sign}"
    return f"{indent}\\{block}" if number is None else f"{number}\\{dot}"


def _code(text: str) -> str:
    """Code, whose backticks must neither stand in a row nor beside the signs."""
    apart = _BESIDE_BACKTICK.sub(f"`{ZERO_WIDTH}", text)
    before = ZERO_WIDTH if apart.startswith("`") else ""
    after = ZERO_WIDTH if apart.endswith("`") else ""
    return f"{before}{apart}{after}"


def _link(words: str, address: str) -> str:
    return f"[{words.strip() or escape(address)}](<{address.translate(_ENDS_ADDRESS)}>)"


class _Markdown(Dialect):
    __slots__ = ()

    def block(self, block: Block) -> str:
        match block:
            case Table():  # lines of a paragraph flow into one another
                return super().block(block).replace("\n", "\\\n")
            case Code(text, language):
                return super().block(Code(text, language.replace("`", "")))
            case _:
                return super().block(block)


MARKDOWN = _Markdown(
    "ntfy markdown",
    marks={Mark.BOLD: ("**", "**"), Mark.ITALIC: ("*", "*"), Mark.CODE: ("``", "``")},
    heading=("{level} ", ""),
    code=("```{language}\n", "\n```"),
    rule="---",
    joint=ZERO_WIDTH,
    escape=escape,
    escape_code=_code,
    link=_link,
)

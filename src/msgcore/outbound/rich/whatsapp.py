"""WhatsApp's signs, which are the same whatever API a message goes through.

Source: https://faq.whatsapp.com/539178204879377, "How to format your messages". There is no sign that takes the meaning
from others, but a sign only opens where a word follows it at once: a hair space keeps it from that.
"""

from __future__ import annotations

import re

from msgcore.outbound.rich.dialect import Dialect
from msgcore.outbound.rich.tree import Mark

HAIR_SPACE = "\u200a"
_SIGNS = "*_~`"
_LOOKS_LIKE_BACKTICK = "\u02cb"
_SIGN = re.compile(r"[*_~`]")
_TOKEN = re.compile(r"https?://\S+|[*_~`]")


def escape(text: str) -> str:
    """Text that shows its signs. Addresses stay as they are: WhatsApp reads no signs in them."""
    return "\n".join(map(_line, text.split("\n"))) if _SIGN.search(text) else text


def _line(line: str) -> str:
    # Signs do not reach over the end of a line, and one that is not closed means nothing.
    last = {sign: line.rfind(sign) for sign in _SIGNS}

    def shown(match: re.Match[str]) -> str:
        sign, end = match[0], match.end()
        if len(sign) > 1 or end > last[sign] or line[end].isspace():
            return sign
        within_a_word = match.start() > 0 and line[match.start() - 1].isalnum() and line[end].isalnum()
        return sign if within_a_word else sign + HAIR_SPACE

    return _TOKEN.sub(shown, line)


def _escape_code(text: str) -> str:
    return text.replace("`", _LOOKS_LIKE_BACKTICK)


WHATSAPP = Dialect(
    "WhatsApp",
    marks={
        Mark.BOLD: ("*", "*"),
        Mark.ITALIC: ("_", "_"),
        Mark.STRIKE: ("~", "~"),
        Mark.CODE: ("`", "`"),
    },
    heading=("*", "*"),
    quote=("> ", ""),
    code=("```", "```"),
    joint="\u200b",
    per_line=True,
    escape=escape,
    escape_code=_escape_code,
)

"""Discord's markdown: writing it, so that nothing in a text is read as a sign or a mention that was not meant as one.

Source: https://docs.discord.com/developers/reference#message-formatting and
https://support.discord.com/hc/en-us/articles/210298617 (Markdown Text 101). A backslash takes a sign's meaning from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgcore.outbound.rich.dialect import Dialect, spelled_out
from msgcore.outbound.rich.tree import Mark

ZERO_WIDTH = "\u200b"

# Signs within a line, and those that count only where a line begins: headings, small print, quotes, lists. Addresses
# are found by Discord itself, and what is in them is no sign.
_SIGN = re.compile(
    r"(?P<url>https?://[^\s<]+[^<.,:;\"')\]\s])"
    r"|(?P<sign>[\\*_~`|<\[\]])"
    r"|^(?P<indent>[ \t]*)(?:(?P<block>\#{1,3}(?=\s)|-\#(?=\s)|>|[-+](?=\s))|(?P<number>\d+)(?=\.\s))",
    re.MULTILINE,
)
_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
_ENDS_LINK = str.maketrans({"(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "\\": "%5C"})
# What would end a mark around an address, written so that it means the same (RFC 3986, section 2.1).
_ENDS_MARK = {"*": "%2A", "|": "%7C", "`": "%60", "~~": "~%7E", "__": "_%5F"}
_FENCE = re.compile(r"`(?=`)")
_MENTIONS = {"users": re.compile(r"\\<(@!?[0-9]{1,20})>"), "roles": re.compile(r"\\<(@&[0-9]{1,20})>")}


def escape(text: str) -> str:
    """Text that shows its signs."""
    return _SIGN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    if found["url"]:
        return _address(found["url"])
    if found["sign"]:
        return f"\\{found['sign']}"
    if found["number"]:
        return f"{found['indent']}{found['number']}\\"
    return f"{found['indent']}\\{found['block']}"


def _address(address: str) -> str:
    for sign, written in _ENDS_MARK.items():
        address = address.replace(sign, written)
    return address


def _code(text: str) -> str:
    """Code, whose backticks must neither stand in a row nor beside the signs."""
    apart = _FENCE.sub(f"`{ZERO_WIDTH}", text)
    before = ZERO_WIDTH if apart.startswith("`") else ""
    after = ZERO_WIDTH if apart.endswith("`") else ""
    return f"{before}{apart}{after}"


def _link(words: str, address: str) -> str:
    """A link; one whose words look like an address themselves, Discord shows as it is written."""
    shown = " ".join(words.split())
    if not _ADDRESS.fullmatch(address) or ("://" in shown and shown != escape(address)):
        return spelled_out(shown, escape(address))
    safe = _address(address.translate(_ENDS_LINK))
    return safe if shown in ("", escape(address)) else f"[{shown}]({safe})"


DIALECT = Dialect(
    "Discord markdown",
    marks={
        Mark.BOLD: ("**", "**"),
        Mark.ITALIC: ("*", "*"),
        Mark.UNDERLINE: ("__", "__"),
        Mark.STRIKE: ("~~", "~~"),
        Mark.CODE: ("``", "``"),
        Mark.SPOILER: ("||", "||"),
    },
    heading=("{level} ", ""),
    quote_blank="> ",
    code=("```{language}\n", "\n```"),
    joint=ZERO_WIDTH,
    escape=escape,
    escape_code=_code,
    link=_link,
)


def with_mentions(text: str, kinds: Iterable[str]) -> str:
    """Written text in which `<@id>` and `<@&id>` are mentions, where they are allowed."""
    for kind in kinds:
        if kind in _MENTIONS:
            text = _MENTIONS[kind].sub(r"<\1>", text)
    return text


def length(text: str) -> int:
    """Characters as Discord's own clients count them (UTF-16), which is never less than what its API counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2

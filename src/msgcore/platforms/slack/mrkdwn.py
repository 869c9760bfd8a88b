"""Slack's own markup: writing it, and reading it as plain text.

Source: https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re

from msgcore.outbound.html_tokens import unescape
from msgcore.outbound.rich.dialect import Dialect, spelled_out
from msgcore.outbound.rich.tree import Mark

ZERO_WIDTH = "\u200b"

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:[^\s]+", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s|]*[^\s|.,;:!?()\[\]'\"*_~`]", re.IGNORECASE)
_FENCE = re.compile(r"`(?=`)")
_OUTSIDE = "*_~"
"""Signs that stand around a link, as in the examples of Block Kit (`*<https://...|words>*`)."""
_BRACKETS = re.compile(r"<([^<>]*)>")


def escape(text: str) -> str:
    """The three characters that Slack reads ("Escaping text"), so that no mention is in a text that has none."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _text(text: str) -> str:
    """Text, with its addresses as links: nothing is found out by Slack itself where `verbatim` is set."""
    pieces: list[str] = []
    at = 0
    for found in _URL.finditer(text):
        pieces += [escape(text[at : found.start()]), f"<{escape(found[0])}>"]
        at = found.end()
    return "".join((*pieces, escape(text[at:])))


def _code(text: str) -> str:
    """Code, whose backticks in a row must not end it."""
    return _FENCE.sub(f"`{ZERO_WIDTH}", escape(text))


def _link(words: str, address: str) -> str:
    """A link; what is no address with a scheme could be a mention (`<!channel>`, `<@U1>`) and is written out."""
    bare = words.replace("<", "").replace(">", "").replace("\n", " ")
    if not _ADDRESS.fullmatch(address):
        return escape(spelled_out(unescape(bare), address))
    shown = escape(address.replace("|", "%7C"))
    signs = ""
    while len(bare) > len("**") and bare[0] == bare[-1] and bare[0] in _OUTSIDE:
        signs, bare = signs + bare[0], bare[1:-1]
    link = f"<{shown}|{bare}>" if bare.strip() and bare != shown else f"<{shown}>"
    return f"{signs}{link}{signs[::-1]}"


# Signs count only beside what is no letter, so a zero-width space parts them from letters.
DIALECT = Dialect(
    "Slack mrkdwn",
    marks={Mark.BOLD: ("*", "*"), Mark.ITALIC: ("_", "_"), Mark.STRIKE: ("~", "~"), Mark.CODE: ("`", "`")},
    heading=("*", "*"),
    code=("```\n", "\n```"),
    bullet="• ",
    joint=ZERO_WIDTH,
    escape=_text,
    escape_code=_code,
    link=_link,
)


def elements(mrkdwn: str) -> list[dict[str, str]]:
    """Markup without marks as the elements of a rich text section, in which nothing is read as a sign."""
    found: list[dict[str, str]] = []
    for index, piece in enumerate(_BRACKETS.split(mrkdwn)):
        if index % 2:
            address, _, words = piece.partition("|")
            link = {"type": "link", "url": unescape(address)}
            found.append(link | {"text": unescape(words)} if words else link)
        elif piece:
            found.append({"type": "text", "text": unescape(piece)})
    return found


def read(mrkdwn: str) -> str:
    """Markup as people see it: mentions by their name or id, links with their address, no entities."""
    return unescape(_BRACKETS.sub(_seen, mrkdwn))


def _seen(found: re.Match[str]) -> str:
    target, _, words = found[1].partition("|")
    match target[:1]:
        case "@" | "#":
            return target[0] + (words.lstrip("@#") or target[1:])
        case "!":  # <!here>, <!subteam^S1|@team>, <!date^1392734382^...|words>
            return words or "@" + target[1:].partition("^")[0]
        case _:
            return spelled_out(words, target)

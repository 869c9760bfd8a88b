"""Buttons and embeds as Block Kit (https://docs.slack.dev/reference/block-kit)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

from msgcore.core.content import Button, ButtonStyle, Embed, EmbedField
from msgcore.outbound.rich.dialect import text_of
from msgcore.outbound.rich.reading import read_markdown
from msgcore.outbound.rich.splitting import split
from msgcore.outbound.rich.tree import NO_MARKS, Blocks, Mark, Paragraph, Run
from msgcore.platforms.slack.mrkdwn import DIALECT, elements

Block = dict[str, Any]

BLOCKS = 50
"""Blocks of a message (reference/block-kit/blocks)."""
SECTION = 3000
"""Characters of a section's text (reference/block-kit/composition-objects/text-object)."""
FIELDS = 10
"""Fields of a section, and characters of one (reference/block-kit/blocks/section-block)."""
FIELD = 2000
ELEMENTS = 25
"""Elements of an actions block (reference/block-kit/blocks/actions-block)."""
ADDRESS = 3000
"""Characters of a button's `url` (block-elements/button-element) and of an image's (blocks/image-block)."""
ALT = 2000
FALLBACK = 150

_BOLD = frozenset((Mark.BOLD,))
_COLOR = re.compile(r"#?([0-9a-fA-F]{6})")
_STYLES = {ButtonStyle.PRIMARY: "primary", ButtonStyle.SUCCESS: "primary", ButtonStyle.DANGER: "danger"}


def mrkdwn(text: str) -> Block:
    """A text object; `verbatim`, so that Slack makes no mentions of names in it."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def section(text: str) -> Block:
    """A paragraph in markup."""
    return {"type": "section", "text": mrkdwn(text)}


def plain(text: str) -> Block:
    """A paragraph in which nothing is markup, given as markup without marks."""
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements(text)}]}


def actions(buttons: Sequence[Button]) -> list[Block]:
    """Buttons in as many rows as they need."""
    keys = [_key(button, index) for index, button in enumerate(buttons)]
    return [{"type": "actions", "elements": keys[start : start + ELEMENTS]} for start in range(0, len(keys), ELEMENTS)]


def _key(button: Button, index: int) -> Block:
    key: Block = {
        "type": "button",
        "action_id": f"button.{index}",
        "text": {"type": "plain_text", "text": button.text, "emoji": True},
    }
    # Slack tells of links that are opened as well; they have no value, by which they are known.
    key |= {"url": button.url} if button.url is not None else {"value": button.value or button.text}
    style = _STYLES.get(button.style) if button.style is not None else None
    return key if style is None else key | {"style": style}


def attachment(embed: Embed) -> Block:
    """An embed as a card with a line of its colour (messaging/formatting-message-text, "secondary attachments")."""
    made: Block = {"fallback": _fallback(embed), "blocks": list(_blocks(embed))}
    color = _COLOR.fullmatch(embed.color or "")
    return made if color is None else made | {"color": f"#{color[1]}"}


def _fallback(embed: Embed) -> str:
    words = embed.title or text_of(read_markdown(embed.description or "")) or (embed.author and embed.author.name)
    return (words or embed.url or "…")[:FALLBACK]


def _blocks(embed: Embed) -> Iterator[Block]:
    if embed.author is not None:
        yield _context(_words(embed.author.name, embed.author.url), embed.author.icon_url)
    title = embed.title or embed.url
    head: Blocks = (Paragraph((Run(title, _BOLD, embed.url),)),) if title else ()
    sections = _sections((*head, *read_markdown(embed.description or "")))
    if sections and embed.thumbnail_url:
        sections[0]["accessory"] = _image(embed.thumbnail_url, title)
    yield from sections
    if embed.thumbnail_url and not sections:
        yield _image(embed.thumbnail_url, title)
    yield from _fields(embed.fields or ())
    if embed.image_url:
        yield _image(embed.image_url, title)
    small = " · ".join(filter(None, (embed.footer and embed.footer.text, embed.timestamp)))
    if small:
        yield _context(_words(small[:FIELD]), embed.footer and embed.footer.icon_url)


def _fields(fields: Sequence[EmbedField]) -> Iterator[Block]:
    """Short fields beside one another where they are wanted so, the others below one another."""
    row: list[Block] = []
    for field in fields:
        blocks = (Paragraph((Run(field.name, _BOLD), Run(f"\n{field.value}"))),)
        written = DIALECT.write(blocks)
        is_short = bool(field.inline) and len(written) <= FIELD
        if row and (len(row) == FIELDS or not is_short):
            yield {"type": "section", "fields": row}
            row = []
        if is_short:
            row.append(mrkdwn(written))
        else:
            yield from _sections(blocks)
    if row:
        yield {"type": "section", "fields": row}


def _sections(blocks: Blocks) -> list[Block]:
    """A text in sections: where they are too many for a message, one more than that, since it is refused anyway."""
    pieces = split(blocks, lambda some: len(DIALECT.write(some)), SECTION)
    return [section(DIALECT.write(piece)) for piece in islice(pieces, BLOCKS + 1)]


def _words(words: str, address: str | None = None) -> str:
    return DIALECT.inline((Run(words, NO_MARKS, address),))


def _context(text: str, icon: str | None) -> Block:
    shown = [{"type": "image", "image_url": icon, "alt_text": "icon"}] if icon else []
    return {"type": "context", "elements": [*shown, mrkdwn(text)]}


def _image(address: str, words: str | None) -> Block:
    return {"type": "image", "image_url": address, "alt_text": (words or "image")[:ALT]}


def length(value: Any) -> int:
    """Characters of text in blocks."""
    if isinstance(value, dict):
        held = cast("dict[str, Any]", value)
        own = held.get("text")
        inner = sum(length(each) for name, each in held.items() if name != "text" or not isinstance(each, str))
        return inner + (len(own) if isinstance(own, str) else 0)
    return sum(map(length, cast("list[Any]", value))) if isinstance(value, list) else 0


def addresses(value: Any) -> Iterator[str]:
    """The addresses of buttons and images in blocks."""
    if isinstance(value, dict):
        for name, each in cast("dict[str, Any]", value).items():
            if name in ("url", "image_url"):
                yield each
            else:
                yield from addresses(each)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from addresses(each)

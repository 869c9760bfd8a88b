"""Embeds, and what Discord would refuse of them.

Source: https://docs.discord.com/developers/resources/message#embed-object, "Embed Limits".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from msgcore.core.content import Embed
from msgcore.core.errors import FieldError
from msgcore.outbound.rich.reading import read_markdown
from msgcore.platforms.discord.markdown import DIALECT, escape, length

EMBEDS = 10
FIELDS = 25
TOGETHER = 6000
"""Characters of all embeds of a message."""
ADDRESS = 2048
"""Characters of an address (RichEmbed of the published OpenAPI description)."""
BLACK_TO_WHITE = range(0x1000000)

_LONGEST = {"title": 256, "description": 4096, "author.name": 256, "footer.text": 2048}
_NAME, _VALUE = 256, 1024
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")


def written(embed: Embed) -> dict[str, Any]:
    """An embed as Discord takes it; empty where there is nothing to show."""
    known = {
        "title": embed.title and escape(embed.title),
        "description": embed.description and DIALECT.write(read_markdown(embed.description)),
        "fields": [
            {"name": escape(field.name), "value": escape(field.value), "inline": bool(field.inline)}
            for field in embed.fields or ()
        ],
        "image": embed.image_url and {"url": embed.image_url},
        "thumbnail": embed.thumbnail_url and {"url": embed.thumbnail_url},
        # No signs are read in these two.
        "author": embed.author
        and _given({"name": embed.author.name, "url": embed.author.url, "icon_url": embed.author.icon_url}),
        "footer": embed.footer and _given({"text": embed.footer.text, "icon_url": embed.footer.icon_url}),
    }
    shown = {name: value for name, value in known.items() if value}
    if embed.url and "title" not in shown:
        shown["title"] = escape(embed.url)  # an address is that of the title
    looks = {"url": embed.url, "color": _color(embed.color), "timestamp": _moment(embed.timestamp)}
    return shown | _given(looks) if shown else {}


def problems(embeds: Sequence[Embed]) -> Iterator[FieldError]:
    """What is too long, or has another form than Discord takes."""
    total = 0
    for index, embed in enumerate(embeds[:EMBEDS]):
        where = f"/content/embeds/{index}"
        made = written(embed)
        texts = {name: _at(made, name) for name in _LONGEST}
        for name, text in texts.items():
            yield from _too_long(f"{where}/{name.replace('.', '/')}", text, _LONGEST[name])
        fields: list[dict[str, str]] = made.get("fields", [])
        if len(fields) > FIELDS:
            yield _wrong(f"{where}/fields", f"must have at most {FIELDS} fields for discord")
        for number, field in enumerate(fields):
            yield from _too_long(f"{where}/fields/{number}/name", field["name"], _NAME)
            yield from _too_long(f"{where}/fields/{number}/value", field["value"], _VALUE)
        if embed.timestamp and _moment(embed.timestamp) is None:
            yield _wrong(f"{where}/timestamp", "must be a time such as 2026-01-31T12:00:00Z for discord")
        for name, address in _addresses(embed):
            yield from _too_long(f"{where}/{name}", address, ADDRESS)
        total += sum(
            map(length, (*texts.values(), *(text for each in fields for text in (each["name"], each["value"]))))
        )
    if total > TOGETHER:
        yield FieldError("/content/embeds", f"content.embeds have {total} characters, and {TOGETHER} are the most")


def _addresses(embed: Embed) -> Iterator[tuple[str, str]]:
    named = {
        "url": embed.url,
        "imageUrl": embed.image_url,
        "thumbnailUrl": embed.thumbnail_url,
        "author/url": embed.author and embed.author.url,
        "author/iconUrl": embed.author and embed.author.icon_url,
        "footer/iconUrl": embed.footer and embed.footer.icon_url,
    }
    return ((name, address) for name, address in named.items() if address)


def _at(made: dict[str, Any], name: str) -> str:
    outer, _, inner = name.partition(".")
    found = made.get(outer, {}) if inner else made
    return str(found.get(inner or outer, ""))


def _too_long(pointer: str, text: str, longest: int) -> Iterator[FieldError]:
    if (size := length(text)) > longest:
        yield _wrong(pointer, f"has {size} characters as Discord counts them, and {longest} are the most")


def _wrong(pointer: str, what: str) -> FieldError:
    return FieldError(pointer, f"{pointer.removeprefix('/').replace('/', '.')} {what}")


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _color(color: str | None) -> int | None:
    """A colour as a number, from `#ff5733`, `ff5733` or its number; anything else is left out."""
    if color is None:
        return None
    found = _HEX.fullmatch(color)
    if found is not None:
        return int(found[1], 16)
    number = int(color) if color.isascii() and color.isdigit() else -1
    return number if number in BLACK_TO_WHITE else None


def _moment(text: str | None) -> str | None:
    """A time with its offset, as Discord wants it; None for what is none."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()

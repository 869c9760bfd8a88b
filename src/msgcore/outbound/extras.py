"""Embeds, buttons, captions, places, cards and polls as markdown, for platforms that have only text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgcore.core.content import Contact, Content, Embed, Location
from msgcore.outbound.markdown import escape


def extras_as_markdown(content: Content) -> str:
    """Everything in a message besides its text and files; empty where there is nothing."""
    parts = [part for embed in content.embeds or () for part in _embed(embed)]
    parts += [escape(attachment.caption) for attachment in content.attachments or () if attachment.caption]
    parts += [_link(button.text, button.url) for button in content.buttons or () if button.url is not None]
    parts += _numbered([button.text for button in content.buttons or () if button.url is None])
    if content.location is not None:
        parts.append(_place(content.location))
    if content.contact is not None:
        parts += map(escape, card_lines(content.contact))
    if content.poll is not None:
        parts += [f"**{escape(content.poll.question)}**", *_numbered(content.poll.options)]
    return "\n\n".join(parts)


def map_address(place: Location) -> str:
    """Where a place is on a map. The geo: scheme (RFC 5870) opens in few programs; this address opens in each."""
    return f"https://www.openstreetmap.org/?mlat={place.latitude}&mlon={place.longitude}"


def place_name(place: Location) -> str:
    """What a place is called: its name and address, else its degrees."""
    return ", ".join(filter(None, (place.name, place.address))) or f"{place.latitude}, {place.longitude}"


def card_lines(card: Contact) -> list[str]:
    """What is on a card."""
    return list(filter(None, (card.name, card.organization, card.phone, card.email)))


def _place(place: Location) -> str:
    return _link(place_name(place), map_address(place))


def _numbered(texts: Sequence[str]) -> list[str]:
    return ["\n".join(f"{number}. {escape(text)}" for number, text in enumerate(texts, 1))] if texts else []


def _embed(embed: Embed) -> Iterator[str]:
    if embed.author is not None:
        yield _link(embed.author.name, embed.author.url)
    if embed.title:
        yield f"**{_link(embed.title, embed.url)}**"
    elif embed.url:
        yield _link(embed.url, embed.url)
    if embed.description:
        yield embed.description
    for field in embed.fields or ():
        yield f"**{escape(field.name)}**: {escape(field.value)}"
    for image in (embed.image_url, embed.thumbnail_url):
        if image:
            yield f"![]({_address(image)})"
    small = [part for part in (embed.footer.text if embed.footer else None, embed.timestamp) if part]
    if small:
        yield escape(" · ".join(small))


def _link(words: str, url: str | None) -> str:
    return f"[{escape(words)}]({_address(url)})" if url else escape(words)


def _address(url: str) -> str:
    # The characters that would end a link's address; anything else may stand as it is.
    return url.replace("\\", "%5C").replace("(", "%28").replace(")", "%29").replace("<", "%3C").replace(">", "%3E")

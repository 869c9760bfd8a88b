"""Embeds, buttons and captions as markdown, for platforms that have only text."""

from __future__ import annotations

from collections.abc import Iterator

from msgcore.core.content import Button, Content, Embed
from msgcore.outbound.markdown import escape


def extras_as_markdown(content: Content) -> str:
    """Everything in a message besides its text and files; empty where there is nothing."""
    parts = [part for embed in content.embeds or () for part in _embed(embed)]
    parts += [escape(attachment.caption) for attachment in content.attachments or () if attachment.caption]
    parts += [_button(button) for button in content.buttons or ()]
    return "\n\n".join(parts)


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


def _button(button: Button) -> str:
    return _link(button.text, button.url)


def _link(words: str, url: str | None) -> str:
    return f"[{escape(words)}]({_address(url)})" if url else escape(words)


def _address(url: str) -> str:
    # The characters that would end a link's address; anything else may stand as it is.
    return url.replace("\\", "%5C").replace("(", "%28").replace(")", "%29").replace("<", "%3C").replace(">", "%3E")

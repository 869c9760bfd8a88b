"""Universal content to Discord's messages (https://docs.discord.com/developers/resources/message#create-message)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from msgcore.core.content import Button, ButtonStyle, Content, SendOptions
from msgcore.core.errors import FieldError
from msgcore.outbound.file_groups import file_groups
from msgcore.outbound.layout import ButtonRules, FileRules, Layout, PollRules, Shows
from msgcore.outbound.rendering import Call
from msgcore.platforms.discord import embeds
from msgcore.platforms.discord.markdown import DIALECT, length, with_mentions

CREATE = "create_message"
POLL = "create_poll"
"""The same request; by its name it is told from what can be edited, which polls cannot (JSON error code 520003)."""

MEBIBYTE = 1024 * 1024
TEXT = 2000
MOST_FILES = 10
"""Files of a message (JSON error code 30015)."""
ROW, ROWS = 5, 5
"""Buttons beside one another, and rows of them (components/reference#action-row)."""
ADDRESS = 512
"""Characters of a button's `url` (components/reference#button)."""
SUPPRESS_EMBEDS = 1 << 2
SUPPRESS_NOTIFICATIONS = 1 << 12
LINK = 5

_STYLES: Final = {
    ButtonStyle.PRIMARY: 1,
    ButtonStyle.SECONDARY: 2,
    ButtonStyle.SUCCESS: 3,
    ButtonStyle.DANGER: 4,
}


class DiscordOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.discord`: what a message of Discord's has beyond the universal one."""

    allowed_mentions: Annotated[
        list[Literal["users", "roles", "everyone"]],
        msgspec.Meta(
            max_length=3,
            description="which mentions of the text count: of `users` (`<@id>`), `roles` (`<@&id>`) and `everyone` "
            "(`@everyone`, `@here`)",
        ),
    ] = []
    mention_replied_user: Annotated[
        bool, msgspec.Meta(description="whether an answer (`options.replyTo`) notifies who is answered")
    ] = True
    suppress_embeds: Annotated[bool, msgspec.Meta(description="links of the text get no preview")] = False
    tts: Annotated[bool, msgspec.Meta(description="the message is read out")] = False
    poll_hours: Annotated[int, msgspec.Meta(ge=1, le=768, description="how many hours a poll is open")] | None = None


SHOWS = Shows(
    dialect=DIALECT,
    text=TEXT,
    caption=TEXT,
    measure=length,
    # https://docs.discord.com/developers/reference#uploading-files: 10 MiB each, more in servers with boosts.
    files=FileRules({"document": 10 * MEBIBYTE}, MOST_FILES),
    # Labels of 80, values (their custom_id) of 100 characters: components/reference#button.
    buttons=ButtonRules(most=ROW * ROWS, text=80, value=100, per_row=ROW),
    embeds=embeds.EMBEDS,
    poll=PollRules(question=300, options=10, option=55),  # resources/poll
    silent=True,
    threads=True,
)


def calls(content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
    """The messages of a content, without the channel: texts, then files, then a poll, which stands alone."""
    own = read_options(content)
    made = [Call(CREATE, {"content": text}) for text in layout.texts]
    for files, beside in file_groups(layout.files, layout.captions, MOST_FILES):
        if beside is None and made and not made[-1].files:
            made[-1] = msgspec.structs.replace(made[-1], files=files)
        else:
            made.append(Call(CREATE, {} if beside is None else {"content": beside}, files))
    below = _below(layout)
    if below and not made:
        made.append(Call(CREATE, {}))
    if below:
        made[-1].body.update(below)
    made += _poll(layout, own)
    for call in made:
        call.body.update(_every(options, own))
        if "content" in call.body:
            call.body["content"] = with_mentions(call.body["content"], own.allowed_mentions)
    if options.reply_to is not None and made:
        made[0].body["message_reference"] = {
            "message_id": options.reply_to.rpartition(":")[2],
            "fail_if_not_exists": False,
        }
        made[0].body["allowed_mentions"] |= {"replied_user": own.mention_replied_user}
    return made


def problems(content: Content, made: Sequence[Call]) -> Iterator[FieldError]:
    """What Discord would refuse of a content, where its calls do not show it otherwise."""
    yield from embeds.problems(content.embeds or ())
    buttons = content.buttons or ()
    for index, button in enumerate(buttons):
        if button.url is not None and len(button.url) > ADDRESS:
            message = f"content.buttons[{index}].url must have at most {ADDRESS} characters for discord"
            yield FieldError(f"/content/buttons/{index}/url", message)
    if any("components" in call.body for call in made):
        counts = Counter(_value(button) for button in buttons if button.url is None)
        for index, button in enumerate(buttons):
            if button.url is None and counts[_value(button)] > 1:
                message = f"content.buttons[{index}].value is another button's as well; discord wants them to differ"
                yield FieldError(f"/content/buttons/{index}/value", message)


def read_options(content: Content) -> DiscordOptions:
    """The Discord options of a content that was checked before."""
    return msgspec.convert((content.platform_options or {}).get("discord", {}), DiscordOptions)


def _every(options: SendOptions, own: DiscordOptions) -> dict[str, Any]:
    """What each message carries. Without `allowed_mentions` every `@everyone` of a text would be one."""
    flags = SUPPRESS_NOTIFICATIONS if options.silent else 0
    flags |= SUPPRESS_EMBEDS if own.suppress_embeds else 0
    body: dict[str, Any] = {"allowed_mentions": {"parse": sorted(set(own.allowed_mentions))}}
    return body | ({"flags": flags} if flags else {}) | ({"tts": True} if own.tts else {})


def _below(layout: Layout) -> dict[str, Any]:
    """What stands below a message: embeds and buttons."""
    cards = [card for card in map(embeds.written, layout.embeds) if card]
    keys = [_key(button) for button in layout.buttons]
    rows = [{"type": 1, "components": keys[start : start + ROW]} for start in range(0, len(keys), ROW)]
    return ({"embeds": cards} if cards else {}) | ({"components": rows} if rows else {})


def _key(button: Button) -> dict[str, Any]:
    key: dict[str, Any] = {"type": 2, "label": button.text}
    if button.url is not None:
        return key | {"style": LINK, "url": button.url}
    style = _STYLES.get(button.style, 1) if button.style is not None else 1
    return key | {"style": style, "custom_id": _value(button)}


def _value(button: Button) -> str:
    return button.value or button.text


def _poll(layout: Layout, own: DiscordOptions) -> Iterator[Call]:
    if layout.poll is not None:
        poll: dict[str, Any] = {
            "question": {"text": layout.poll.question},
            "answers": [{"poll_media": {"text": option}} for option in layout.poll.options],
            "allow_multiselect": bool(layout.poll.multiple),
        }
        yield Call(POLL, {"poll": poll if own.poll_hours is None else poll | {"duration": own.poll_hours}})

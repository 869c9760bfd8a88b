"""Universal content to calls of the Web API, and what is done to messages that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import msgspec

from msgcore.core.content import Attachment, Button, Content, SendOptions
from msgcore.core.errors import FieldError
from msgcore.outbound.file_groups import file_groups
from msgcore.outbound.layout import ButtonRules, FileRules, Layout, Shows
from msgcore.outbound.rendering import Call
from msgcore.platforms.slack.blocks import (
    ADDRESS,
    BLOCKS,
    SECTION,
    Block,
    actions,
    addresses,
    attachment,
    length,
    plain,
    section,
)
from msgcore.platforms.slack.emoji import name_of
from msgcore.platforms.slack.mrkdwn import DIALECT

POST = "chat.postMessage"
SHARE = "files.completeUploadExternal"
UPDATE = "chat.update"
DELETE = "chat.delete"
ADD_REACTION = "reactions.add"
REMOVE_REACTION = "reactions.remove"

MOST_FILES = 10
"""Files that are shared at once: as many as people can share in Slack; they are in memory together."""
BLOCK_TEXT = 12_000
"""Characters in the blocks of a message. Slack refuses them from about 13,200 on (`msg_blocks_too_long`,
https://github.com/slackapi/bolt-js/issues/2509) and documents 12,000 for markdown blocks."""
CARDS = 10

_WITH_MARKS = frozenset(("content.subject", "content.poll", "content.embeds"))
"""What is set apart by marks where it becomes text."""


class SlackOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.slack`: what chat.postMessage has beyond the universal message."""

    unfurl_links: Annotated[bool, msgspec.Meta(description="previews of links to pages")] | None = None
    unfurl_media: Annotated[bool, msgspec.Meta(description="previews of links to pictures and the like")] | None = None
    reply_broadcast: (
        Annotated[bool, msgspec.Meta(description="an answer in a thread is shown in the channel as well")] | None
    ) = None
    username: Annotated[str, msgspec.Meta(max_length=80, description="another name than the app's")] | None = None
    icon_emoji: (
        Annotated[str, msgspec.Meta(max_length=100, description="an emoji in place of the app's picture")] | None
    ) = None
    icon_url: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=3000, pattern=r"^https?://[^\s]+$(?!\n)", description="another picture than the app's"
            ),
        ]
        | None
    ) = None


SHOWS = Shows(
    dialect=DIALECT,
    # A section takes 3,000 characters; `text` alone should have at most 4,000 (chat.postMessage, "Truncating content").
    text=SECTION,
    caption=SECTION,
    # 1 GB (https://slack.com/help/articles/201330736); MSGCORE_MAX_ATTACHMENT_BYTES is far below.
    files=FileRules({"document": 1024**3}, MOST_FILES),
    # reference/block-kit/block-elements/button-element: text 75, value 2,000 characters.
    buttons=ButtonRules(most=100, text=75, value=2000),
    embeds=CARDS,
    threads=True,
)


def calls(content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
    """The calls of a message, without the conversation: text first, then files."""
    own = _own(content)
    # Without `mrkdwn` no *, _, ~ or ` of the text is a sign.
    marks, paragraph = ({"mrkdwn": False}, plain) if _is_plain(content, layout) else ({}, section)
    texts, captions = list(layout.texts), list(layout.captions)
    if (layout.buttons or layout.embeds) and not texts and captions and layout.files[0].caption is None:
        texts = list(filter(None, captions[:1]))  # buttons and cards stand below a text, not below a file
        captions[0] = None
    made = [Call(POST, {"text": text, **marks, **own}) for text in texts]
    cards = [card for card in map(attachment, layout.embeds) if card["blocks"]]
    if layout.buttons or cards:
        if not made:
            made.append(Call(POST, dict(own)))
        _add_blocks(made[-1].body, layout.buttons, cards, paragraph)
    made += [_share(files, comment) for files, comment in file_groups(layout.files, captions, MOST_FILES)]
    # A reply is a thread in Slack: all of the message belongs there. `thread_id` is the thread that a reply is in.
    thread = options.thread_id or options.reply_to
    if thread is not None:
        made = [msgspec.structs.replace(call, body=call.body | {"thread_ts": ts_of(thread)}) for call in made]
    return made


def problems(made: Sequence[Call]) -> Iterator[FieldError]:
    """What Slack would refuse of rendered blocks."""
    for call in made:
        cards: list[Any] = call.body.get("attachments", [])
        blocks: list[Any] = [*call.body.get("blocks", []), *(block for card in cards for block in card["blocks"])]
        if len(blocks) > BLOCKS:
            message = f"content.embeds and buttons would become {len(blocks)} blocks, and {BLOCKS} are the most"
            yield FieldError("/content/embeds", message)
        if (size := length(blocks)) > BLOCK_TEXT:
            message = f"content.embeds and text have {size} characters together, and {BLOCK_TEXT} are the most"
            yield FieldError("/content/embeds", message)
        if any(len(address) > ADDRESS for address in addresses(blocks)):
            yield FieldError("/content", f"URLs of buttons, embeds and images must have at most {ADDRESS} characters")


def _is_plain(content: Content, layout: Layout) -> bool:
    """Whether no character of the text is meant as markup."""
    return not (content.markdown or content.html) and not any(each.field in _WITH_MARKS for each in layout.degradations)


def _own(content: Content) -> dict[str, Any]:
    """The arguments that a content's own options give to chat.postMessage."""
    own = msgspec.convert((content.platform_options or {}).get("slack", {}), SlackOptions)
    given = {
        "unfurl_links": own.unfurl_links,
        "unfurl_media": own.unfurl_media,
        "reply_broadcast": own.reply_broadcast,
        "username": own.username,
        "icon_emoji": own.icon_emoji,
        "icon_url": own.icon_url,
    }
    return {name: value for name, value in given.items() if value is not None}


def _add_blocks(
    body: dict[str, Any], buttons: Sequence[Button], cards: list[Block], paragraph: Callable[[str], Block]
) -> None:
    if buttons:
        # `text` is only for notifications where there are blocks, so it stands in them as well.
        text: str | None = body.get("text")
        shown = [] if text is None else [paragraph(text)]
        body["blocks"] = [*shown, *actions(buttons)]
        body.setdefault("text", " | ".join(DIALECT.escape(button.text) for button in buttons))
    if cards:
        body["attachments"] = cards


def _share(files: Sequence[Attachment], comment: str | None) -> Call:
    return Call(SHARE, {} if comment is None else {"initial_comment": comment}, tuple(files))


# --- what is done to a message that is there; `message_id` is ours, with the conversation in it


def ts_of(message_id: str) -> str:
    """Slack's `ts` in an id of a message."""
    return message_id.rpartition(":")[2]


def _place(message_id: str, name: str) -> dict[str, str]:
    channel, _, ts = message_id.rpartition(":")
    return {"channel": channel, name: ts} if channel else {name: ts}


def react(message_id: str, emoji: str) -> Call:
    """Put an emoji to a message (https://docs.slack.dev/reference/methods/reactions.add)."""
    return Call(ADD_REACTION, {**_place(message_id, "timestamp"), "name": name_of(emoji)})


def unreact(message_id: str, emoji: str) -> Call:
    """Take it away (https://docs.slack.dev/reference/methods/reactions.remove)."""
    return Call(REMOVE_REACTION, {**_place(message_id, "timestamp"), "name": name_of(emoji)})


def edit(message_id: str, written: Call) -> Call:
    """Change a message to what a rendered `chat.postMessage` says (https://docs.slack.dev/reference/methods/chat.update).

    What is not given would stay as it was, `parse` would find mentions in the text, and there is no `mrkdwn` to say
    that a text is plain, so that it becomes a block that is.
    """
    shown = {name: written.body[name] for name in ("text", "blocks", "attachments") if name in written.body}
    if written.body.get("mrkdwn") is False and "blocks" not in shown:
        shown["blocks"] = [plain(shown["text"])]
    return Call(UPDATE, {**_place(message_id, "ts"), "parse": "none", "blocks": [], "attachments": [], **shown})


def delete(message_id: str) -> Call:
    """Take a message back (https://docs.slack.dev/reference/methods/chat.delete)."""
    return Call(DELETE, _place(message_id, "ts"))

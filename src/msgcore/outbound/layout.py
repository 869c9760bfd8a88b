"""Universal content laid out for a platform: text in its dialect and in pieces that it takes, and what goes beside.

What a platform cannot show becomes text: embeds and captions are written out, buttons become links or a numbered
list, a place becomes a link to a map. Each time a `Degradation` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from msgcore.core.content import Attachment, Button, Contact, Content, Embed, Location, Poll, SendOptions
from msgcore.core.errors import FieldError
from msgcore.outbound.extras import card_lines, extras_as_markdown, map_address, place_name
from msgcore.outbound.markdown import LONGEST
from msgcore.outbound.rendering import Degradation
from msgcore.outbound.rich.dialect import Dialect
from msgcore.outbound.rich.html import read_html
from msgcore.outbound.rich.reading import read_markdown
from msgcore.outbound.rich.splitting import split
from msgcore.outbound.rich.tree import NO_MARKS, Blocks, Item, Listing, Mark, Paragraph, Run, plain, visible

MOST_PIECES = 20
"""Messages that one text may become: more is a file, not a message."""
_TOO_LONG = FieldError(
    "/content", f"the text is longer than {MOST_PIECES} messages of this platform: send it as a file"
)


@dataclass(frozen=True, slots=True)
class ButtonRules:
    """What buttons a platform shows: how many, in rows of how many, with texts and values of how much.

    `values` and `urls` tell which kinds it knows, `alone` that one with a URL stands by itself. Lengths of texts are
    in characters, of values in bytes of UTF-8. `body` is the longest text that buttons stand below, as the platform
    measures it, where they need one of their own (None: they stand below any message).
    """

    most: int
    text: int
    value: int
    per_row: int = 1
    values: bool = True
    urls: bool = True
    alone: bool = False
    body: int | None = None


@dataclass(frozen=True, slots=True)
class FileRules:
    """What files go with a message: how many in one call, and their largest size in bytes by type.

    Types are `image`, `video`, `audio` and `document`; one that is not named goes as a document, if that is.
    `fetched`: the platform only takes addresses, and fetches the files itself.
    """

    largest: dict[str, int]
    per_call: int = 1
    fetched: bool = False


@dataclass(frozen=True, slots=True)
class PollRules:
    """The longest question, how many answers, and the longest answer of a poll."""

    question: int
    options: int
    option: int


def _nothing(_texts: Sequence[str]) -> Sequence[Degradation]:
    return ()


@dataclass(frozen=True, slots=True)
class Shows:
    """What a platform can show.

    `text` and `caption` are the longest texts alone and beside a file, as `measure` counts them (None: a file
    comes without a text). `embeds` is how many it takes. `note` tells what else is worth knowing of the texts
    that stand alone; it is never refused.
    """

    dialect: Dialect
    text: int
    measure: Callable[[str], int] = len
    note: Callable[[Sequence[str]], Sequence[Degradation]] = _nothing
    caption: int | None = None
    files: FileRules | None = None
    buttons: ButtonRules | None = None
    embeds: int = 0
    location: bool = False
    contact: bool = False
    poll: PollRules | None = None
    subject: bool = False
    silent: bool = False
    threads: bool = False
    replies: bool = True


AS_GIVEN = Shows(
    dialect=Dialect("as it was given"),
    text=1_000_000,
    caption=4096,
    files=FileRules({}, 100),
    buttons=ButtonRules(most=100, text=1024, value=4096),
    embeds=100,
    location=True,
    contact=True,
    poll=PollRules(question=1024, options=12, option=1024),
    subject=True,
    silent=True,
    threads=True,
)
"""What a program shows that gets each content as it was given: all that a request may hold (`core/content.py`)."""


@dataclass(slots=True)
class Layout:
    """A content, laid out. `texts` are written in the dialect; each fits into one message.

    `captions` has the text beside each of `files`, in the dialect, or None.
    """

    texts: list[str] = field(default_factory=list[str])
    files: tuple[Attachment, ...] = ()
    captions: list[str | None] = field(default_factory=list[str | None])
    buttons: tuple[Button, ...] = ()
    embeds: tuple[Embed, ...] = ()
    location: Location | None = None
    contact: Contact | None = None
    poll: Poll | None = None
    degradations: list[Degradation] = field(default_factory=list[Degradation])
    errors: list[FieldError] = field(default_factory=list[FieldError])


def lay_out(content: Content, options: SendOptions, shows: Shows) -> Layout:
    """The layout of a content. Pure; takes time that grows with the length of the content."""
    layout = Layout()
    blocks = (*_written(content, shows, layout), *_beside(content, shows, layout))
    layout.degradations += ignored(options, shows)
    # Before it is cut: that takes time, and this much is refused anyway. Twice, since code may be escaped less.
    length = shows.measure(shows.dialect.escape(visible(blocks)))
    if length > 2 * MOST_PIECES * shows.text:
        layout.errors.append(_TOO_LONG)
        return layout
    body = shows.buttons.body if layout.buttons and shows.buttons is not None else None
    whole = shows.dialect.write(blocks) if length <= shows.text else ""
    if whole and shows.measure(whole) <= (shows.text if body is None else min(body, shows.text)):
        layout.texts = [whole]
    else:
        layout.texts = [shows.dialect.write(piece) for piece in _pieces(blocks, shows, body)]
    if len(layout.texts) > 1:
        _note_length(options, shows, layout)
    if body is None:
        _move_text_beside_files(shows, layout)
    if layout.buttons and not (layout.texts or layout.embeds) and (body is not None or not layout.files):
        layout.errors.append(FieldError("/content/text", "content.text is required with buttons on this platform"))
    layout.errors += refusals(layout.degradations, options)
    layout.degradations += shows.note(layout.texts)
    return layout


def _pieces(blocks: Blocks, shows: Shows, body: int | None) -> list[Blocks]:
    """A text in pieces that each fit into one message, and the last one into the `body` above buttons.

    Of a text that becomes too many, one more than are allowed: the rest would be cut for nothing.
    """

    def size(some: Blocks) -> int:
        return shows.measure(shows.dialect.write(some))

    pieces = list(islice(split(blocks, size, shows.text), MOST_PIECES + 1))
    if body is None or not pieces or len(pieces) > MOST_PIECES or size(pieces[-1]) <= body:
        return pieces
    *whole, last = pieces
    *before, end = split(last, size, body)
    together = tuple(block for piece in before for block in piece)
    # Where a paragraph was cut, one message has it as two: that is a little longer than it was.
    return [*whole, *([together] if size(together) <= shows.text else before), end]


def _written(content: Content, shows: Shows, layout: Layout) -> Iterator[Paragraph] | Blocks:
    """The text of a content; markdown before HTML before plain text where several are given."""
    subject: Blocks = ()
    if content.subject and not shows.subject:
        subject = (Paragraph((Run(content.subject, frozenset((Mark.BOLD,))),)),)
        _note(layout, "content.subject", "first-line", "is shown as the first line of the text")
    if content.markdown and len(content.markdown) > LONGEST:
        message = f"content.markdown must have at most {LONGEST} characters"
        layout.errors.append(FieldError("/content/markdown", message))
        return subject
    if content.markdown:
        return (*subject, *read_markdown(content.markdown))
    if content.html:
        return (*subject, *read_html(content.html))
    return (*subject, *plain(content.text or ""))


def _beside(content: Content, shows: Shows, layout: Layout) -> Blocks:
    """What goes beside the text, into the layout; and what has to be written out, as blocks."""
    blocks = [*_extras(content, shows, layout), *_files(content, shows, layout), *_specials(content, shows, layout)]
    return (*blocks, *_buttons(content, shows, layout))


def _extras(content: Content, shows: Shows, layout: Layout) -> Blocks:
    embeds = tuple(content.embeds or ())
    if len(embeds) <= shows.embeds:
        layout.embeds = embeds
        return ()
    layout.embeds = embeds[: shows.embeds]
    message = f"only {shows.embeds} are shown as such, the others as text" if shows.embeds else "are shown as text"
    _note(layout, "content.embeds", "text", message)
    left = msgspec.structs.replace(Content(), embeds=list(embeds[shows.embeds :]))
    return read_markdown(extras_as_markdown(left))


def _files(content: Content, shows: Shows, layout: Layout) -> Blocks:
    files = tuple(content.attachments or ())
    if shows.files is not None:
        layout.files = files
        if shows.files.fetched:
            _ask_for_addresses(files, layout)
        layout.captions = [_caption(file, shows) for file in files]
        pairs = zip(files, layout.captions, strict=True)
        return tuple(Paragraph((Run(file.caption),)) for file, beside in pairs if file.caption and beside is None)
    captions = [Paragraph((Run(file.caption),)) for file in files if file.caption]
    _ask_for_addresses(files, layout)
    links = [Paragraph((Run(file.filename or file.url, NO_MARKS, file.url),)) for file in files if file.url is not None]
    if links:
        _note(layout, "content.attachments", "link", "are shown as links")
    return (*links, *captions)


def _ask_for_addresses(files: Sequence[Attachment], layout: Layout) -> None:
    for index, file in enumerate(files):
        if file.data is not None:
            message = f"content.attachments[{index}].data cannot be sent on this platform: give a url instead"
            layout.errors.append(FieldError(f"/content/attachments/{index}/data", message))


def _caption(file: Attachment, shows: Shows) -> str | None:
    """A file's own caption in the dialect, if it may stand beside it."""
    if not file.caption or shows.caption is None:
        return None
    written = shows.dialect.write(plain(file.caption))
    return written if shows.measure(written) <= shows.caption else None


def _move_text_beside_files(shows: Shows, layout: Layout) -> None:
    """A text that is short enough goes beside the first file, where no file has a caption of its own."""
    if shows.caption is None or not layout.files or len(layout.texts) != 1 or any(layout.captions):
        return
    if shows.measure(layout.texts[0]) <= shows.caption:
        layout.captions[0] = layout.texts.pop()


def _specials(content: Content, shows: Shows, layout: Layout) -> Iterator[Paragraph | Listing]:
    if content.location is not None and shows.location:
        layout.location = content.location
    elif content.location is not None:
        _note(layout, "content.location", "link", "is shown as a link to a map")
        yield _place(content.location)
    if content.contact is not None and shows.contact and content.contact.phone:
        layout.contact = content.contact
    elif content.contact is not None:
        _note(layout, "content.contact", "text", "is shown as text")
        yield Paragraph((Run("\n".join(card_lines(content.contact))),))
    if content.poll is not None and shows.poll is not None and _is_poll(content.poll, shows.poll):
        layout.poll = content.poll
    elif content.poll is not None:
        _note(layout, "content.poll", "numbered-list", "is shown as a numbered list")
        yield Paragraph((Run(content.poll.question, frozenset((Mark.BOLD,))),))
        yield _numbered(content.poll.options)


def _buttons(content: Content, shows: Shows, layout: Layout) -> Iterator[Paragraph | Listing]:
    buttons = tuple(content.buttons or ())
    layout.buttons = buttons_shown(content, shows)
    if not buttons or layout.buttons:
        return
    links = [button for button in buttons if button.url is not None]
    if links:
        _note(layout, "content.buttons", "link", "that open a URL are shown as links")
    for button in links:
        yield Paragraph((Run(button.text, NO_MARKS, button.url),))
    choices = choices_of(content)
    if choices:
        _note(layout, "content.buttons", "numbered-list", "are shown as a numbered list; the number is the answer")
        yield _numbered([button.text for button in choices])


def buttons_shown(content: Content, shows: Shows) -> tuple[Button, ...]:
    """The buttons of a content, if they are shown as such: all of them, or none."""
    buttons, rules = tuple(content.buttons or ()), shows.buttons
    if rules is None or not all(_is_shown(button, rules) for button in buttons):
        return ()
    too_many = len(buttons) > rules.most or (rules.alone and len(buttons) > 1 and _has_link(buttons))
    return () if too_many else buttons


def choices_of(content: Content) -> list[Button]:
    """The buttons that a numbered list stands for, in its order: an answer of `2` presses the second."""
    return [button for button in content.buttons or () if button.url is None]


def _has_link(buttons: tuple[Button, ...]) -> bool:
    return any(button.url is not None for button in buttons)


def _is_shown(button: Button, rules: ButtonRules) -> bool:
    if button.url is not None:
        return rules.urls and len(button.text) <= rules.text
    value = button.value or button.text
    return rules.values and len(button.text) <= rules.text and len(value.encode()) <= rules.value


def _is_poll(poll: Poll, rules: PollRules) -> bool:
    return (
        len(poll.question) <= rules.question
        and len(poll.options) <= rules.options
        and all(len(option) <= rules.option for option in poll.options)
    )


def _numbered(texts: list[str]) -> Listing:
    return Listing(tuple(Item(number, (Paragraph((Run(text),)),)) for number, text in enumerate(texts, 1)))


def _place(place: Location) -> Paragraph:
    return Paragraph((Run(place_name(place), NO_MARKS, map_address(place)),))


def _note_length(options: SendOptions, shows: Shows, layout: Layout) -> None:
    """Text that is too long for one message is split, or refused."""
    pieces = len(layout.texts)
    if options.long_text == "refuse":
        message = f"the text is longer than one message takes ({shows.text}); options.longText refuses to split it"
        layout.errors.append(FieldError("/content", message))
    elif pieces > MOST_PIECES:
        layout.errors.append(_TOO_LONG)
    else:
        _note(layout, "content", "split", f"is longer than one message takes, and becomes {pieces}")


def ignored(options: SendOptions, shows: Shows) -> list[Degradation]:
    """The options of a message that have no meaning on a platform."""
    return [
        Degradation(f"options.{name}", "ignored", "has no meaning on this platform")
        for name, given, known in (
            ("silent", options.silent, shows.silent),
            ("threadId", options.thread_id, shows.threads),
            ("replyTo", options.reply_to, shows.replies),
        )
        if given and not known
    ]


def refusals(degradations: Iterable[Degradation], options: SendOptions) -> list[FieldError]:
    """What is wrong with a message that must be shown as it was given."""
    if options.degradation != "refuse":
        return []
    return [
        FieldError(_pointer(each.field), f"{each.field}: {each.message}; options.degradation refuses that")
        for each in degradations
    ]


def _note(layout: Layout, name: str, rule: str, message: str) -> None:
    layout.degradations.append(Degradation(name, rule, message))


def _pointer(name: str) -> str:
    return f"/{name.replace('.', '/')}"

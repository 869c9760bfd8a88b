"""Universal content to messages of ntfy (https://docs.ntfy.sh/publish/#publish-as-json).

A call's body has the fields of a message published as JSON. One with a file is published as the file itself, with the
fields as headers; `topic` and `sequence_id`, and where pressed buttons go, are added when the call is made.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec

from msgcore.core.content import Attachment, Button, Content, SendOptions, Url
from msgcore.core.errors import FieldError
from msgcore.outbound.layout import ButtonRules, FileRules, Layout, Shows
from msgcore.outbound.rendering import Call
from msgcore.outbound.rich.dialect import PLAIN
from msgcore.platforms.ntfy.markdown import MARKDOWN
from msgcore.platforms.ntfy.naming import press_of

PUBLISH, UPLOAD = "publish", "upload"
MOST_ACTIONS = 3
"""https://docs.ntfy.sh/publish/#defining-actions."""
LONGEST_MESSAGE = 4095
"""Bytes: of 4,096 ("Limitations") on it is taken for a file, or cut."""
LONGEST_JSON = 8191
"""Bytes of a message published as JSON: server/server.go, transformBodyJSON, reads less than twice 4,096."""
ROOM_FOR_TEXT = 6000
"""Of these, for the message itself, whose quotation marks and line feeds take two each."""
LONGEST_SERVER = 255
LOW, LOWEST = 2, 1

_ENCODED_WORD = "=?"
_HARMLESS = re.compile(r"(?!.*=\?)[!-~](?:[ -~]*[!-~])?", re.ASCII)
_HEADERS = {
    "title": "X-Title",
    "message": "X-Message",
    "priority": "X-Priority",
    "tags": "X-Tags",
    "click": "X-Click",
    "icon": "X-Icon",
    "delay": "X-Delay",
    "email": "X-Email",
    "call": "X-Call",
    "cache": "X-Cache",
    "firebase": "X-Firebase",
    "markdown": "X-Markdown",
    "sequence_id": "X-Sequence-ID",
    "filename": "X-Filename",
}

Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[^,\s]+$(?!\n)")]
Short = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class NtfyAction(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A button as ntfy has them, for what buttons of the universal message cannot do."""

    action: Literal["view", "http", "broadcast", "copy"]
    label: Short
    url: Url | None = None
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] | None = None
    headers: dict[Short, Words] | None = None
    body: Words | None = None
    intent: Short | None = None
    extras: dict[Short, Words] | None = None
    value: Words | None = None
    clear: bool | None = None

    def __post_init__(self) -> None:
        needed = {"view": "url", "http": "url", "copy": "value"}.get(self.action)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{needed} is required with the action {self.action}")


class NtfyOptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`content.platformOptions.ntfy`: what ntfy has beyond the universal message."""

    priority: (
        Annotated[int, msgspec.Meta(ge=1, le=5, description="1 (lowest) to 5 (a long alarm); 3 unless given")] | None
    ) = None
    tags: (
        Annotated[
            list[Tag], msgspec.Meta(max_length=20, description="names of emojis are shown as such: `warning`, `tada`")
        ]
        | None
    ) = None
    click: (
        Annotated[
            str,
            msgspec.Meta(min_length=1, max_length=2048, description="an address that a tap on the notification opens"),
        ]
        | None
    ) = None
    icon: Annotated[Url, msgspec.Meta(description="a JPEG or PNG beside it")] | None = None
    delay: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=64,
                description="lets the server keep it, for 10 seconds to 3 days: `30m`, `tomorrow, 10am`",
            ),
        ]
        | None
    ) = None
    email: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1, max_length=320, description="an address to mail to as well, where the server does that"
            ),
        ]
        | None
    ) = None
    call: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1, max_length=64, description="a phone number to call as well, where the server does that"
            ),
        ]
        | None
    ) = None
    cache: Annotated[bool, msgspec.Meta(description="`false`: whoever is not connected just now misses it")] | None = (
        None
    )
    firebase: Annotated[bool, msgspec.Meta(description="`false`: not by Google's servers")] | None = None
    actions: (
        Annotated[
            list[NtfyAction],
            msgspec.Meta(
                max_length=MOST_ACTIONS,
                description="buttons after `content.buttons`; whoever follows the topic can read their headers",
            ),
        ]
        | None
    ) = None


def _size(text: str) -> int:
    """Bytes of a message, or more where JSON takes too many for them."""
    escaped = len(msgspec.json.encode(text)) - 2
    return max(len(text.encode()), -(-escaped * LONGEST_MESSAGE // ROOM_FOR_TEXT))


SHOWS = Shows(
    dialect=PLAIN,
    text=LONGEST_MESSAGE,
    caption=LONGEST_MESSAGE,
    measure=_size,
    # https://docs.ntfy.sh/publish/#limitations, by default; ntfy.sh itself takes less.
    files=FileRules({"document": 15 * 1024 * 1024}),
    # Lengths of buttons are not documented: so much of a label is seen on a phone.
    buttons=ButtonRules(most=MOST_ACTIONS, text=64, value=1024, per_row=MOST_ACTIONS),
    subject=True,
    silent=True,
    replies=False,
)
FORMATTED = replace(SHOWS, dialect=MARKDOWN)


def is_formatted(content: Content) -> bool:
    """Whether it goes out as markdown; what is plain text stays so for apps that show none."""
    return bool(content.markdown or content.html)


def read_options(content: Content) -> NtfyOptions:
    """The ntfy options of a content that was checked before."""
    return msgspec.convert((content.platform_options or {}).get("ntfy", {}), NtfyOptions)


# --- the calls


def calls(content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
    """The calls of a message: texts, then files, one each. The title is the first one's, buttons are the last one's."""
    own = read_options(content)
    made = [Call(PUBLISH, {"message": text}) for text in layout.texts]
    made += [_file(file, caption) for file, caption in zip(layout.files, layout.captions, strict=True)]
    if not made and content.subject:
        made = [Call(PUBLISH, {"message": content.subject})]
    elif made and content.subject:
        made[0].body["title"] = _harmless(content.subject)
    every = _every(content, options, own)
    made = [msgspec.structs.replace(call, body=call.body | every) for call in made]
    if made:
        made[0].body.update({name: value for name in ("email", "call") if (value := getattr(own, name)) is not None})
        actions = [*map(_button, layout.buttons), *map(_action, own.actions or ())]
        if actions:
            made[-1].body["actions"] = actions
    return made


def errors_of(made: Sequence[Call]) -> list[FieldError]:
    """What keeps calls from being taken."""
    errors: list[FieldError] = []
    if any(len(call.body.get("actions", ())) > MOST_ACTIONS for call in made):
        message = f"content.platformOptions.ntfy.actions: ntfy shows {MOST_ACTIONS} buttons, with content.buttons"
        errors.append(FieldError("/content/platformOptions/ntfy/actions", message))
    if any(call.method == PUBLISH and len(encode(completed(call.body, LONGEST))) > LONGEST_JSON for call in made):
        message = (
            f"content: ntfy takes {LONGEST_JSON} bytes with title and buttons; shorten values, addresses, or the text"
        )
        errors.append(FieldError("/content", message))
    return errors


def _every(content: Content, options: SendOptions, own: NtfyOptions) -> dict[str, Any]:
    """What each call of a message carries."""
    flags = {name: None if value is None else ("yes" if value else "no") for name, value in _flags(own).items()}
    body: dict[str, Any] = {
        "markdown": True if is_formatted(content) else None,
        "priority": LOW if own.priority is None and options.silent else own.priority,
        "tags": None if own.tags is None else [_harmless(tag) for tag in own.tags],
        "click": None if own.click is None else _address(own.click),
        "icon": None if own.icon is None else _address(own.icon),
        "delay": own.delay,
        **flags,
    }
    return {name: value for name, value in body.items() if value is not None}


def _flags(own: NtfyOptions) -> dict[str, bool | None]:
    return {"cache": own.cache, "firebase": own.firebase}


def _file(file: Attachment, caption: str | None) -> Call:
    """A file by its address, which who reads it opens, or to be uploaded."""
    body = {} if caption is None else {"message": caption}
    if file.url is None:
        return Call(UPLOAD, body, (file,))
    body["attach"] = _address(file.url)
    if file.filename is not None:
        body["filename"] = _harmless(file.filename)
    return Call(PUBLISH, body)


def _button(button: Button) -> dict[str, Any]:
    """A button that opens a URL, or one that publishes its value when it is pressed."""
    label = _harmless(button.text)
    if button.url is not None:
        return {"action": "view", "label": label, "url": _address(button.url)}
    return {"action": "http", "label": label, "body": button.value or button.text, "clear": True}


def _action(action: NtfyAction) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(action)
    return {name: _kept_apart(name, value) for name, value in made.items()}


def _kept_apart(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return _address(value) if name == "url" else _harmless(value)
    if isinstance(value, dict):
        return {key: _kept_apart("", each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def _harmless(text: str) -> str:
    """Text in which ntfy finds no encoded word (RFC 2047), which it would read in titles, tags and buttons."""
    return text.replace(_ENCODED_WORD, "=\u2060?")


def _address(url: str) -> str:
    return url.replace(_ENCODED_WORD, "=%3F")


# --- where they go


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a call goes: its topic, its sequence id, and the server and topic that pressed buttons publish to."""

    server: str
    topic: str
    sequence: str
    answers: str


LONGEST = Destination("x" * LONGEST_SERVER, "x" * 64, "x" * 64, "x" * 64)


def completed(body: Mapping[str, Any], destination: Destination) -> dict[str, Any]:
    """The whole of a message published as JSON."""
    whole: dict[str, Any] = {"topic": destination.topic, "sequence_id": destination.sequence, **body}
    if "actions" in body:
        whole["actions"] = [_complete(each, index, destination) for index, each in enumerate(body["actions"])]
    return whole


def _complete(action: dict[str, Any], index: int, destination: Destination) -> dict[str, Any]:
    """A button with a value publishes it, in a message whose title is the button, and which leads to where it was."""
    if action["action"] != "http" or "url" in action:
        return action
    press: dict[str, Any] = {
        "topic": destination.answers,
        "sequence_id": press_of(destination.sequence, index),
        "message": action["body"],
        "title": action["label"],
        "click": f"{destination.server}/{destination.topic}",
        "priority": LOWEST,
    }
    body = encode(press).decode().replace(_ENCODED_WORD, "=\\u003f")  # the same in JSON
    return {**action, "url": f"{destination.server}/", "method": "POST", "body": body}


def encode(whole: Mapping[str, Any]) -> bytes:
    """The body of a message published as JSON."""
    return msgspec.json.encode(whole)


def as_headers(whole: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a message that is published as a file (https://docs.ntfy.sh/publish/#list-of-all-parameters)."""
    headers = {_HEADERS[name]: _header(_line(name, value)) for name, value in whole.items() if name in _HEADERS}
    if "actions" in whole:
        headers["X-Actions"] = _header(msgspec.json.encode(whole["actions"]).decode())
    return headers


def _line(name: str, value: Any) -> str:
    if name == "message":
        # In a header, a backslash and an n stand for a line feed, and nothing takes that meaning from them.
        return str(value).replace("\\n", "\\\u2060n")
    if isinstance(value, list):
        return ",".join(value)  # pyright: ignore[reportUnknownArgumentType] - of strings
    return "yes" if value is True else str(value)


def _header(text: str) -> str:
    """A header's value, which ntfy also reads as an encoded word."""
    return text if _HARMLESS.fullmatch(text) else f"=?UTF-8?B?{b64encode(text.encode()).decode()}?="

"""The frames of the WebSocket for events: JSON texts, told apart by their `type`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from msgcore.api.errors import problem_body
from msgcore.api.events import entry_of
from msgcore.api.explain import undecodable
from msgcore.api.messages import SendAnswer
from msgcore.core.content import Wire
from msgcore.core.errors import InvalidInputError, ProblemError
from msgcore.store.events import Event

MOST_UNACKNOWLEDGED: Final = 1000

Place = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
TypeName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Open(Wire, tag_field="type", tag="open"):
    """The first frame: where to begin (else with new events), which events, how many unacknowledged ones."""

    after: Place | None = None
    types: Annotated[list[TypeName], msgspec.Meta(max_length=50)] | None = None
    platform_id: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    chat_id: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    window: Annotated[int, msgspec.Meta(ge=1, le=MOST_UNACKNOWLEDGED)] = MOST_UNACKNOWLEDGED


class Ack(Wire, tag_field="type", tag="ack"):
    """All events up to this one are dealt with."""

    id: Place


class Send(Wire, tag_field="type", tag="send"):
    """A message to send: the body of `messages/send`, and what `Idempotency-Key` is there."""

    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    message: msgspec.Raw
    idempotency_key: str | None = None


class Ping(Wire, tag_field="type", tag="ping"):
    """Asks for a pong."""


class Pong(Wire, tag_field="type", tag="pong"):
    """Answers a ping."""


ClientFrame: TypeAlias = Open | Ack | Send | Ping | Pong
"""What clients send."""


class Sent(SendAnswer):
    """The answer to a `send` that was accepted."""

    request_id: str
    type: Literal["sent"] = "sent"


_DECODER: Final = msgspec.json.Decoder(ClientFrame)
_ENCODER: Final = msgspec.json.Encoder()

PING: Final = '{"type":"ping"}'
PONG: Final = '{"type":"pong"}'


def read_frame(text: str) -> ClientFrame:
    """A client's frame. Raises InvalidInputError that says what is wrong with it."""
    try:
        return _DECODER.decode(text)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"the frame is none of those known here: {error}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInputError(undecodable(error).replace("the body", "the frame", 1)) from None


def opened_frame(after: int, window: int) -> str:
    """Says that it begins: with the first event after this place."""
    return write_frame({"type": "opened", "after": after, "window": window})


def event_frame(event: Event) -> str:
    """An event, as streams have it."""
    return '{"type":"event",' + write_frame(entry_of(event))[1:]


def sent_frame(identifier: str, answer: SendAnswer) -> str:
    """The answer to a message that was accepted: that of `messages/send`."""
    return write_frame(Sent(request_id=identifier, **msgspec.structs.asdict(answer)))


def error_frame(identifier: str, problem: ProblemError) -> str:
    """The answer to a message that was not: the members of all errors, and `retryAfter` in seconds."""
    body: dict[str, Any] = msgspec.to_builtins(problem_body(problem, identifier))
    return write_frame(body | {"type": "error", "retryAfter": problem.retry_after})


def write_frame(frame: Any) -> str:
    """A frame as it is sent."""
    return _ENCODER.encode(frame).decode()

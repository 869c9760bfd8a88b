"""The body of a batch: a JSON list of messages, `{"messages": [...]}`, or a message a line (NDJSON).

Each message is decoded by itself, so that the errors of all of them can be listed. NDJSON is decoded
while it comes in, and refused as soon as it is too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from msgcore.api.access import ApiRequest
from msgcore.api.body import decode_body, refuse_coded, refuse_crowded
from msgcore.api.explain import undecodable
from msgcore.core.content import SendRequest
from msgcore.core.errors import InvalidInputError
from msgcore.services.batches import BREATH, MAX_MESSAGES, BatchDraft

NDJSON: Final = "application/x-ndjson"
_LINES: Final = frozenset((NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines"))
_SHAPE: Final = 'the body must be a JSON list of messages, or an object {"messages": [...]}'


class _Wrapped(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[msgspec.Raw]


_messages: Final = msgspec.json.Decoder(list[msgspec.Raw] | _Wrapped)
_request: Final = msgspec.json.Decoder(SendRequest)


async def read_batch(request: ApiRequest) -> BatchDraft:
    """What the body of a request says. Raises InvalidInputError for one that is no list of messages, or too long.

    What is wrong with single messages is in the draft.
    """
    refuse_coded(request.headers.get("content-encoding"))
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    draft = BatchDraft()
    if media_type in _LINES:
        await _read_lines(request, draft)
    elif media_type == "application/json" or media_type.endswith("+json"):
        await _read_list(await request.body(), draft)
    else:
        raise InvalidInputError(
            f"the body must be JSON, not {media_type[:100]}: send Content-Type: application/json or {NDJSON}"
        )
    return draft


async def _read_list(body: bytes, draft: BatchDraft) -> None:
    for index, raw in enumerate(_split(body)):
        _read_one(bytes(raw), draft)
        if index % BREATH == 0:
            await asyncio.sleep(0)


async def _read_lines(request: ApiRequest, draft: BatchDraft) -> None:
    number = 0
    async for line in _lines(request.stream()):
        number += 1
        if line.strip():
            _read_one(line, draft, f" (line {number})")
        if number % BREATH == 0:
            await asyncio.sleep(0)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a body that comes in pieces; the last one needs no line break."""
    pieces: list[bytes] = []
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            yield b"".join((*pieces, line))
            pieces.clear()
        pieces.append(rest)
    yield b"".join(pieces)


def _split(body: bytes) -> Sequence[msgspec.Raw]:
    """The messages of a JSON body, each as it stands there."""
    try:
        found = _messages.decode(body)
    except msgspec.ValidationError:
        raise InvalidInputError(_SHAPE) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(undecodable(error)) from None
    return found.messages if isinstance(found, _Wrapped) else found


def _read_one(body: bytes, draft: BatchDraft, where: str = "") -> None:
    """Add a message to the draft, or what is wrong with it: explained as long as errors are listed."""
    try:
        refuse_crowded(body)
        explain = draft.lists_errors or b"\\u0000" in body
        request = decode_body(body, SendRequest) if explain else _request.decode(body)
    except InvalidInputError as error:
        draft.skip(error, where)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        draft.skip(InvalidInputError("cannot be read"), where)
    else:
        draft.take(request)


_MESSAGES: Final = Schema(
    type=OpenAPIType.ARRAY,
    items=Reference(ref="#/components/schemas/SendRequest"),
    min_items=1,
    # Not as `maxItems`: tools that try a document's limits would build lists of that length.
    description=f"At most {MAX_MESSAGES}",
)


_BODY: Final = RequestBody(
    required=True,
    content={
        "application/json": OpenAPIMediaType(
            schema=Schema(
                one_of=[
                    _MESSAGES,
                    Schema(type=OpenAPIType.OBJECT, properties={"messages": _MESSAGES}, required=["messages"]),
                ]
            )
        ),
        NDJSON: OpenAPIMediaType(
            schema=Schema(type=OpenAPIType.STRING, description="A message of `messages/send` on each line")
        ),
    },
)


@dataclass
class BatchOperation(Operation):
    """The operation with its body, which Litestar cannot see: the handler reads it itself."""

    def __post_init__(self) -> None:
        """Litestar passes None for a body that it does not know."""
        self.request_body = _BODY

"""Parameters and bodies that several controllers share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from uuid import UUID

import msgspec
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.params import QueryParameter

from msgcore.api.explain import not_this, nul_characters
from msgcore.core.content import Wire
from msgcore.core.errors import FieldError, InvalidInputError
from msgcore.services.pausing import LONGEST_REASON

T = TypeVar("T")

LARGEST_DOCUMENT: Final = 16_384
"""Bytes of JSON that a caller keeps with something. They are read with every answer; documents belong elsewhere."""

PageSize: TypeAlias = Annotated[int, QueryParameter(ge=1, le=100, description="Entries of a page")]
Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=1000, description="Entries of a page")]
Offset: TypeAlias = Annotated[int, QueryParameter(ge=0, le=1_000_000, description="Entries to skip")]
Before: TypeAlias = Annotated[UUID | None, QueryParameter(description="`next` of the page before")]
OfAccount: TypeAlias = Annotated[UUID | None, QueryParameter(name="platformId", description="Only this account")]
StartDate: TypeAlias = Annotated[
    str | None, QueryParameter(name="startDate", description="Not before this ISO 8601 time")
]
EndDate: TypeAlias = Annotated[str | None, QueryParameter(name="endDate", description="Not after this ISO 8601 time")]


AccountEmail: TypeAlias = Annotated[str, msgspec.Meta(min_length=3, max_length=320, description="an e-mail address")]
"""Of a person who signs in."""


def each_one_of(names: Iterable[str]) -> dict[str, Any]:
    """The `extra_json_schema` of a list of such names: Litestar tells of no rules that are inside of a list."""
    return {"extra": {"items": Schema(type=OpenAPIType.STRING, enum=list(names))}}


class PauseRequest(Wire):
    """Why; it is shown where the pause is."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REASON)] | None = None


def read_moment(name: str, pointer: str, text: str | None) -> datetime | None:
    """An ISO 8601 time; one without an offset is UTC. Raises InvalidInputError."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        error = FieldError(pointer, f"{name} must be an ISO 8601 time such as 2030-01-31T12:00:00Z{not_this(text)}")
        raise InvalidInputError.of([error]) from None


def read_object(name: str, given: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """An object that a caller keeps; compatible clients send one as JSON in a string. Raises InvalidInputError."""
    if given is None:
        return None
    try:
        found = msgspec.json.decode(given, type=dict[str, Any]) if isinstance(given, str) else given
    except (msgspec.DecodeError, RecursionError):
        error = FieldError(f"/{name}", f"{name} must be an object, or one as JSON text")
        raise InvalidInputError.of([error]) from None
    if isinstance(given, str) and nul_characters(found):
        raise InvalidInputError.of([FieldError(f"/{name}", f"{name} must not hold the character U+0000")])
    return require_small(name, found)


def require_small(name: str, document: T) -> T:
    """What a caller keeps, unless it is too much. Raises InvalidInputError."""
    size = len(msgspec.json.encode(document))
    if size > LARGEST_DOCUMENT:
        problem = f"{name} must be at most {LARGEST_DOCUMENT} bytes of JSON, not {size}"
        raise InvalidInputError.of([FieldError(f"/{name}", problem)])
    return document


def refuse_nul(path: str, query: bytes) -> None:
    """Raise InvalidInputError for an address with U+0000, which PostgreSQL takes nowhere, not even to compare."""
    if "\0" in path:
        raise InvalidInputError("the path must not hold the character U+0000")
    for parameter in query.split(b"&") if b"%00" in query else ():
        if b"%00" in parameter:
            name = parameter.partition(b"=")[0].decode("ascii", "replace")[:64]
            error = FieldError(f"/query/{name}", f"{name} must not hold the character U+0000")
            raise InvalidInputError.of([error])

"""Request bodies: JSON, decoded once and strictly into the handler's struct."""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Any, Final, TypeVar, cast

import msgspec
from litestar.connection import ASGIConnection
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from msgcore.api.explain import nul_characters, undecodable, wrong_fields
from msgcore.core.errors import InvalidInputError, UnsupportedCodingError

T = TypeVar("T")

LARGE: Final = 1024 * 1024
"""Bytes from which a body is looked at before it is decoded, and not explained field by field."""

MOST_PARTS: Final = 200_000
"""Lists and objects in a large body: three bytes of JSON are sixty in memory."""


class BodyDto(AbstractDTO[T]):
    """Litestar's hook for decoding bodies, set for the whole app.

    Litestar itself would decode to plain objects first and then convert leniently (`"1"` to 1).
    """

    __slots__ = ()

    def decode_bytes(self, value: bytes) -> Any:
        """The struct. Raises InvalidInputError with every wrong field."""
        connection = cast("ASGIConnection[HTTPRouteHandler, Any, Any, Any]", self.asgi_connection)
        refuse_coded(connection.headers.get("content-encoding"))
        # A browser asks for leave before it sends JSON for another site's page, but not before what has no type.
        untyped = "application/json" if "origin" not in connection.headers else "nothing that is named"
        media_type = connection.headers.get("content-type", untyped)
        if not _is_json(media_type):
            raise InvalidInputError(
                f"the body must be JSON, not {media_type[:100]}: send Content-Type: application/json"
            )
        expected: type[Any] = connection.route_handler.parsed_fn_signature.parameters["data"].annotation
        return decode_body(value, expected)

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Nothing to prepare: structs decode themselves."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any
    ) -> Reference | Schema:
        """The struct's own schema."""
        del handler_id
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """No transfer model is made."""
        del model_type
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """No transfer model is made."""
        del field_definition
        return False


def refuse_coded(coding: str | None) -> None:
    """Raise UnsupportedCodingError for a body that has to be unpacked: a few bytes of it can become any number."""
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        raise UnsupportedCodingError(
            f"the body must not be compressed (Content-Encoding: {coding[:50]}): send it as it is"
        )


def decode_body(body: bytes, expected: type[T]) -> T:
    """Decode a JSON body. Raises InvalidInputError with every wrong field."""
    refuse_crowded(body)
    try:
        decoded: T = _decoder(expected).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(body, expected, error) from None
    # NUL can only come as an escape; looking for that first costs nothing.
    if b"\\u0000" in body and (errors := nul_characters(msgspec.json.decode(body))):
        raise InvalidInputError.of(errors)
    return decoded


def refuse_crowded(body: bytes) -> None:
    """Raise InvalidInputError for a large body of very many parts; brackets in its texts count too."""
    if len(body) > LARGE and body.count(b"[") + body.count(b"{") > MOST_PARTS:
        raise InvalidInputError(f"the body has more than {MOST_PARTS} lists and objects: send it in several requests")


def _explained(body: bytes, expected: type, error: Exception) -> InvalidInputError:
    if not isinstance(error, msgspec.ValidationError):
        return InvalidInputError(undecodable(error))
    if len(body) > 2 * LARGE:
        return InvalidInputError(f"the body is not allowed: {error}")
    try:
        errors = wrong_fields(msgspec.json.decode(body), expected)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as deeper:
        return InvalidInputError(undecodable(deeper))
    return InvalidInputError.of(errors) if errors else InvalidInputError(f"the body is not allowed: {error}")


def _is_json(media_type: str) -> bool:
    essence = media_type.partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")


@cache
def _decoder(expected: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(expected)

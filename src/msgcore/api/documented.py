"""What handlers tell the OpenAPI document beside what their signatures do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, cast

from litestar.openapi.datastructures import ResponseSpec

from msgcore.api.errors import Problem

_AUDIT: Final = ("text/csv", {"type": "string"})
_SECOND_TYPES: Final = {
    "/api/v1/projects/{project}/events": ("text/event-stream", {"type": "string"}),
    "/api/v1/projects/{project}/audit/export": _AUDIT,
    "/api/v1/audit/export": _AUDIT,
}
"""Media types, with their schemas, in which answers to GET come as well."""


def problems(*statuses: HTTPStatus) -> dict[int, ResponseSpec]:
    """The `responses` of a handler that answers these errors too, beside those that all of its kind do."""
    return {
        status.value: ResponseSpec(Problem, generate_examples=False, description=status.phrase) for status in statuses
    }


def answered(content: Any, media_type: str = "application/json", *, status: int = 200) -> dict[int, ResponseSpec]:
    """The `responses` of a handler whose signature does not tell what it answers."""
    spec = ResponseSpec(content, generate_examples=False, media_type=media_type, description=HTTPStatus(status).phrase)
    return {status: spec}


def add_second_types(paths: dict[str, Any]) -> None:
    """Add the media types that a `ResponseSpec`, which has one, cannot tell. Raises KeyError for an unknown path."""
    for path, (media_type, schema) in _SECOND_TYPES.items():
        paths[path]["get"]["responses"]["200"]["content"][media_type] = {"schema": schema}


def close_bodies(document: dict[str, Any]) -> None:
    """Say of what requests consist of that other fields than those are refused (`core.content.Wire`)."""
    schemas: dict[str, Any] = document["components"]["schemas"]
    bodies = [
        operation["requestBody"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    ]
    reached: set[str] = set()
    names = _references(bodies)
    while names:
        reached |= names
        names = _references([schemas[name] for name in names]) - reached
    for name in reached:
        if "properties" in schemas[name]:
            schemas[name].setdefault("additionalProperties", False)


def _references(found: Any) -> set[str]:
    """The names of the schemas that something refers to."""
    match found:
        case {"$ref": str(reference)}:
            return {reference.rpartition("/")[2]}
        case dict():
            return _references(list(cast("dict[str, Any]", found).values()))
        case list():
            return {name for each in cast("list[Any]", found) for name in _references(each)}
        case _:
            return set()

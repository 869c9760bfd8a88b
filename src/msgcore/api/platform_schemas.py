"""Platforms in the OpenAPI document: the credentials of each, and what it takes in `content.platformOptions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from msgcore.platforms.fact_sheet import FactSheet

_COMPONENTS = "#/components/schemas"


def add_platforms(schemas: dict[str, Any], sheets: Sequence[FactSheet]) -> None:
    """Add the platforms' schemas to those of a document, and name them where an account and a message are described."""
    accounts: list[dict[str, Any]] = []
    options: dict[str, Any] = {}
    for sheet in sheets:
        name, prefix = sheet.declaration.name, _pascal(sheet.declaration.name)
        schemas[f"{prefix}Credentials"] = {"title": f"{prefix}Credentials", **sheet.credentials_schema}
        credentials = {"$ref": f"{_COMPONENTS}/{prefix}Credentials"}
        accounts.append({"title": name, "properties": {"platform": {"const": name}, "credentials": credentials}})
        if sheet.options_schema is not None:
            parts = dict(sheet.options_schema)
            schemas |= {f"{prefix}{part}": _moved(schema, prefix) for part, schema in parts.pop("$defs", {}).items()}
            schemas[f"{prefix}Options"] = _moved(parts, prefix) | {"title": f"{prefix}Options"}
            options[name] = {"$ref": f"{_COMPONENTS}/{prefix}Options"}
    schemas["CreatePlatform"]["oneOf"] = accounts
    schemas["Content"]["properties"]["platformOptions"] = {
        "type": ["object", "null"],
        "properties": options,
        "additionalProperties": {"type": "object"},
    }


def _pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def _moved(part: Any, prefix: str) -> Any:
    """A schema whose parts stand among those of the document, with the platform's name before theirs."""
    if isinstance(part, list):
        return [_moved(each, prefix) for each in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    given = cast("dict[str, Any]", part)
    moved = {name: _moved(value, prefix) for name, value in given.items()}
    reference = given.get("$ref")
    if isinstance(reference, str):
        moved["$ref"] = reference.replace("#/$defs/", f"{_COMPONENTS}/{prefix}")
    return moved

"""JSON Schemas (2020-12) of what an account and a message of a platform are configured with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from msgcore.platforms.base import CredentialField


def credentials_schema(fields: Sequence[CredentialField]) -> dict[str, Any]:
    """The schema of an account's credentials. What `check_credentials` of an adapter asks beyond it stands in words."""
    return {
        "type": "object",
        "properties": {field.name: _property(field) for field in fields},
        "required": [field.name for field in fields if field.required and field.default is None],
        "additionalProperties": False,
    }


def _property(field: CredentialField) -> dict[str, Any]:
    told = {
        "type": field.kind,
        "description": field.description,
        "default": field.default,
        "examples": None if field.example is None else [field.example],
        "minimum": field.minimum,
        "maximum": field.maximum,
        "writeOnly": True if field.secret else None,
    }
    if field.kind == "string":
        told["minLength"] = 1 if field.required else None
        told["maxLength"] = field.max_length
        told["pattern"] = None if field.pattern is None else f"^(?:{field.pattern})$"
    return {name: value for name, value in told.items() if value is not None}


def options_schema(options: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of `content.platformOptions` of a platform, with what it refers to under `$defs`."""
    (whole,), parts = msgspec.json.schema_components((options,), ref_template="#/$defs/{name}")
    name = str(whole["$ref"]).rpartition("/")[2]
    own = parts.pop(name)
    return own | ({"$defs": parts} if parts else {})

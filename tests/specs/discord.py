"""Compares requests with the published description of Discord's API (`discord-api.json`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jsonschema_rs
import msgspec

SPEC: dict[str, Any] = msgspec.json.decode(Path(__file__).with_name("discord-api.json").read_bytes())
TEXT = 2000
"""Characters of a message for bots (resources/message#create-message); the description has what people may have."""


def _closed(schema: Any) -> Any:
    """The same, without fields that it does not know: the description leaves all objects open."""
    if isinstance(schema, list):
        return [_closed(each) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    inner: dict[str, Any] = {name: _closed(each) for name, each in cast("dict[str, Any]", schema).items()}
    return inner | {"additionalProperties": False} if "properties" in inner else inner


_SCHEMAS = _closed(SPEC["components"]["schemas"])


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "([^/]+)", re.escape(path)))


def _operations() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    return [
        (method.upper(), _pattern(path), operation)
        for path, methods in SPEC["paths"].items()
        for method, operation in methods.items()
    ]


def _validator(schema: Any) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(
        {**_closed(schema), "components": {"schemas": _SCHEMAS}}, validate_formats=True, ignore_unknown_formats=True
    )


_OPERATIONS = _operations()
_BODIES = {
    operation["operationId"]: _validator(operation["requestBody"]["content"]["application/json"]["schema"])
    for _, _, operation in _OPERATIONS
    if "requestBody" in operation
}
_SNOWFLAKE = re.compile(_SCHEMAS["SnowflakeType"]["pattern"])


def check_request(method: str, path: str, body: Any, files: Mapping[str, bytes]) -> str:
    """The id of the operation that a request is; raises AssertionError where it is not as described."""
    for verb, pattern, operation in _OPERATIONS:
        found = pattern.fullmatch(path)
        if verb == method and found is not None:
            named = [each for each in operation["parameters"] if each["in"] == "path"]
            for given, each in zip(found.groups(), named, strict=True):
                is_id = each["schema"].get("$ref", "").endswith("SnowflakeType")
                assert not is_id or _SNOWFLAKE.fullmatch(given), (each["name"], given)
            check_body(operation["operationId"], body, files)
            return str(operation["operationId"])
    raise AssertionError(f"{method} {path} is not described")


def check_body(operation: str, body: Any, files: Mapping[str, bytes] = {}) -> None:
    """A body, and the files beside it, are as described. Raises AssertionError."""
    if operation not in _BODIES:
        assert body is None, operation
        return
    problems = [f"{error.instance_path}: {error.message}" for error in _BODIES[operation].iter_errors(body)]
    assert not problems, problems
    assert len(body.get("content") or "") <= TEXT
    # The attachment with the id n is files[n] (reference#uploading-files).
    ids = [each["id"] for each in body.get("attachments") or ()]
    assert [f"files[{id_}]" for id_ in ids] == list(files)
    if operation == "create_message":
        assert any(body.get(name) for name in ("content", "embeds", "components", "poll")) or files

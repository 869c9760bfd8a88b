"""Compares requests with the description of LINE's Messaging API (`line-messaging-api.json`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import msgspec

SPEC: dict[str, Any] = msgspec.json.decode(Path(__file__).with_name("line-messaging-api.json").read_bytes())
RETRY_KEY = "x-line-retry-key"


def check(method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
    """The name of an operation, which is as described. Raises AssertionError."""
    given = {name.lower(): value for name, value in headers.items()}
    name, operation = _operation(method, path)
    assert given["authorization"].startswith("Bearer ")
    described = {header.lower() for header in operation.get("headers", ())}
    assert {header for header in given if header.startswith("x-line-")} <= described, "LINE refuses others"
    if RETRY_KEY in given:
        assert given[RETRY_KEY] == str(UUID(given[RETRY_KEY]))
    if "body" not in operation:
        assert not body
        return name
    assert given["content-type"] == "application/json"
    whole = msgspec.json.decode(body)
    schema = {"$ref": f"#/$defs/{operation['body']}", "$defs": SPEC["$defs"]}
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    problems = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(whole)]
    assert not problems, problems
    _check_lengths(whole)
    return name


def _operation(method: str, path: str) -> tuple[str, dict[str, Any]]:
    for name, operation in SPEC["operations"].items():
        form = re.sub(r"\{\w+\}", "[^/]+", operation["path"])
        if operation["method"] == method and re.fullmatch(form, path):
            return name, operation
    raise AssertionError(f"{method} {path} is not described")


def _check_lengths(whole: Mapping[str, Any]) -> None:
    """JSON Schema counts code points, LINE the units of UTF-16."""
    for message in whole.get("messages", ()):
        assert len(message.get("text", "").encode("utf-16-le")) <= 2 * 5000
        assert all(len(message.get(name, "").encode("utf-16-le")) <= 2 * 100 for name in ("title", "address"))

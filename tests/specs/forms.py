"""Compares forms with the JSON Schema that a platform's OpenAPI document has for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jsonschema_rs
import msgspec

from servers.http_sink import Request


def load(name: str) -> dict[str, Any]:
    """A specification of this folder."""
    return msgspec.json.decode(Path(__file__).with_name(name).read_bytes())


def fields_of(request: Request) -> list[tuple[str, str]]:
    """The fields of a form that was sent."""
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    return parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)


def check_form(fields: list[tuple[str, str]], schema: Mapping[str, Any], **root: Any) -> dict[str, Any]:
    """The object that a form is, which has only known fields and is as described. Raises AssertionError."""
    given: dict[str, Any] = {}
    for name, text in fields:
        assert name in schema["properties"], f"{name} is not known"
        described = schema["properties"][name]
        if described.get("type") == "array":
            given.setdefault(name, []).append(text)
        else:
            assert name not in given, f"{name} is there twice"
            given[name] = _value(text, described.get("type"))
    validator = jsonschema_rs.validator_for({**schema, **root})
    problems = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(given)]
    assert not problems, problems
    return given


def _value(text: str, kind: str | None) -> Any:
    """Forms are text only: a number or a truth value is written as in JSON."""
    return msgspec.json.decode(text) if kind in ("integer", "number", "boolean") else text

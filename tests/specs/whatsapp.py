"""Compares requests with the descriptions of the two APIs for WhatsApp."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

_FOLDER = Path(__file__).parent
CLOUD: dict[str, Any] = msgspec.json.decode((_FOLDER / "whatsapp-cloud-api.json").read_bytes())
EVOLUTION: dict[str, Any] = msgspec.json.decode((_FOLDER / "evolution-api.json").read_bytes())


def check_message(body: dict[str, Any]) -> str:
    """The kind of a message of the Cloud API, which is as described. Raises AssertionError."""
    kind: str = body.get("type", "read")
    _check(CLOUD["messages"][kind] | {"$defs": CLOUD["$defs"]}, body)
    return kind


def check_upload(fields: Collection[str]) -> None:
    """A form of the Cloud API with these fields is as described. Raises AssertionError."""
    assert sorted(fields) == CLOUD["media"]


def check_evolution(operation: str, body: dict[str, Any]) -> None:
    """A request to the Evolution API is as described. Raises AssertionError."""
    _check(EVOLUTION[operation], body)


def _check(schema: dict[str, Any], body: dict[str, Any]) -> None:
    problems = [f"{error.instance_path}: {error.message}" for error in jsonschema_rs.iter_errors(schema, body)]
    assert not problems, problems

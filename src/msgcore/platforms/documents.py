"""Reading JSON whose shape nobody promises: what is not there, or is something else, is None.

A message that was taken must not be sent again because an answer has changed its shape.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec


def read_document(body: bytes | None) -> dict[str, Any] | None:
    """The object that a body is; an empty one where it holds nothing or something else, None where it is no JSON."""
    try:
        found: Any = msgspec.json.decode(body or b"{}")
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def find(document: Any, *path: str | int) -> Any:
    """What is at a place of a document: names of members, and numbers of items."""
    for step in path:
        if isinstance(step, str) and isinstance(document, dict):
            document = cast("dict[str, Any]", document).get(step)
        elif isinstance(step, int) and isinstance(document, list) and step < len(cast("list[Any]", document)):
            document = cast("list[Any]", document)[step]
        else:
            return None
    return document


def find_text(document: Any, *path: str | int) -> str | None:
    """The text or whole number at a place, as text; None for an empty one."""
    found = find(document, *path)
    is_text = isinstance(found, str | int) and not isinstance(found, bool)
    return (str(found) or None) if is_text else None


def find_objects(document: Any, *path: str | int) -> list[dict[str, Any]]:
    """The objects in the list at a place."""
    found = find(document, *path)
    items = cast("list[Any]", found) if isinstance(found, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]

"""Identifiers. Every id sorts by the time it was made (UUIDv7, RFC 9562 section 5.7)."""

from __future__ import annotations

import uuid
from datetime import datetime

from uuid_utils import uuid7


def new_id() -> str:
    """A new UUIDv7 in its canonical text form (36 characters, lower case)."""
    return str(uuid7())


def canonical_id(text: str) -> str | None:
    """The canonical form of a UUID that a caller wrote, or None if it is not one."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def earliest_id(moment: datetime) -> str:
    """The smallest UUIDv7 of a moment: ids made from then on are not below it."""
    milliseconds = int(moment.timestamp() * 1000)
    return str(uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62)))

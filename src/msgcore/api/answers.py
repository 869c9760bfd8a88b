"""What answers are made of."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

Timestamp: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"extra": {"format": "date-time"}})]
"""A moment as `core.clock.to_iso` writes it: ISO 8601, milliseconds, Z."""


class Answer(msgspec.Struct, rename="camel", kw_only=True):
    """Base of everything sent back: camelCase."""


class MessageAnswer(Answer):
    """Says what was done."""

    message: str


class Pagination(Answer):
    """Where a page stands in its list."""

    total: int
    limit: int
    offset: int
    has_more: bool

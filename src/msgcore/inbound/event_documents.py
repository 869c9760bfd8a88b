"""An event as subscribers get it, whichever way they get it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from msgcore.core.clock import to_iso
from msgcore.store.events import Event


class EventEntry(msgspec.Struct, kw_only=True):
    """One event, with names in snake_case; `id` is its place in the project's log."""

    id: int
    event: str
    timestamp: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    project_id: str
    data: Any


def entry_of(event: Event) -> EventEntry:
    """An event as subscribers get it."""
    return EventEntry(
        id=event.sequence,
        event=event.type,
        timestamp=to_iso(event.created_at),
        project_id=event.project_id,
        data=event.data,
    )

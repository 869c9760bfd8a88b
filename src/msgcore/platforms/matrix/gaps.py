"""What was left out of a room's timeline, because there was too much of it (`limited`).

The server only goes back (`/messages`), and events are wanted in their order. So the way back is walked once, and
then forth: of a long one the pages are asked for a second time, so that memory holds a few of them only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from msgcore.platforms.matrix.client import Fields, listed, mapping, text

KEPT_PAGES = 5
MOST_PAGES = 20_000
"""Of one gap: two million events."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events, the newest first, and the members that they are by; `end` is where the page before begins."""

    events: Sequence[Fields]
    members: Sequence[Fields]
    end: str = ""


Fetch = Callable[[str], Awaitable[Fields]]
"""The page that goes back from a token."""
IsStart = Callable[[Fields], bool]
"""Whether an event, and all before it, are from before we were there."""


async def pages_between(start: str, fetch: Fetch, is_start: IsStart) -> AsyncIterator[Page]:
    """The pages of a gap, the oldest first, each with its events in their order."""
    tokens = [start]
    kept: dict[int, Page] = {}
    while len(tokens) < MOST_PAGES:
        number = len(tokens) - 1
        kept[number] = page = await _page(tokens[-1], fetch, is_start)
        kept.pop(number - KEPT_PAGES, None)
        if not page.end or page.end == tokens[-1]:
            break
        tokens.append(page.end)
    for number in reversed(range(len(tokens))):
        page = kept.pop(number, None) or await _page(tokens[number], fetch, is_start)
        yield Page(page.events[::-1], page.members)


async def _page(token: str, fetch: Fetch, is_start: IsStart) -> Page:
    answer = await fetch(token)
    members = [mapping(event) for event in listed(answer.get("state"))]
    events: list[Fields] = []
    for event in map(mapping, listed(answer.get("chunk"))):
        if is_start(event):
            return Page(events, members)
        events.append(event)
    return Page(events, members, text(answer.get("end")))

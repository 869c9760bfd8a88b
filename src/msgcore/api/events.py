"""A project's events for subscribers that come and get them: a stream (SSE), or page by page with waiting."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from time import monotonic
from typing import Annotated, Any

import msgspec
from litestar import Controller, MediaType, Response, get
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.response import Stream

from msgcore.api.access import ApiRequest, Injected, requires
from msgcore.api.documented import answered
from msgcore.api.stalled import letting_go
from msgcore.core.errors import FieldError, InvalidInputError, ProblemError, TooManyStreamsError
from msgcore.core.ids import canonical_id
from msgcore.core.scopes import ApiScope, Principal
from msgcore.inbound.event_documents import EventEntry, entry_of
from msgcore.services.event_streams import EventFilter, EventStreamService, Start
from msgcore.store.events import Event

STREAM = "text/event-stream"
RECONNECT_MILLISECONDS = 2000
IDLE_SECONDS = 5.0
"""After which a stream says that it is still there: proxies cut silent ones off, mostly after 30 or 60 s."""
PIECE = 64 * 1024
"""Bytes that are sent at once, so that a slow client is not taken for one that reads nothing."""
ASK_SECONDS = 2.0
"""How long a stream may go on for whoever lost the right to read."""

After = Annotated[
    int | None,
    QueryParameter(ge=0, description="Only events after the one with this id; 0 for all that are kept. Else new ones"),
]
Types = Annotated[
    str | None,
    QueryParameter(max_length=1024, description="Only of these types, separated by commas: message.received,..."),
]
OfPlatform = Annotated[
    str | None, QueryParameter(name="platformId", max_length=64, description="Only of this configured platform")
]
OfChat = Annotated[str | None, QueryParameter(name="chatId", max_length=255, description="Only of this chat")]
Wait = Annotated[int, QueryParameter(ge=0, le=60, description="Seconds to wait when there are none yet")]
PageSize = Annotated[int, QueryParameter(ge=1, le=200, description="Events of a page")]
LastEventId = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", description="What EventSource sends when it comes again")
]


class EventsAnswer(msgspec.Struct, kw_only=True):
    """A page of events, oldest first. Ask again with `after` = `next`."""

    events: list[EventEntry]
    next: int


class EventsController(Controller):
    """Events."""

    path = "/api/v1/projects/{project:str}/events"
    tags = ("Events",)

    @get(
        "/",
        opt=requires(ApiScope.MESSAGES_READ),
        middleware=[letting_go],
        summary="Follow events",
        responses=answered(EventsAnswer),
    )
    async def follow(
        self,
        request: ApiRequest,
        project: FromPath[str],
        event_streams: Injected[EventStreamService],
        after: After = None,
        types: Types = None,
        platform_id: OfPlatform = None,
        chat_id: OfChat = None,
        limit: PageSize = 100,
        wait: Wait = 0,
        last_event_id: LastEventId = None,
    ) -> Response[Any]:
        """In the order in which they happened.

        With `Accept: text/event-stream` a stream without end, which resumes after `Last-Event-ID`. Else a page, for
        which `wait` lets the server hold the request until there is something (long polling).
        """
        wanted = _filter(project, types, platform_id, chat_id)
        start = await event_streams.start_of(wanted, after if last_event_id is None else _place(last_event_id))
        event_streams.require_room(project)
        if STREAM in request.headers.get("accept", ""):
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return Stream(
                _stream(event_streams, wanted, start, request.scope["auth"]), media_type=STREAM, headers=headers
            )
        with event_streams.counted("poll", project):
            page = await event_streams.page(wanted, start, limit=limit, seconds=wait)
        return Response(
            EventsAnswer(events=[entry_of(event) for event in page.events], next=page.last), media_type=MediaType.JSON
        )


async def _stream(
    event_streams: EventStreamService, wanted: EventFilter, start: Start, ask_access: Callable[[], Awaitable[Principal]]
) -> AsyncGenerator[bytes]:
    """Source: HTML Living Standard, "Server-sent events", section 9.2.6 (interpreting an event stream).

    Ends when the caller may no longer read, by a key that was revoked, say: coming again is then refused.
    """
    yield b"retry: %d\n\n" % RECONNECT_MILLISECONDS
    asked = monotonic()
    with suppress(TooManyStreamsError), event_streams.counted("sse", wanted.project_id):  # others came at the same time
        async with aclosing(event_streams.follow(wanted, start, idle=IDLE_SECONDS)) as pages:
            async for page in pages:
                if monotonic() - asked >= ASK_SECONDS:
                    asked = monotonic()
                    try:
                        await ask_access()
                    except ProblemError:
                        return
                text = b"".join(map(_block, page.events)) or b": still here\n\n"
                for at in range(0, len(text), PIECE):
                    yield text[at : at + PIECE]


def _block(event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.sequence,
        event.type.encode(),
        msgspec.json.encode(entry_of(event)),
    )


def _filter(project: str, types: str | None, platform_id: str | None, chat_id: str | None) -> EventFilter:
    chosen = tuple(name.strip() for name in types.split(",") if name.strip()) if types else ()
    return EventFilter(
        project,
        types=chosen,
        platform_id=(canonical_id(platform_id) or platform_id) if platform_id else "",
        chat_id=chat_id or "",
    )


def _place(last_event_id: str) -> int | None:
    """The place that a client saw last; an empty one is none (it saw nothing)."""
    if not last_event_id:
        return None
    if not (last_event_id.isascii() and last_event_id.isdigit()) or len(last_event_id) > 18:  # noqa: PLR2004 - 64 bits
        raise InvalidInputError.of(
            [FieldError("/headers/Last-Event-ID", "Last-Event-ID must be the id of an event, a whole number")]
        )
    return int(last_event_id)

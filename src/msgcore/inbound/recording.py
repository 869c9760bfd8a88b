"""What stored requests tell, and writing it down: messages, reactions, chats, and the events of it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import Connection

from msgcore.core.envelope import Command, Deletion, Edit, Message, Reaction
from msgcore.core.ids import new_id
from msgcore.inbound.translation import (
    Occurrence,
    chat_rows,
    deletion_row,
    edit_row,
    event_of,
    file_rows,
    message_row,
    reaction_row,
    subject_of,
)
from msgcore.platforms.base import Account
from msgcore.platforms.receiving import Inbound, InboundRequest, UnreadableError
from msgcore.store import inbound as store
from msgcore.store.events import append
from msgcore.store.inbound import RawRequest

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """A stored request, and what it tells; or why it cannot be read."""

    number: int
    request: RawRequest
    occurrences: Sequence[Occurrence] = ()
    error: str | None = None


def read(inbound: Inbound, account: Account, requests: Sequence[tuple[int, RawRequest]]) -> list[Reading]:
    """What requests of one platform tell. Never raises; touches nothing but its arguments."""
    return [_read_one(inbound, account, number, request) for number, request in requests]


def record(connection: Connection, platform_id: str, readings: Sequence[Reading], now: datetime) -> None:
    """Write down what requests of one platform tell, as far as nobody has yet, and forget the requests."""
    waiting = store.hold(connection, platform_id, [reading.number for reading in readings])
    mine = [reading for reading in readings if reading.number in waiting]
    for reading in mine:
        if reading.error is not None:
            _set_aside(connection, reading.number, reading.request, reading.error, now)
    done = [reading for reading in mine if reading.error is None]
    found = [occurrence for reading in done for occurrence in reading.occurrences]
    first_time = store.unseen(connection, platform_id, [each.envelope.event_id for each in found], now)
    fresh = _without_known_messages(connection, platform_id, _first_of_each(found, first_time))
    if fresh:
        _keep(connection, platform_id, fresh)
    store.finish(connection, platform_id, [reading.number for reading in done])


def _read_one(inbound: Inbound, account: Account, number: int, request: RawRequest) -> Reading:
    try:
        came = InboundRequest("POST", request.headers, request.query, request.body, request.received_at)
        return Reading(number, request, [Occurrence.of(request, each) for each in inbound.read(account, came)])
    except (UnreadableError, ValueError) as error:
        return Reading(number, request, error=str(error))
    except Exception as error:  # a reader's bug holds nobody else back
        log.exception("inbound_unreadable", platform=request.platform, platform_id=request.platform_id)
        return Reading(number, request, error=f"the reader failed ({type(error).__name__})")


def _without_known_messages(connection: Connection, platform_id: str, found: list[Occurrence]) -> list[Occurrence]:
    """Without messages that are stored already: sent again under another id, or after the first was long forgotten."""
    written = {id_ for each in found if (id_ := _written_id(each)) is not None}
    known = store.message_ids(connection, platform_id, sorted(written)) if written else {}
    left = written - known.keys()
    fresh: list[Occurrence] = []
    for each in found:
        id_ = _written_id(each)
        if id_ is None or id_ in left:
            left.discard(id_ or "")
            fresh.append(each)
    return fresh


def _written_id(found: Occurrence) -> str | None:
    content = found.envelope.content
    return content.id if isinstance(content, Message | Command) else None


def _keep(connection: Connection, platform_id: str, found: Sequence[Occurrence]) -> None:
    contents = [(each, each.envelope.content) for each in found]
    written = [each for each, content in contents if isinstance(content, Message | Command)]
    files = [row for each in written for row in file_rows(each)]
    store.keep_messages(connection, [message_row(each) for each in written], files)
    known = {id_: each.id for each in written if (id_ := _written_id(each)) is not None}
    others = {subject for _, content in contents if (subject := subject_of(content)) is not None} - known.keys()
    if others:
        known |= store.message_ids(connection, platform_id, sorted(others))
    edits = [(each, what) for each, what in contents if isinstance(what, Edit) and what.id in known]
    store.edit_messages(connection, [edit_row(each, edit, known[edit.id]) for each, edit in edits])
    deletions = [(each, what) for each, what in contents if isinstance(what, Deletion) and what.id in known]
    store.take_back_messages(connection, [deletion_row(each, known[what.id]) for each, what in deletions])
    reactions = [reaction_row(each, what) for each, what in contents if isinstance(what, Reaction)]
    store.keep_reactions(connection, reactions)
    store.touch_chats(connection, chat_rows(found))
    append(connection, [event_of(each, known) for each in found])


def _set_aside(connection: Connection, number: int, request: RawRequest, error: str, now: datetime) -> None:
    store.set_aside(connection, number, error, now)
    line = {
        "id": new_id(),
        "project_id": request.project_id,
        "platform_id": request.platform_id,
        "platform": request.platform,
        "level": "error",
        "category": "webhook",
        "message": "A request could not be read",
        "metadata": {"requestId": request.id},
        "error": error,
        "timestamp": now,
    }
    store.log(connection, [line])


def _first_of_each(found: Sequence[Occurrence], wanted: set[str]) -> list[Occurrence]:
    """Those with a wanted id of the platform, each id once."""
    left = set(wanted)
    fresh: list[Occurrence] = []
    for each in found:
        if each.envelope.event_id in left:
            left.discard(each.envelope.event_id)
            fresh.append(each)
    return fresh

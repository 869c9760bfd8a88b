"""What stored requests tell, and writing it down: messages, reactions, chats, and the events of it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec
import structlog
from sqlalchemy import Connection

from msgcore.core.envelope import Click, Command, Deletion, Edit, Envelope, Message, Reaction, Receipt
from msgcore.core.ids import new_id
from msgcore.core.stop_words import Wish
from msgcore.inbound.answers import number_of, presses
from msgcore.inbound.people import heed, identify, wished
from msgcore.inbound.translation import (
    Occurrence,
    chat_rows,
    deletion_row,
    edit_row,
    event_of,
    file_lines,
    file_rows,
    message_row,
    plain,
    reaction_row,
    receipt_of,
    subject_of,
)
from msgcore.platforms.base import Account, PlatformAdapter
from msgcore.platforms.receiving import Inbound, InboundRequest, UnreadableError
from msgcore.store import inbound as store
from msgcore.store.events import NewEvent, append
from msgcore.store.inbound import RawRequest
from msgcore.store.ledger import receipts as ledger

log = structlog.stdlib.get_logger(__name__)

LONGEST_REASON = 1000
"""Characters of why a request cannot be read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A stored request, and what it tells; or why it cannot be read."""

    number: int
    request: RawRequest
    occurrences: Sequence[Occurrence] = ()
    error: str | None = None


def read(
    adapter: type[PlatformAdapter], inbound: Inbound, account: Account, requests: Sequence[tuple[int, RawRequest]]
) -> list[Reading]:
    """What requests of one platform tell. Never raises; touches nothing but its arguments."""
    return [_read_one(adapter, inbound, account, number, request) for number, request in requests]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was written down: how much of each kind (`duplicate`, `unreadable`), and how many events tell of it.

    `wishes` is how many people opted out and in again by it.
    """

    kinds: Counter[str]
    events: int
    wishes: Counter[Wish]


def record(
    connection: Connection,
    adapter: type[PlatformAdapter],
    platform_id: str,
    readings: Sequence[Reading],
    now: datetime,
) -> Recorded:
    """Write down what requests of one platform tell, as far as nobody has yet, and forget the requests."""
    waiting = store.hold(connection, platform_id, [reading.number for reading in readings])
    mine = [reading for reading in readings if (reading.number, reading.request.id) in waiting]
    for reading in mine:
        if reading.error is not None:
            _set_aside(connection, reading.number, reading.request, reading.error, now)
    done = [reading for reading in mine if reading.error is None]
    found = [occurrence for reading in done for occurrence in reading.occurrences]
    first_time = store.unseen(connection, platform_id, [each.envelope.event_id for each in found], now)
    fresh = _without_known_messages(connection, platform_id, _first_of_each(found, first_time))
    told, wishes = _keep(connection, adapter, platform_id, fresh, now) if fresh else (0, Counter[Wish]())
    store.finish(connection, platform_id, [reading.number for reading in done])
    kinds = Counter(str(each.envelope.content.__struct_config__.tag) for each in fresh)
    kinds["duplicate"], kinds["unreadable"] = len(found) - len(fresh), len(mine) - len(done)
    return Recorded(kinds, told, wishes)


def _read_one(
    adapter: type[PlatformAdapter], inbound: Inbound, account: Account, number: int, request: RawRequest
) -> Reading:
    try:
        came = InboundRequest("POST", request.headers, request.query, request.body, request.received_at)
        return Reading(number, request, _told_by(adapter, inbound, request, inbound.read(account, came)))
    except (UnreadableError, ValueError) as error:
        # It may repeat what it did not expect, however long that is, and whatever is in it.
        return Reading(number, request, error=(plain(str(error)) or "")[:LONGEST_REASON])
    except Exception as error:  # a reader's bug holds nobody else back
        log.exception("inbound_unreadable", platform=request.platform, platform_id=request.platform_id)
        return Reading(number, request, error=f"the reader failed ({type(error).__name__})")


def _told_by(
    adapter: type[PlatformAdapter], inbound: Inbound, request: RawRequest, envelopes: Sequence[Envelope]
) -> list[Occurrence]:
    """What a request tells. What cannot be stored is left out, with a line in the log.

    Raises ValueError where that leaves nothing, so that the request is set aside.
    """
    told: list[Occurrence] = []
    reasons: list[ValueError] = []
    for envelope in envelopes:
        try:
            each = Occurrence.of(request, envelope)
        except ValueError as error:
            reasons.append(error)
            continue
        wish, answer = wished(adapter, inbound, each.envelope), number_of(inbound, each.envelope)
        told.append(each if wish is None and answer is None else replace(each, wished=wish, number=answer))
    if reasons and not told:
        raise reasons[0]
    for reason in reasons:
        why = str(reason)[:LONGEST_REASON]
        log.warning("inbound_item_skipped", platform_id=request.platform_id, platform=request.platform, reason=why)
    return told


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


def _keep(
    connection: Connection,
    adapter: type[PlatformAdapter],
    platform_id: str,
    found: Sequence[Occurrence],
    now: datetime,
) -> tuple[int, Counter[Wish]]:
    """Store what happened; how many events tell of it, and who opted out or in."""
    contents = [(each, each.envelope.content) for each in found]
    written = [each for each, content in contents if isinstance(content, Message | Command)]
    files = [row for each in written for row in file_rows(each)]
    store.keep_messages(connection, [message_row(each) for each in written], files)
    store.log(connection, [line for each in written for line in file_lines(each, now)])
    known = {id_: each.id for each in written if (id_ := _written_id(each)) is not None}
    others = {
        subject
        for _, content in contents
        if not isinstance(content, Receipt) and (subject := subject_of(content)) is not None
    } - known.keys()
    if others:
        known |= store.message_ids(connection, platform_id, sorted(others))
    edits = [(each, what) for each, what in contents if isinstance(what, Edit) and what.id in known]
    store.edit_messages(connection, [edit_row(each, edit, known[edit.id]) for each, edit in edits])
    deletions = [(each, what) for each, what in contents if isinstance(what, Deletion) and what.id in known]
    store.take_back_messages(connection, [deletion_row(each, known[what.id]) for each, what in deletions])
    reactions = [reaction_row(each, what) for each, what in contents if isinstance(what, Reaction)]
    store.keep_reactions(connection, reactions)
    store.touch_chats(connection, chat_rows(found))
    clicks = presses(connection, adapter, found)
    return _tell(connection, platform_id, [_as_click(each, clicks) for each in found], known, now)


def _as_click(found: Occurrence, clicks: Mapping[str, Click]) -> Occurrence:
    """A message that presses a button is kept as a message, and told as a click."""
    if found.id not in clicks:
        return found
    return replace(found, envelope=msgspec.structs.replace(found.envelope, content=clicks[found.id]))


def _tell(
    connection: Connection, platform_id: str, found: Sequence[Occurrence], known: Mapping[str, str], now: datetime
) -> tuple[int, Counter[Wish]]:
    """Find out who wrote, and append the events of it all."""
    people = identify(connection, found, now)
    wishes = heed(connection, found, people.identities)
    # Deliveries, then counts, then the log: as who sends locks them.
    receipts = _take_receipts(connection, platform_id, found, people.identities, now)
    told: list[NewEvent] = [*people.events]
    for each in _told(found, receipts):
        told.append(receipts[each.id] if each.id in receipts else event_of(each, known, people.identities))
        if (wish := wishes.events.get(each.id)) is not None:
            told.append(wish)
    append(connection, told)
    return len(told), wishes.counts


def _take_receipts(
    connection: Connection,
    platform_id: str,
    found: Sequence[Occurrence],
    identities: Mapping[str, str],
    now: datetime,
) -> dict[str, NewEvent]:
    """Change what receipts are about; their events by their ids, of those that tell something new."""
    contents = [(each, each.envelope.content) for each in found]
    receipts = [receipt_of(each, what, identities) for each, what in contents if isinstance(what, Receipt)]
    if not receipts:
        return {}
    taken = ledger.take(connection, platform_id, receipts, now)
    ledger.keep(connection, taken.waiting)
    return taken.events


def _told(found: Sequence[Occurrence], receipts: Mapping[str, NewEvent]) -> list[Occurrence]:
    """Those that there is an event of now."""
    return [each for each in found if each.id in receipts or not isinstance(each.envelope.content, Receipt)]


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

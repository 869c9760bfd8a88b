"""Who is behind what happened: identities, accounts that are linked to one by e-mail, and who opted out or in again.

All of it is written in the transaction of what was read, with a query or two for a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from msgcore.core.clock import to_iso
from msgcore.core.envelope import Envelope
from msgcore.core.events import EventType
from msgcore.core.ids import new_id
from msgcore.core.stop_words import Wish
from msgcore.inbound.translation import Occurrence, Wished, plain
from msgcore.platforms.base import PlatformAdapter
from msgcore.platforms.receiving import Inbound
from msgcore.store import opt_outs
from msgcore.store.events import NewEvent
from msgcore.store.linking import find_by_email, find_identities, link
from msgcore.store.opt_outs import OptOut


def wished(adapter: type[PlatformAdapter], inbound: Inbound, envelope: Envelope) -> Wished | None:
    """What the author of an envelope asks for by a stop word, if anything.

    Only in a direct chat: in a group it is said to others.
    """
    words, author = adapter.declaration.stop_words, envelope.author
    if words is None or author is None or author.is_bot or envelope.chat.type != "user":
        return None
    found = words.wish(inbound.said(envelope), proven=author.email is not None)
    return None if found is None else Wished(found[0], found[1], adapter.declaration.user_key(author.id))


# --- identities


@dataclass(frozen=True, slots=True)
class Known:
    """The identities of authors, by the platform's id of them, and the events of those that were linked just now."""

    identities: Mapping[str, str]
    events: Sequence[NewEvent] = ()


def identify(connection: Connection, found: Sequence[Occurrence], now: datetime) -> Known:
    """Whose the authors' accounts are; those that are nobody's are linked where their e-mail names one identity."""
    authors = {each.envelope.author.id for each in found if each.envelope.author is not None}
    if not authors:
        return Known({})
    known = find_identities(connection, found[0].request.platform_id, authors)
    vouched = {author.id: each for each in found if (author := each.envelope.author) is not None and author.email}
    emails = {id_: _email(each) for id_, each in vouched.items() if id_ not in known}
    if not emails:
        return Known(known)
    owners = find_by_email(connection, found[0].request.project_id, set(emails.values()))
    rows = [_alias(vouched[id_], owners[email], now) for id_, email in emails.items() if email in owners]
    linked = link(connection, rows)
    made = {row["provider_user_id"]: row["identity_id"] for row in linked}
    return Known(known | made, [_linked_event(vouched[row["provider_user_id"]], row) for row in linked])


def _email(found: Occurrence) -> str:
    """As identities have it."""
    author = found.envelope.author
    return (plain(author and author.email) or "").strip().lower()


def _alias(found: Occurrence, identity_id: str, now: datetime) -> dict[str, Any]:
    request, author = found.request, found.envelope.author
    return {
        "id": new_id(),
        "identity_id": identity_id,
        "project_id": request.project_id,
        "platform_id": request.platform_id,
        "platform": request.platform,
        "provider_user_id": author and author.id,
        "provider_user_display": author and plain(author.name or author.username),
        "link_method": "email",
        "linked_at": now,
    }


def _linked_event(found: Occurrence, row: Mapping[str, Any]) -> NewEvent:
    names = ("identity_id", "platform", "platform_id", "link_method")
    data = {name: row[name] for name in names} | {
        "alias_id": row["id"],
        "user_id": row["provider_user_id"],
        "user_display": row["provider_user_display"],
        "linked_at": to_iso(row["linked_at"]),
    }
    return NewEvent(
        row["project_id"], EventType.IDENTITY_LINKED, data, found.request.received_at, found.request.platform_id
    )


# --- opting out and in


@dataclass(slots=True)
class Wishes:
    """What changed by stop words: the events, by the id of the occurrence that they follow, and how many of each."""

    events: dict[str, NewEvent] = field(default_factory=dict[str, NewEvent])
    counts: Counter[Wish] = field(default_factory=Counter[Wish])


def heed(connection: Connection, found: Iterable[Occurrence], identities: Mapping[str, str]) -> Wishes:
    """Write down who opted out and in again, in the order in which they said so. What changes nothing is no event."""
    asking = [(each, each.wished) for each in found if each.wished is not None]
    wishes = Wishes()
    if not asking:
        return wishes
    before = opt_outs.find_users(connection, asking[0][0].request.platform_id, {wished.user for _, wished in asking})
    after: dict[str, OptOut] = dict(before)
    for each, wished in asking:
        is_out = wished.user in after
        if is_out is (wished.wish is Wish.OUT):
            continue
        if wished.wish is Wish.OUT:
            after[wished.user] = _opt_out(each, wished)
        else:
            del after[wished.user]
        wishes.counts[wished.wish] += 1
        wishes.events[each.id] = _wish_event(each, wished, identities)
    opt_outs.change(
        connection,
        added=[each for user, each in after.items() if before.get(user) is not each],
        removed=[each for user, each in before.items() if after.get(user) is not each],
    )
    return wishes


def _opt_out(found: Occurrence, wished: Wished) -> OptOut:
    request = found.request
    return OptOut(
        id=new_id(),
        project_id=request.project_id,
        platform_id=request.platform_id,
        platform=request.platform,
        provider_user_id=wished.user,
        provider_chat_id=found.envelope.chat.id,
        opted_out_at=found.at,
        word=wished.word,
    )


def _wish_event(found: Occurrence, wished: Wished, identities: Mapping[str, str]) -> NewEvent:
    request, author = found.request, found.envelope.author
    moment, kind = (
        ("opted_out_at", EventType.CONTACT_OPTED_OUT)
        if wished.wish is Wish.OUT
        else ("opted_in_at", EventType.CONTACT_OPTED_IN)
    )
    data = {
        "platform": request.platform,
        "platform_id": request.platform_id,
        "chat_id": found.envelope.chat.id,
        "user_id": wished.user,
        "user_display": author and (author.name or author.username),
        "identity_id": author and identities.get(author.id),
        "word": wished.word,
        moment: to_iso(found.at),
    }
    return NewEvent(request.project_id, kind, data, request.received_at, request.platform_id)
